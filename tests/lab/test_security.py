from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import lab
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.core.certificates import development_certificate
from amlrealtimeai.lab import check, security
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.server import Server

RIGHT = ["hand out secondary", "regenerate primary", "hand out primary", "regenerate secondary"]


def diagnose(text: str) -> str:
    for sign, name in (
        ("not trusted", "untrusted"),
        ("another name", "wrong name"),
        ("wants TLS", "client without TLS"),
        ("does not speak TLS", "server without TLS"),
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


def test_certificate_names() -> None:
    assert check.certificate_names(development_certificate(["localhost", "127.0.0.1"]).certificate).passed
    assert "in place of None" in check.certificate_names(None).text
    assert "PEM text" in check.certificate_names(["127.0.0.1"]).text
    assert "not for 127.0.0.1" in check.certificate_names(development_certificate(["localhost"]).certificate).text
    assert "not for localhost" in check.certificate_names(development_certificate(["127.0.0.1"]).certificate).text


def test_the_solution_of_the_diagnosis_passes() -> None:
    assert check.diagnosis(diagnose).passed


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda text: ..., "in place of None"),
        (lambda text: None, "in place of None"),
        (lambda text: "broken", "the failures are called untrusted, wrong name"),
        (lambda text: "untrusted", "is 'wrong name', not 'untrusted'"),
        (lambda text: text[99999], "IndexError"),
    ],
)
def test_wrong_diagnoses(function: object, said: str) -> None:
    verdict = check.diagnosis(function)
    assert not verdict.passed and said in verdict.text


@pytest.mark.parametrize(
    ("answer", "passed", "said"),
    [
        (RIGHT, True, "both are new"),
        (None, False, "in place of None"),
        (RIGHT[:3], False, "each of these once"),
        (["regenerate primary", *RIGHT[:1], *RIGHT[2:]], False, "clients still use the primary key"),
        ([RIGHT[0], RIGHT[1], RIGHT[3], RIGHT[2]], False, "clients still use the secondary key"),
        ([RIGHT[0], RIGHT[2], RIGHT[1], RIGHT[3]], False, "clients still use the primary key"),
        ([RIGHT[0], RIGHT[2], RIGHT[3], RIGHT[1]], False, "clients still use the primary key"),
    ],
)
def test_rotation(answer: list[str] | None, passed: bool, said: str) -> None:
    verdict = check.rotation(answer)
    assert verdict.passed is passed and said in verdict.text, verdict
