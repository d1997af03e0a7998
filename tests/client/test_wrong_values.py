"""What people pass to a client that is no path, shape, name or time: words before anything is sent."""

import io
import math
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.accel import PredictionClient, client_from_service
from amlrealtimeai.client import ServiceClient
from amlrealtimeai.client.arrays import as_batch, tensor_of
from amlrealtimeai.contrib.brainwave.client import PredictionClient as MiddlePredictionClient
from amlrealtimeai.errors import InvalidInputError, MissingFileError
from amlrealtimeai.serving.server import Server

NOBODY = PredictionClient("192.0.2.1")


@pytest.mark.parametrize("path", [None, b"bytes", io.BytesIO(b"x"), 5, ["a"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    calls = [NOBODY.score_file, MiddlePredictionClient("192.0.2.1", 1).score_image]
    for call in calls if isinstance(path, bytes) else [*calls, MiddlePredictionClient("192.0.2.1", 1).score_file]:
        with pytest.raises(InvalidInputError, match="expected the path of a file, got"):
            call(path)


@pytest.mark.parametrize("path", ["a" * 5000, "a\0b", "", "/"])
def test_a_name_that_no_file_has_is_a_missing_file(path: str) -> None:
    with pytest.raises(MissingFileError, match="no file"):
        NOBODY.score_file(path)


def test_a_missing_file_is_told_in_a_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(MissingFileError, match="looked from 'a folder that was deleted'"):
        NOBODY.score_file("picture.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "theirs.jpg").touch(0o000)
    with pytest.raises(InvalidInputError, match=r"theirs.jpg' cannot be read: Permission denied"):
        NOBODY.score_file(tmp_path / "theirs.jpg")


@pytest.mark.parametrize("timeout", [math.inf, 1e12, 2**40, np.float32(30), None])
def test_a_long_time_is_waited(timeout: Any, plain: Server, image: Path) -> None:
    with PredictionClient("127.0.0.1", plain.port) as client:
        assert client.score_file(image, timeout=timeout).shape == (3,)


@pytest.mark.parametrize("time", [120, 0.5, np.int64(3), None, timedelta(hours=1)])
def test_the_idle_time_may_be_seconds(time: Any, plain: Server, image: Path) -> None:
    with PredictionClient("127.0.0.1", plain.port, channel_shutdown_timeout=time) as client:
        assert client.score_file(image).shape == (3,)
    with pytest.raises(InvalidInputError, match="channel_shutdown_timeout: expected a timedelta"):
        PredictionClient("127.0.0.1", 1, channel_shutdown_timeout="2 minutes")


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        ([b"one"], [2], r"expected the values of shape \[2\], got 1 values"),
        ([b"one", b"two"], [1], r"expected the values of shape \[1\], got 2 values"),
        (b"one", 1, r"expected a shape such as \[1, 224, 224, 3\], got 1"),
        (b"one", [-1], "expected a shape such as"),
        (b"one", [1.0], "expected a shape such as"),
        (b"one", None, "expected a shape such as"),
    ],
)
def test_texts_have_to_fill_their_shape(data: Any, shape: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        tensor_of(data, shape, 7)
    assert tensor_of([b"a", "b"], (2, 1), 7).tolist() == [[b"a"], [b"b"]]
    assert tensor_of("text", [], 7).shape == ()


def test_names_and_tensors_are_checked(plain: Server) -> None:
    for call, given, said in (
        (NOBODY.score_numpy_arrays, {0: np.zeros(1)}, "expected names of inputs and outputs as texts, got 0"),
        (NOBODY.score_numpy_arrays, {"\ud800": np.zeros(1)}, r"names of inputs and outputs as texts, got '\\ud800'"),
        (NOBODY.score_numpy_arrays, {"x": np.array(["\ud800"])}, r"expected texts of Unicode, got '\\ud800'"),
        (NOBODY.score_tensors, {"x": ("\ud800", [1], 7)}, r"expected texts of Unicode, got '\\ud800'"),
        (NOBODY.score_numpy_arrays, {}, "got an empty one"),
        (NOBODY.score_tensors, {"x": ([1.0], [1])}, r"input 'x': expected \(content, shape, TensorFlow data type\)"),
        (NOBODY.score_tensors, {"x": b"abc"}, r"input 'x': expected \(content"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            call(given)
    for nothing in (None, "my-service", {"scoring_uri": "http://x"}):
        with pytest.raises(InvalidInputError, match=r"expected a deployed service, such as Webservice\(workspace"):
            client_from_service(nothing)


@pytest.mark.parametrize("name", [5, True, 1.5, [None], [b"x"], np.array("a"), "\ud800", Path("x")])
def test_names_of_outputs_are_texts(name: Any, image: Path) -> None:
    calls: list[Callable[[], object]] = [
        lambda: NOBODY.score_numpy_arrays({"x": np.zeros(1)}, name),
        lambda: NOBODY.score_file(image, outputs=name),
        lambda: NOBODY.score_file(image, name),
        lambda: NOBODY.predict({"x": np.zeros(1)}, name),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="expected names of inputs and outputs as texts, got"):
            call()


def test_outputs_are_named_by_a_text_or_by_anything_that_lists_texts(plain: Server, image: Path) -> None:
    client = ServiceClient(plain.address)
    (name,) = client.predict({"images": as_batch(image.read_bytes())})
    for outputs in (name, [name], (name,), {name: 1}, (one for one in [name]), np.array([name])):
        assert list(client.predict({"images": as_batch(image.read_bytes())}, outputs)) == [name]


@pytest.mark.parametrize("roots", [b"", b"no PEM", "absent.pem", 5])
def test_root_certificates_are_checked_before_they_are_needed(roots: Any) -> None:
    with pytest.raises(
        (InvalidInputError, MissingFileError), match=r"root_certificates: expected PEM|path of a PEM file"
    ):
        PredictionClient("192.0.2.1", 1, True, root_certificates=roots)
