"""Hostile requests and too many requests: a status for everyone, bounded memory, and the next good one answered."""

import threading
import time
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.server import Server
from tests.hardening import fuzz, soak
from tests.serving.conftest import channel_to, predict, refused, request_of
from tests.serving.models import arithmetic_model, encode, image_model, picture
from tests.serving.processes import service

PAIR = np.ones((1, 2), np.float32)


@pytest.mark.slow
def test_five_thousand_hostile_requests() -> None:
    assert soak.run(5_000, clients=3, seed=1) == []


@pytest.mark.parametrize(
    "image",
    [fuzz.bomb(12_000), fuzz.png_header(2**31 - 1, 2**31 - 1, 16, 6), fuzz.png_header(100_000, 1000, 1, 0)],
    ids=["144 M pixels in a few kilobytes", "the largest header", "wide"],
)
def test_a_decompression_bomb_is_refused_at_once(tmp_path: object, image: bytes) -> None:
    assert len(image) < 100_000
    with Server() as server, channel_to(server) as channel:
        server.add_model("means", ConvertedModel.load(image_model(tmp_path / "m.accelonnx")))
        start = time.monotonic()
        code, text = refused(lambda: predict(channel, request_of("means", images=np.array([image], object))))
        assert code == "INVALID_ARGUMENT" and "image 0 of 1" in text
        assert time.monotonic() - start < 1.0
        predict(channel, fuzz.GOOD)


def test_large_images_leave_no_memory_behind(tmp_path: Path) -> None:
    images = [encode(picture(side, 2_400), "JPEG") for side in range(1_000, 3_000, 250)]  # 7 to 20 MiB of pixels

    def send(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            for image in images:
                predict(channel, request_of(images=np.array([image], object)), timeout=20)

    with service(image_model(tmp_path / "m.accelonnx"), "--port", 0) as running:
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            predict(channel, request_of(images=np.array([fuzz.JPEG], object)))
        before = soak.resident(running.process.pid)
        threads = [threading.Thread(target=send, args=(running.port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = soak.resident(running.process.pid)
        assert after - before < 32


class Sleeping:
    """A stage that takes 20 ms without using a CPU."""

    kind = "npu"

    def __init__(self, stage: object) -> None:
        self.definition = stage.definition
        self._stage = stage

    def run(self, inputs: dict, outputs: list) -> dict:
        time.sleep(0.02)
        return self._stage.run(inputs, outputs)


def test_twice_the_capacity_loses_no_reply_and_keeps_the_queue_short(tmp_path: object) -> None:
    model = ConvertedModel.load(arithmetic_model(tmp_path / "m.accelonnx"), threads=1)
    model.stages[:] = [Sleeping(model.stages[0]), model.stages[1]]
    limits = Limits(workers=2, max_in_flight=8)  # 100 requests a second, at most 3 before one
    request = request_of(a=PAIR, b=PAIR).SerializeToString()
    codes: Counter[str] = Counter()
    seconds: list[float] = []
    most = 0
    with Server(limits=limits) as server, channel_to(server) as channel:
        server.add_model("m", model)
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        call(request)
        lock, answered = threading.Lock(), threading.Semaphore(0)

        def done(future: grpc.Future, start: float) -> None:
            with lock:
                codes[future.code().name] += 1
                if future.code() is grpc.StatusCode.OK:
                    seconds.append(time.monotonic() - start)
            answered.release()

        begin = time.monotonic()
        for i in range(800):  # 200 a second, whatever the answers do
            time.sleep(max(0.0, begin + i / 200 - time.monotonic()))
            start = time.monotonic()
            call.future(request, timeout=10).add_done_callback(lambda future, start=start: done(future, start))
            most = max(most, server._servicer.admission.in_flight)
        for _ in range(800):
            assert answered.acquire(timeout=15), "a reply was lost"
        served = codes["OK"] / (time.monotonic() - begin)
    p99 = float(np.percentile(seconds, 99))
    print(f"200 requests/s offered, {served:.0f}/s served, p99 {p99 * 1e3:.0f} ms, codes {dict(codes)}")
    assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"} and sum(codes.values()) == 800
    assert most <= 8 and served > 50
    assert p99 < 0.5, "who is accepted waits for at most three others"
