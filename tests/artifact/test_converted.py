"""The converted model: writing, loading, running, and files that are not what they should be."""

import copy
import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel, write_converted
from amlrealtimeai.artifact.definition import ServiceDefinition, Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from tests.serving.models import arithmetic_model, encode, image_model, many_output_model, picture


@pytest.fixture
def model(tmp_path: Path) -> ConvertedModel:
    return ConvertedModel.load(arithmetic_model(tmp_path / "arithmetic.accelonnx"))


def pair(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def test_inputs_and_outputs_by_alias_or_tensor_name(model: ConvertedModel) -> None:
    got = model.predict({"a": pair(5, 7), "in/b:0": pair(1, 2)}, ["difference:0"])
    assert {name: array.tolist() for name, array in got.outputs.items()} == {"difference:0": [[4, 5]]}
    everything = model.predict({"in/a:0": pair(5, 7), "b": pair(1, 2)}).outputs
    assert [name for name in everything] == ["sum:0", "difference:0"]
    assert everything["sum:0"].tolist() == [[6, 9]]


HEADS = [f"head{i}:0" for i in range(12)]
OUTS = [f"out_{i}" for i in range(12)]


@pytest.mark.parametrize(
    ("sent", "asked", "answered"),
    [
        ("x", None, OUTS),
        ("x:0", None, HEADS),
        ("x:0", [], HEADS),
        ("x:0", ["out_3"], ["out_3"]),
        ("x", ["head3:0"], ["head3:0"]),
        ("x", ["out_3", "head4:0"], ["out_3", "head4:0"]),
    ],
)
def test_an_answer_speaks_as_its_request_did(tmp_path: Path, sent: str, asked: list | None, answered: list) -> None:
    model = ConvertedModel.load(many_output_model(tmp_path / "ssd.accelonnx", aliases="out_{}"))
    outputs = model.predict({sent: pair(1, 2)}, asked).outputs
    assert list(outputs) == answered
    for name, array in outputs.items():
        number = int(re.findall(r"\d+", name)[0])
        assert array.tolist() == [[1 + number, 2 + number]]


def signature(inputs: dict[str, str], outputs: dict[str, str]) -> Signature:
    specs = [
        {alias: TensorSpec(tensor, "float32", (None,)) for alias, tensor in side.items()} for side in (inputs, outputs)
    ]
    return Signature("serving_default", *specs)


@pytest.mark.parametrize(
    ("inputs", "sent", "answered"),
    [
        ({"a": "a:0", "b": "b:0"}, ["a", "b"], ["y", "z"]),
        ({"a": "a:0", "b": "b:0"}, ["a:0", "b:0"], ["y:0"]),  # one tensor under two aliases is one answer
        ({"a": "a:0", "b": "b:0"}, ["a", "b:0"], ["y", "z"]),  # a mixture: as the signature says
        ({"a:0": "a:0", "b": "b:0"}, ["a:0", "b"], ["y", "z"]),  # an alias that is its tensor name decides nothing
        ({"a:0": "a:0", "b": "b:0"}, ["a:0", "b:0"], ["y:0"]),
        ({"a:0": "a:0", "b:0": "b:0"}, ["a:0", "b:0"], ["y", "z"]),
    ],
)
def test_mixed_and_ambiguous_names(inputs: dict, sent: list[str], answered: list[str]) -> None:
    assert list(signature(inputs, {"y": "y:0", "z": "y:0"}).select(None, sent)) == answered


def test_timings_by_kind(tmp_path: Path) -> None:
    model = ConvertedModel.load(image_model(tmp_path / "means.accelonnx"))
    model.warm_up()
    data = np.array([encode(picture(), "JPEG")], object)
    timings = model.predict({"images": data}).timings
    assert list(timings) == ["decode", "classifier"]
    assert all(seconds > 0 for seconds in timings.values())


def test_stages_that_nobody_asked_for_do_not_run(model: ConvertedModel) -> None:
    ran = []
    for stage in model.stages:
        stage.run = lambda inputs, outputs, run=stage.run, name=stage.definition.name: (
            ran.append(name),
            run(inputs, outputs),
        )[1]
    model.predict({"a": pair(1, 1), "b": pair(1, 1)}, ["difference:0"])
    assert ran == ["sub"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": pair(1, 1)}, r"1!=2 .*Sent extra: \{\}. Missing but required: \{b\}"),
        ({"a": pair(1, 1), "b": pair(1, 1), "c": pair(1, 1)}, r"3!=2 .*Sent extra: \{c\}. Missing but required: \{\}"),
        ({"a": pair(1, 1), "in/a:0": pair(1, 1), "b": pair(1, 1)}, "3!=2"),
        ({"a": pair(1, 1), "b": pair(1, 1).astype(np.float64)}, "'b': expected dtype float32, got float64"),
        ({"a": pair(1, 1), "b": np.array([[b"x", b"y"]], object)}, "'b': expected dtype float32, got string"),
        ({"a": pair(1, 1), "b": pair(1, 1, 1)}, r"'b': expected shape \[\?, 2\], got \[1, 3\]"),
        ({"a": pair(1, 1), "b": pair(1, 1)[0]}, r"'b': expected shape \[\?, 2\], got \[2\]"),
        ({"a": pair(1, 1), "b": np.zeros((0, 2), np.float32)}, "at least one item"),
    ],
)
def test_inputs_that_do_not_fit(model: ConvertedModel, inputs: dict, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        model.predict(inputs)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["nope"], "output tensor alias not found in signature: nope"),
        (["sum:0", "sum:0"], "duplicate output tensor alias: sum:0"),
    ],
)
def test_outputs_that_do_not_fit(model: ConvertedModel, outputs: list[str], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        model.predict({"a": pair(1, 1), "b": pair(1, 1)}, outputs)


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    first, second = image_model(tmp_path / "a.accelonnx"), image_model(tmp_path / "b.accelonnx")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["service_def.json", "classifier.onnx"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """As /dev/null, which root may replace."""
    path, pipe = image_model(tmp_path / "m.accelonnx"), tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidInputError, match="pipe is something else, and stays"):
        write_converted(pipe, definition_of(path), {"classifier.onnx": b""})
    assert pipe.is_fifo()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = image_model(tmp_path / "a.accelonnx")
    before = path.read_bytes()
    definition = definition_of(path)
    with pytest.raises(FileNotFoundError):
        write_converted(path, definition, {"classifier.onnx": tmp_path / "gone"})
    definition["signature"]["outputs"]["output_alias"]["tensor"] = "nobody:0"
    with pytest.raises(InvalidInputError, match="no stage makes 'nobody:0'"):
        write_converted(path, definition, {"classifier.onnx": b""})
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.accelonnx"]


def test_files_may_be_paths(tmp_path: Path) -> None:
    path = image_model(tmp_path / "a.accelonnx")
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "classifier.onnx").write_bytes(archive.read("classifier.onnx"))
    again = tmp_path / "b.accelonnx"
    write_converted(again, definition_of(path), {"classifier.onnx": tmp_path / "classifier.onnx"})
    assert again.read_bytes() == path.read_bytes()


