"""The connection: idle ones, several threads, gRPC's retries, deadlines that hold in total."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import numpy as np
import pytest

from amlrealtimeai import PredictionClient
from amlrealtimeai.errors import DeploymentError, InvalidInputError
from tests.client.endpoints import Forwarder, echo, predicting

ONE = np.ones((1, 1), np.float32)


def test_an_idle_or_closed_connection_is_opened_anew() -> None:
    with predicting(echo) as port, Forwarder(port) as way:
        with PredictionClient("127.0.0.1", way.port, channel_shutdown_timeout=timedelta(seconds=0.05)) as client:
            for _ in range(2):
                client.score_numpy_array(ONE)
                time.sleep(0.1)
            assert way.connections == 2
        client.score_numpy_array(ONE)
        assert way.connections == 3
        client.close()
        client.close()


def test_neither_idling_nor_closing_ends_another_threads_call() -> None:
    waiting, released = threading.Event(), threading.Event()

    def answer(request: object, context: grpc.ServicerContext) -> object:
        if len(request.inputs["images"].float_val) > 1:
            waiting.set()
            released.wait(10)
        return echo(request, context)

    with predicting(answer) as port, ThreadPoolExecutor(1) as threads:
        client = PredictionClient("127.0.0.1", port, channel_shutdown_timeout=timedelta(seconds=0.05))
        long = threads.submit(client.score_numpy_array, np.ones((1, 2)))
        assert waiting.wait(5)
        time.sleep(0.1)
        assert client.score_numpy_array(ONE).shape == (1, 1)
        client.close()
        assert client.score_numpy_array(ONE).shape == (1, 1)
        assert not long.done()
        released.set()
        assert long.result(5).shape == (1, 2)
        client.close()


@pytest.mark.parametrize("size", [1, 500_000])
def test_only_what_reached_nobody_is_sent_again(size: int) -> None:
    """Half a million floats are beyond the 256 KiB that gRPC keeps for a retry by default."""
    calls = []

    def answer(request: object, context: grpc.ServicerContext) -> object:
        calls.append(request.inputs["images"].tensor_shape.dim[1].size)
        if len(calls) < 3:
            context.abort(code, "not now")
        return echo(request, context)

    with predicting(answer) as port, PredictionClient("127.0.0.1", port) as client:
        code = grpc.StatusCode.UNAVAILABLE
        assert client.score_numpy_array(np.ones((1, size))).shape == (1, size)
        assert calls == [size] * 3
        for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
            calls.clear()
            with pytest.raises(DeploymentError, match=f"not now.*{code.name}"):
                client.score_numpy_array(np.ones((1, size)))
            assert calls == [size]


def test_a_refused_connection_is_said_within_any_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for timeout in (0.3, 1):
        start = time.monotonic()
        with (
            PredictionClient("127.0.0.1", port) as client,
            pytest.raises(
                DeploymentError, match=r"nothing answered at 127\.0\.0\.1:\d+ in time; is the service running"
            ),
        ):
            client.score_numpy_array(ONE, timeout=timeout)
        assert 0.2 < time.monotonic() - start < timeout + 0.7


def test_a_silent_end_costs_the_timeout_and_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for options in ({}, {"use_ssl": True}):
            start = time.monotonic()
            with (
                PredictionClient("127.0.0.1", silent.getsockname()[1], **options) as client,
                pytest.raises(DeploymentError, match="in time"),
            ):
                client.score_numpy_array(ONE, timeout=0.3)
            assert time.monotonic() - start < 1.2


def test_a_service_that_is_slow_is_told_from_one_that_is_not_there() -> None:
    released = threading.Event()

    def answer(request: object, context: grpc.ServicerContext) -> object:
        released.wait(10)
        return echo(request, context)

    with predicting(answer) as port, PredictionClient("127.0.0.1", port) as client:
        with pytest.raises(DeploymentError, match=r"127\.0\.0\.1:\d+ did not answer in time; give a longer timeout"):
            client.score_numpy_array(ONE, timeout=0.4)
        released.set()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "10", True, timedelta(seconds=1)])
def test_a_timeout_is_a_number_of_seconds(timeout: object) -> None:
    with PredictionClient("192.0.2.1", 1) as client, pytest.raises(InvalidInputError, match="timeout in seconds"):
        client.score_numpy_array(ONE, timeout=timeout)


def test_no_timeout_waits_for_the_answer() -> None:
    with predicting(echo) as port, PredictionClient("127.0.0.1", port) as client:
        assert client.score_numpy_array(ONE, timeout=None).tolist() == [[1]]
        assert client.score_numpy_array(ONE, timeout=np.float32(5)).tolist() == [[1]]


def test_a_slow_first_answer_is_waited_for_beside_a_look_at_the_other_end() -> None:
    def answer(request: object, context: grpc.ServicerContext) -> object:
        time.sleep(0.8)
        return echo(request, context)

    with predicting(answer) as port, Forwarder(port) as way, PredictionClient("127.0.0.1", way.port) as client:
        for _ in range(2):
            assert client.score_numpy_array(ONE, timeout=10).tolist() == [[1]]
        assert way.connections == 2  # the call's, and one look
