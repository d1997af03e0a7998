"""The stages of a converted model, and a network's layers in floats."""

import json
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai import lab, npu
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu import compare


def test_the_stages_of_a_model_that_needs_no_npu(tmp_path):
    stages = lab.inside.stages_of(lab.small_model(tmp_path))
    assert [(s.kind, s.reads, s.writes, s.content) for s in stages] == [
        ("preprocess", ("images:0",), ("pixels:0",), "decode, resize, crop, subtract the mean"),
        ("onnx", ("pixels:0",), ("colour:0",), "2 ONNX nodes, 0.0 MB"),
    ]
    drawn = lab.diagrams.converted(stages)
    assert drawn.alt.startswith("2 stages, one after the other: preprocess (decode") and b"host: onnx" in drawn.data


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "file").write_text("no zip")
    with pytest.raises(InvalidInputError, match=r"expected a converted model \(.accelonnx\): file"):
        lab.inside.stages_of(tmp_path / "file")


def two_layers() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = [random.normal(size=(8, 8, 1, 1)).astype(np.float32) for _ in range(2)]
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 4, 4]) for name in "xy"]
    initializers = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_layer_in_floats():
    network = two_layers()
    program = npu.compile(network, fmt="msfp16")
    x = np.random.default_rng(1).normal(size=(1, 8, 4, 4)).astype(np.float32)
    floats = lab.inside.float_tensors(network, program, x)
    assert sorted(floats) == ["b", "y"] and (floats["b"] >= 0).all()
    report = compare.snr(program, x, floats, layout="nchw")
    assert len(report.layers) == 2 and report.worst.decibels > 25


def test_each_of_several_npu_stages_is_looked_into(tmp_path):
    short = two_layers()
    del short.graph.node[2]
    short.graph.output[0].name = "b"
    path = tmp_path / "model.accelonnx"
    pipeline = []
    with zipfile.ZipFile(path, "w") as archive:
        for file, network in (("a.npu", two_layers()), ("b.npu", short)):
            npu.compile(network).save(tmp_path / file)
            archive.write(tmp_path / file, file)
            ends = {"inputs": {"x": "x:0"}, "outputs": {name: f"{name}:0" for name in "pqr"}}
            pipeline.append({"type": "npu", "name": file, "file": file, **ends})
        archive.writestr("service_def.json", json.dumps({"pipeline": pipeline}))

    stages = lab.inside.stages_of(path)

    assert [stage.content.split(",")[0] for stage in stages] == ["2 chains", "1 chains"]
    assert {file: len(p.chains) for file, p in lab.programs_of(path).items()} == {"a.npu": 2, "b.npu": 1}
    assert len(lab.program_of(path).chains) == 2
    assert b"writes 3 tensors" in lab.diagrams.converted(stages).data