def definition_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        definition: dict[str, Any] = json.loads(archive.read("service_def.json"))
        return definition


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The same zip with changed entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def flip_last(entries: dict[str, bytes]) -> None:
    data = entries["classifier.onnx"]
    entries["classifier.onnx"] = data[:-1] + bytes([data[-1] ^ 1])


def bomb(entries: dict[str, bytes]) -> None:
    entries["zeros.bin"] = b"\0" * (80 << 20)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (flip_last, "classifier.onnx was altered"),
        (bomb, "declare 8388"),
        (lambda e: e.update({"../../etc/passwd": b"x"}), r"got '../../etc/passwd'"),
        (lambda e: e.update({"/absolute": b"x"}), r"got '/absolute'"),
        (lambda e: e.update({"a\\b": b"x"}), "entry names"),
        (lambda e: e.pop("classifier.onnx"), "holds no classifier.onnx"),
        (lambda e: e.pop("service_def.json"), "holds no service_def.json"),
        (lambda e: e.update({"service_def.json": b"{"}), "is not JSON"),
        (lambda e: e.update({"service_def.json": b"[" * 100_000}), "is not JSON"),
        (lambda e: e.update({"service_def.json": b"\xff"}), "is not JSON"),
        (lambda e: e.update({"service_def.json": b"[]"}), "not of the format"),
        (lambda e: e.update({"service_def.json": b"1" * (5 << 20)}), "larger than"),
        (lambda e: e.update({f"f{i}": b"" for i in range(300)}), "at most 256 entries"),
    ],
)
def test_hostile_zips(tmp_path: Path, change: Callable[[dict[str, bytes]], None], said: str) -> None:
    path = rewritten(image_model(tmp_path / "m.accelonnx"), change, zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidInputError, match=said) as caught:
        ConvertedModel.load(path)
    assert "m.accelonnx is not a usable converted model" in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = image_model(tmp_path / "whole.accelonnx").read_bytes()
    path = tmp_path / "cut.accelonnx"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match="not a usable converted model"):
            ConvertedModel.load(path)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """A flip in the zip's own structure may go unnoticed by zipfile, one in the content may not."""
    path = image_model(tmp_path / "m.accelonnx")
    whole = path.read_bytes()
    data = np.array([encode(picture(), "PNG")], object)
    expected = ConvertedModel.load(path).predict({"images": data}).outputs["output_alias"].tolist()
    for position in range(0, len(whole), 13):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            got = ConvertedModel.load(path).predict({"images": data}).outputs["output_alias"].tolist()
        except InvalidInputError:
            continue
        assert got == expected, f"byte {position} changed the answer"


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no converted model at"):
        ConvertedModel.load(tmp_path / "nothing.accelonnx")
    (tmp_path / "text.accelonnx").write_text("hello")
    with pytest.raises(InvalidInputError, match="not a whole zip file"):
        ConvertedModel.load(tmp_path / "text.accelonnx")


