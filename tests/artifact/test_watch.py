"""Computations that nobody waits for any more are ended, also those in a library that knows no deadline."""

import threading
from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.watch import Watch
from tests.serving.models import slow_model


class Passed(Exception):
    """What a check raises when the time is over."""


def test_a_host_graph_is_ended_between_its_nodes(tmp_path: Path) -> None:
    model = ConvertedModel.load(slow_model(tmp_path / "slow.accelonnx", products=60), threads=1)
    running, ended = threading.Event(), threading.Event()
    run = model.stages[0].run

    def noted(inputs: dict, outputs: list) -> dict:
        running.set()
        return run(inputs, outputs)

    def check() -> None:
        if running.is_set():
            ended.set()
            raise Passed

    model.stages[0].run = noted
    with pytest.raises(Passed):
        model.predict({"x": np.ones(1, np.float32)}, check=check)
    assert ended.is_set()
    model.stages[0].run = run
    assert model.predict({"x": np.ones(1, np.float32)}).outputs["output_alias"].tolist() == [0.0]


def test_what_is_still_wanted_is_left_alone() -> None:
    watch, looks, stopped = Watch(), threading.Semaphore(0), []
    with watch.over(looks.release, lambda: stopped.append(1)):
        assert all(looks.acquire(timeout=10) for _ in range(3))
    assert not stopped
