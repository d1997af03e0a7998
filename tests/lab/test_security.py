import threading
import time
from pathlib import Path

import numpy as np

from amlrealtimeai import lab
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.lab import security
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.server import Server

RIGHT = ["hand out secondary", "regenerate primary", "hand out primary", "regenerate secondary"]


def diagnose(text: str) -> str:
    for sign, name in (
        ("not trusted", "untrusted"),
        ("another name", "wrong name"),
        ("wants TLS", "client without TLS"),
        ("does not speak TLS", "server without TLS"),
        ("expired", "expired"),
    ):
        if sign in text:
            return name
    return "wrong key"


def test_the_small_model_answers_with_the_mean_colour(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (300, 280), (10, 20, 30)).save(tmp_path / "plain.png")
    model = ConvertedModel.load(security.small_model(tmp_path))
    images = np.array([(tmp_path / "plain.png").read_bytes()], object)
    colour = model.predict({"images": images}).outputs["output_alias"]
    np.testing.assert_allclose(colour, [[10, 20, 30]], atol=0.1)


def test_a_handshake_says_what_was_agreed() -> None:
    made = development_certificate(["localhost"])
    with Server(tls=Tls(made.certificate.encode(), made.key.encode())) as server:
        said = security.handshake("localhost", server.port, made.ca)
    assert said.startswith("TLSv1.3 with ") and said.endswith(
        "valid for localhost; signed by amlrealtimeai development CA"
    )


def test_keep_asking_counts() -> None:
    answers = iter(range(3))
    with lab.KeepAsking(lambda: next(answers)) as asking:
        pass
    assert asking.answers == 3 and asking.failures and repr(asking).startswith("3 answers, ")


def test_what_was_asked_before_is_answered_when_it_has_settled() -> None:
    valid, in_use, entered = {"old", "new"}, ["old"], threading.Event()

    def ask() -> None:
        key = in_use[0]
        entered.set()
        time.sleep(0.05)
        assert key in valid, f"{key} is refused"

    with lab.KeepAsking(ask) as asking:
        entered.wait()
        in_use[0] = "new"
        asking.settle()
        valid.remove("old")
    assert asking.failures == [] and asking.answers > 1