def test_another_network_in_the_place_of_a_stage_is_refused(tmp_path: Path) -> None:
    means, sums = image_model(tmp_path / "m.accelonnx"), arithmetic_model(tmp_path / "a.accelonnx")
    with zipfile.ZipFile(sums) as archive:
        other = archive.read("add.onnx")
    write_converted(means, definition_of(means), {"classifier.onnx": other})
    with pytest.raises(InvalidInputError, match=r"has inputs \['a', 'b'\]"):
        ConvertedModel.load(means)
    write_converted(means, definition_of(means), {"classifier.onnx": b"no network"})
    with pytest.raises(InvalidInputError, match="ONNX Runtime cannot load"):
        ConvertedModel.load(means)


def changed(definition: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    definition = copy.deepcopy(definition)
    *parents, last = path.split(".")
    place: Any = definition
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(last) if isinstance(place, list) else last] = value
    return definition


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("format", "other", "not of the format"),
        ("format_version", 2, "format_version 2, and this version of amlrealtimeai reads 1"),
        ("format_version", None, "format_version None"),
        ("name", "", "'name' to be a non-empty str"),
        ("pipeline", {}, "'pipeline' to be a non-empty list"),
        ("pipeline.0", "text", "pipeline stage 0: expected an object"),
        ("pipeline.0.type", "python", "unknown type 'python'"),
        ("pipeline.0.inputs", {"images": 3}, "map names to tensor names"),
        ("pipeline.0.inputs", {"pictures": "Placeholder:0"}, "expected input 'images'"),
        ("pipeline.0.parameters", {"order": "GBR"}, "'RGB' or 'BGR'"),
        ("pipeline.0.parameters", [], "parameters"),
        ("pipeline.1.inputs", {"x": "nowhere:0"}, "nothing before it makes its input 'nowhere:0'"),
        ("pipeline.1.outputs", {"y": "Placeholder:0"}, "'Placeholder:0' exists already"),
        ("pipeline.1.file", None, "'file' to be a non-empty str"),
        ("pipeline.1.sha256", 5, "'sha256' to be a non-empty str"),
        ("signature.inputs", {}, "'inputs' to be a non-empty dict"),
        ("signature.inputs.images", None, "expected tensor, dtype and shape"),
        ("signature.inputs.images.dtype", "object", "unknown dtype 'object'"),
        ("signature.inputs.images.shape", [-1], "sizes and nulls"),
        ("signature.inputs.images.shape", [True], "sizes and nulls"),
        ("signature.outputs.output_alias.tensor", "nobody:0", "no stage makes 'nobody:0'"),
    ],
)
def test_definitions_that_cannot_be(tmp_path: Path, place: str, value: Any, said: str) -> None:
    definition = definition_of(image_model(tmp_path / "m.accelonnx"))
    ServiceDefinition.from_dict(definition)
    with pytest.raises(InvalidInputError, match=said):
        ServiceDefinition.from_dict(changed(definition, place, value))
