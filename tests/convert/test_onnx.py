"""ONNX models convert with NPU and host parts in turn, and answer as ONNX Runtime does."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from amlrealtimeai.__main__ import main
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import convert_onnx
from amlrealtimeai.errors import ConversionError, InvalidInputError, NotFoundError
from tests.convert.onnx_models import IMAGE, Network, convert, floats, image, kinds, refused, save


def classified(net: Network, x: str, channels: int) -> str:
    """Means over the image, a dense layer, Softmax."""
    flat = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.add("Softmax", net.add("Gemm", flat, net.weights(channels, 5), net.weights(5)), axis=1)


def normalised(net: Network, x: str, channels: int) -> str:
    """LayerNormalization over channels and Gelu, between two transposes, as ConvNeXt has it."""
    last = net.gelu(net.norm(net.add("Transpose", x, perm=[0, 2, 3, 1]), channels))
    return net.add("Transpose", last, perm=[0, 3, 1, 2])


def test_layer_normalisation_and_gelu_run_between_convolutions(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    y = classified(net, net.conv(normalised(net, net.conv("x", 3, 8), 8), 8, 12), 12)
    report = convert(tmp_path, net.model(y))
    assert kinds(report) == ["npu", "onnx", "npu", "onnx"] and refused(report) == ["LayerNormalization", "Erf"]
    assert report.framework == "ONNX Runtime" and "compared with ONNX Runtime on a sample" in str(report)
    assert "node 'the_erf5' (Erf): the NPU has no such operation" in str(report) and "Cut at div4." in str(report)


def test_nodes_that_are_left_for_the_same_reason_share_a_line(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    maps = "x"
    for _ in range(3):
        maps = net.add("Erf", net.conv(maps, 8 if maps != "x" else 3, 8))
    text = str(convert(tmp_path, net.model(net.conv(maps, 8, 8)), tolerance=0.06))
    assert text.count("(Erf): the NPU has no such operation") == 1 and "Cut at relu1. So with 2 more." in text


def test_weights_that_the_format_cannot_hold_are_told_in_the_report(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    net = Network(x=IMAGE)
    y = net.conv("x", 3, 8)
    net.constants["c0"][1] = 1e-30
    report = convert(tmp_path, net.model(y), fmt="bw_cnn", tolerance=0.1)
    (note,) = report.notes
    assert "27 weights in 1 layers are too small" in note and f"note: {note}" in str(report)
    assert "Note: 27 weights" in report._repr_html_()
    assert not [warning for warning in recwarn if "too small" in str(warning.message)]


def test_a_network_that_loses_much_to_rounding_converts_when_it_is_right_without(tmp_path: Path) -> None:
    """Channels that differ much in size share a block, as in trained networks of depthwise convolutions."""
    net, sizes = Network(x=IMAGE), np.logspace(0, -5, 16, dtype=np.float32)
    y = net.conv("x", 3, 16)
    narrow = net.weights(16, 1, 3, 3)
    net.constants[narrow] *= sizes[:, None, None, None]
    y = net.add("Conv", y, narrow, pads=[1] * 4, group=16)
    mixing = net.weights(8, 16, 1, 1)
    net.constants[mixing] /= sizes[None, :, None, None]
    report = convert(tmp_path, net.model(net.add("Conv", y, mixing)), tolerance=2)
    checks = {str(check).split(":")[0]: check for check in report.checks}
    assert checks["featurizer in msfp16 against the float graph"].measured < 26
    assert checks["featurizer without rounding against the float graph"].measured < 1e-5


def test_a_softmax_at_the_end_runs_on_the_host(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    report = convert(tmp_path, net.model(classified(net, net.conv("x", 3, 8), 8)))
    assert kinds(report) == ["npu", "onnx"] and report.blocked == ()


def test_the_first_part_may_be_the_hosts(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    report = convert(tmp_path, net.model(net.conv(net.add("Erf", "x"), 3, 8)))
    assert kinds(report) == ["onnx", "npu"]


def test_layouts_turn_in_the_middle(tmp_path: Path) -> None:
    net = Network(x=("n", 16, 16, 3))
    first = net.conv(net.add("Transpose", "x", perm=[0, 3, 1, 2]), 3, 8)
    softened = net.add("Softmax", net.add("Transpose", first, perm=[0, 2, 3, 1]), axis=-1)
    second = net.conv(net.add("Transpose", softened, perm=[0, 3, 1, 2]), 8, 8)
    report = convert(
        tmp_path, net.model(net.add("Transpose", second, perm=[0, 2, 3, 1])), {"x": image(1, 2, 16, 16, 3)}
    )
    assert kinds(report).count("npu") == 2 and refused(report) == ["Softmax"]


def test_a_vision_transformer_leaves_attention_to_the_host(tmp_path: Path) -> None:
    net = Network(x=("n", 3, 32, 32))
    patches = net.add("Conv", "x", net.weights(24, 3, 8, 8), strides=[8, 8])
    batch = net.add("Gather", net.add("Shape", patches), net.constant(0))
    tokens = net.add("Transpose", net.add("Reshape", patches, net.constant([0, 24, 16])), perm=[0, 2, 1])
    counts = net.add("Concat", net.add("Unsqueeze", batch, net.constant([0])), net.constant([-1, -1]), axis=0)
    counts = net.add("Where", net.add("Equal", counts, net.constant([-1, -1, -1])), net.constant([1, 1, 1]), counts)
    begin = net.add("Expand", net.weights(1, 1, 24), counts)
    tokens = net.add("Add", net.add("Concat", begin, tokens, axis=1), net.weights(1, 17, 24))
    queries = net.add("MatMul", net.norm(tokens, 24), net.weights(24, 72))
    split = net.add("Reshape", queries, net.constant([0, 17, 3, 2, 12]))
    q, k, v = net.add("Split", net.add("Transpose", split, perm=[2, 0, 3, 1, 4]), outputs=3, axis=0)
    q, k, v = (net.add("Squeeze", part, net.constant([0])) for part in (q, k, v))
    scores = net.add("Softmax", net.add("MatMul", q, net.add("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    mixed = net.add(
        "Reshape", net.add("Transpose", net.add("MatMul", scores, v), perm=[0, 2, 1, 3]), net.constant([0, 17, 24])
    )
    tokens = net.add("Add", tokens, net.add("MatMul", mixed, net.weights(24, 24)))
    hidden = net.gelu(net.add("MatMul", net.norm(tokens, 24), net.weights(24, 48)))
    tokens = net.add("Add", tokens, net.add("MatMul", hidden, net.weights(48, 24)))
    first = net.add("Gather", net.norm(tokens, 24), net.constant(0), axis=1)
    report = convert(tmp_path, net.model(net.add("Gemm", first, net.weights(24, 7))), {"x": image(2, 3, 3, 32, 32)})
    assert kinds(report) == ["npu", "onnx"] and refused(report) == ["MatMul"]
    assert "stay on the host, in float32: 7, with 56 % of the multiplications" in str(report)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21])
def test_opsets(tmp_path: Path, opset: int) -> None:
    net = Network(x=IMAGE)
    pooled = net.add("MaxPool", net.conv("x", 3, 8), kernel_shape=[2, 2], strides=[2, 2])
    report = convert(tmp_path, net.model(classified(net, net.conv(net.add("Erf", pooled), 8, 8), 8), opset=opset))
    assert kinds(report) == ["npu", "onnx", "npu", "onnx"]


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    net = Network(**{"in/image": IMAGE, "table:0": ("n", 4), "which": ((1,), TensorProto.INT64)})
    maps = net.conv("in/image", 3, 8)
    pooled = net.add("Flatten", net.add("GlobalAveragePool", maps))
    joined = net.add("Concat", pooled, net.add("Gemm", "table:0", net.weights(4, 6)), axis=1)
    picked = net.add("Gather", joined, "which", axis=1)
    ranks = net.add("ArgMax", joined, axis=1)
    model = net.model(maps, picked, ranks, joined)
    feed = {"in/image": image(), "table:0": image(5, 3, 4), "which": np.array([9])}
    report = convert(tmp_path, model, feed)
    assert kinds(report) == ["npu", "onnx"]
    signature = ConvertedModel.load(tmp_path / "out.accelonnx").signature
    assert {name: (spec.dtype, spec.shape) for name, spec in signature.inputs.items()} == {
        "in/image": ("float32", (None, 3, 16, 16)),
        "table:0": ("float32", (None, 4)),
        "which": ("int64", (1,)),
    }
    assert [spec.dtype for spec in signature.outputs.values()] == ["float32", "float32", "int64", "float32"]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_stays_fixed(tmp_path: Path, batch: int) -> None:
    net = Network(x=(batch, 3, 16, 16))
    flat = net.add("Reshape", net.add("Erf", net.conv("x", 3, 8)), net.constant([batch, 2048]))
    convert(tmp_path, net.model(net.add("Gemm", flat, net.weights(2048, 5))), {"x": image(1, batch, 3, 16, 16)})
    with pytest.raises(InvalidInputError, match=rf"expected shape \[{batch}, 3, 16, 16\], got \[2, 3, 16, 16\]"):
        ConvertedModel.load(tmp_path / "out.accelonnx").predict({"x": image(1, 2, 3, 16, 16)})


def test_any_number_of_images(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    y = classified(net, net.conv(net.add("Erf", net.conv("x", 3, 8)), 8, 8), 8)
    convert(tmp_path, net.model(y), *({"x": image(n, n, 3, 16, 16)} for n in (1, 2, 5)))


def test_inputs_without_a_size(tmp_path: Path) -> None:
    for kind in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8):
        net = Network(x=IMAGE, s=((), kind))
        scaled = net.add("Mul", net.conv("x", 3, 8), net.add("Cast", "s", to=TensorProto.FLOAT))
        feed = {"x": image(), "s": np.array(1, helper.tensor_dtype_to_np_dtype(kind))}
        convert(tmp_path, net.model(scaled, net.add("Identity", "s")), feed)


def test_free_channels_are_those_of_the_convolution(tmp_path: Path) -> None:
    net = Network(x=("n", "c", "h", "w"))
    y = net.add("GlobalAveragePool", net.conv("x", 5, 6))
    convert(tmp_path, net.model(y), {"x": image(3, 2, 5, 20, 12)}, require_fpga=False)


def test_an_input_without_a_shape(tmp_path: Path) -> None:
    net = Network(x=("n", 3, 16, 16))
    model = net.model(net.conv("x", 3, 4))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InvalidInputError, match="the input 'x' has no shape; expected one, with names for free sizes"):
        convert_onnx(model, tmp_path / "out", name="m")


def test_an_input_that_never_holds_anything(tmp_path: Path) -> None:
    for shape in ((0,), ("n", 0), (0, 3)):
        net = Network(x=IMAGE, s=shape)
        with pytest.raises(InvalidInputError, match=r"the input 's' of shape .* never holds anything; drop it"):
            convert_onnx(net.model(net.conv("x", 3, 8), net.add("Neg", "s")), tmp_path / "out", name="m")


def test_a_host_part_may_compute_infinities_and_nan(tmp_path: Path) -> None:
    for op in ("Log", "Sqrt", "Acosh", "Reciprocal"):  # of the sample, which has numbers on both sides of zero
        net = Network(x=IMAGE)
        maps = net.conv("x", 3, 8)
        model = net.model(maps, net.add(op, "x"))
        convert_onnx(model, tmp_path / "out", name="m", fmt="msfp16")
        feed = {"x": image()}
        got = ConvertedModel.load(tmp_path / "out").predict(feed).outputs
        for name, values in floats(model, feed).items():
            np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=0.1)
    net = Network(x=IMAGE)
    nothing = net.add("Log", net.add("Sub", net.constant(-1.0), net.add("Abs", net.conv("x", 3, 8))))
    with pytest.raises(ConversionError, match="All expected values are NaN: the model itself has no answer"):
        convert_onnx(net.model(nothing), tmp_path / "none", name="m")


def test_images_of_any_size_run_on_the_host(tmp_path: Path) -> None:
    net = Network(x=("n", 3, "h", "w"))
    model = net.model(classified(net, net.conv("x", 3, 8), 8))
    with pytest.raises(ConversionError, match="Export the model with a fixed height and width"):
        convert_onnx(model, tmp_path / "out", name="m")
    report = convert(tmp_path, model, {"x": image(1, 2, 3, 20, 9)}, require_fpga=False, tolerance=1e-5)
    assert kinds(report) == ["onnx"]


def test_a_model_of_free_sizes_is_warmed_up(tmp_path: Path) -> None:
    for shape, op, kernel in ((("n", 3, "h", "w"), "MaxPool", [7, 7]), (("n", 3, "w"), "AveragePool", [2])):
        net = Network(x=shape)
        model = net.model(net.add(op, "x", kernel_shape=kernel))
        convert_onnx(model, tmp_path / "out", name="m", require_fpga=False)
        ConvertedModel.load(tmp_path / "out").warm_up()


def test_signals_and_their_convolutions(tmp_path: Path) -> None:
    net = Network(x=("n", 4, 64))
    first = net.add("Erf", net.add("Conv", "x", net.weights(8, 4, 5), strides=[2]))
    report = convert(tmp_path, net.model(net.add("Conv", first, net.weights(8, 8, 3))), {"x": image(1, 2, 4, 64)})
    assert kinds(report) == ["npu", "onnx", "npu"]


def test_without_a_convolution_all_goes_to_the_host(tmp_path: Path) -> None:
    net = Network(x=("n", 6))
    model = net.model(net.add("Tanh", net.add("Gemm", "x", net.weights(6, 5))))
    with pytest.raises(ConversionError, match="no convolution anywhere in the graph can run on the NPU"):
        convert_onnx(model, tmp_path / "out", name="m")
    assert kinds(convert(tmp_path, model, {"x": image(1, 3, 6)}, require_fpga=False, tolerance=1e-6)) == ["onnx"]


def test_a_model_ends_where_it_is_told_to(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    maps = net.conv("x", 3, 8)
    model = net.model(classified(net, net.add("Erf", maps), 8))
    report = convert_onnx(model, tmp_path / "out", name="m", outputs_nodes=maps)
    assert kinds(report) == ["npu"] and list(report.stages[0].outputs) == [maps]
    with pytest.raises(InvalidInputError, match="no node writes 'relu'; some values that are there: relu1"):
        convert_onnx(model, tmp_path / "out", name="m", outputs_nodes="relu")


def test_branches_read_what_lies_outside(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    maps = net.conv("x", 3, 8)
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Erf")):
        body = [helper.make_node(op, [maps], [f"{op}_out"], name="the_conv0")]
        branches[name] = helper.make_graph(body, name, [], [helper.make_empty_tensor_value_info(f"{op}_out")])
    larger = net.add("Greater", net.add("ReduceMean", "x", keepdims=0), net.constant(9.0))
    report = convert(tmp_path, net.model(net.conv(net.add("If", larger, **branches), 8, 4)))
    assert kinds(report) == ["npu", "onnx", "npu"]


@pytest.mark.parametrize(("pad", "kernel"), [(1, 2), (1, 3), (3, 2)])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_a_pool_on_the_host_sees_the_padding_of_the_model(tmp_path: Path, op: str, pad: int, kernel: int) -> None:
    net = Network(x=IMAGE)
    negative = net.add("Neg", net.add("Exp", net.conv("x", 3, 8)))
    padded = net.add("Pad", negative, net.constant([0, 0, pad, pad, 0, 0, pad, pad]))
    report = convert(tmp_path, net.model(net.add(op, padded, kernel_shape=[kernel, kernel])))
    assert kinds(report) == ["npu", "onnx"]


def test_models_as_people_write_them(tmp_path: Path) -> None:
    """No names or the same ones, nodes in any order, functions, initializers that are inputs, odd outputs."""
    net = Network(x=IMAGE)
    y = net.conv(net.add("Erf", net.conv("x", 3, 8)), 8, 8)
    model = net.model(y, "x", "c0", net.add("Neg", "c1"))
    for node in model.graph.node:
        node.name = ""
    model.graph.node.insert(0, model.graph.node.pop())
    weights = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info("c0", weights.data_type, weights.dims))
    assert kinds(convert(tmp_path, model)).count("npu") == 2
    for node in model.graph.node:
        node.name = "same"  # ONNX Runtime takes no such model, but its parts
    assert kinds(convert_onnx(model, tmp_path / "out", name="m")).count("npu") == 2

    body = [helper.make_node("Erf", ["a"], ["b"]), helper.make_node("Conv", ["b", "w"], ["c"], pads=[1] * 4)]
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Block", ["a", "w"], ["c"], body, imports[:1])
    net = Network(x=IMAGE)
    maps = net.conv("x", 3, 8)
    net.nodes.append(helper.make_node("Block", [maps, net.weights(8, 8, 3, 3)], ["y"], domain="own"))
    model = net.model("y")
    model.functions.append(function)
    model.opset_import.append(imports[1])
    assert kinds(convert(tmp_path, model)) == ["npu", "onnx", "npu"]


def test_external_data_comes_with_its_folder(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    model = net.model(classified(net, net.conv("x", 3, 8), 8))
    folder = tmp_path / "network"
    folder.mkdir()
    expected = floats(model, {"x": image()})
    path = save(folder, model, external=["weights.bin"])
    for given in (path, folder, str(folder)):
        convert_onnx(given, tmp_path / "out", name="m")
        answer = ConvertedModel.load(tmp_path / "out").predict({"x": image()}).outputs
        (name,) = answer
        np.testing.assert_allclose(answer[name], expected[name], atol=0.1)
    (folder / "weights.bin").unlink()
    with pytest.raises(InvalidInputError, match=r"external data: .*weights\.bin.*has to lie in the folder"):
        convert_onnx(path, tmp_path / "out", name="m")


def test_the_model_of_a_folder_is_found_as_people_name_it(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    folder = tmp_path / "network"
    folder.mkdir()
    onnx.save(net.model(net.conv("x", 3, 8)), folder / "NETWORK.ONNX")
    (folder / "._NETWORK.ONNX").write_bytes(b"macOS")
    (folder / "older.onnx").mkdir()
    assert kinds(convert_onnx(folder, tmp_path / "out", name="m")) == ["npu"]


@pytest.mark.parametrize("wrong", [{"fmt": []}, {"fmt": {}}, {"config": []}, {"config": {}}, {"outputs_nodes": 5}])
def test_arguments_of_another_kind(tmp_path: Path, wrong: dict[str, Any]) -> None:
    net = Network(x=IMAGE)
    with pytest.raises(InvalidInputError, match=r"unknown (number format|NPU configuration)|tensor names"):
        convert_onnx(net.model(net.conv("x", 3, 8)), tmp_path / "out", **{"name": "m", **wrong})


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link.bin", "folder"])
def test_external_data_from_elsewhere_is_not_read(tmp_path: Path, location: str) -> None:
    net = Network(x=IMAGE)
    model = net.model(net.conv("x", 3, 8))
    folder = tmp_path / "network"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(b"\0" * 864)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    (folder / "network.onnx").write_bytes(model.SerializeToString())
    for given in (folder, model):
        with pytest.raises(InvalidInputError):
            convert_onnx(given, tmp_path / "out", name="m")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    whole = net.model(classified(net, net.conv("x", 3, 8), 8)).SerializeToString()
    path, out = tmp_path / "network.onnx", tmp_path / "out"
    with pytest.raises(NotFoundError, match="expected an ONNX file"):
        convert_onnx(path, out, name="m")
    for data in (b"", b"no model", whole[:-7], whole[: len(whole) // 2], whole[: len(whole) // 9], b"\0" * 100):
        path.write_bytes(data)
        with pytest.raises((InvalidInputError, ConversionError)) as caught:
            convert_onnx(path, out, name="m")
        assert len(str(caught.value)) > 20
    with pytest.raises(InvalidInputError, match=r"expected one \.onnx file in the folder empty, got nothing"):
        (tmp_path / "empty").mkdir()
        convert_onnx(tmp_path / "empty", out, name="m")
    assert not out.exists()


def named(model: onnx.ModelProto, name: str) -> None:
    model.graph.node[1].output[0] = model.graph.output[0].name = name


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.graph.node[0].attribute.add(name="pads_", type=2, i=1), "knows no attribute pads_"),
        (lambda m: m.graph.node[0].input.__setitem__(0, "nowhere"), "nowhere"),
        (lambda m: m.graph.node[1].output.__setitem__(0, m.graph.node[0].output[0]), "written by two nodes"),
        (lambda m: m.graph.node[0].input.__setitem__(0, m.graph.node[1].output[0]), "part of a cycle"),
        (lambda m: m.graph.node[0].__setattr__("domain", "nobody"), "nobody"),
        (lambda m: m.graph.output[0].__setattr__("name", "nothing"), "nothing"),
        (lambda m: m.graph.output.pop(), "no outputs|empty"),
        (lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 0), "input 'x' is no tensor"),
        (lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", 16), "x"),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2**40), "."),
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 9), "."),
        (lambda m: named(m, "a\0b"), "NUL"),
        (lambda m: named(m, "a" * 70000), "70000 characters"),
        (lambda m: m.opset_import[0].__setattr__("version", 99), "."),
        (lambda m: m.__setattr__("ir_version", 999), "."),
        (lambda m: m.graph.node.add(op_type="Tile", input=["x", "huge"], output=["t"]), "."),
    ],
)
def test_models_that_contradict_themselves(tmp_path: Path, change, text: str) -> None:
    net = Network(x=IMAGE)
    model = net.model(net.conv("x", 3, 8))
    change(model)
    if model.graph.node[-1].op_type == "Tile":
        model.graph.initializer.append(helper.make_tensor("huge", TensorProto.INT64, [4], [10**4] * 4))
        model.graph.output.append(helper.make_empty_tensor_value_info("t"))
    with pytest.raises((InvalidInputError, ConversionError), match=text):
        convert_onnx(model, tmp_path / "out", name="m")


def test_the_command_line_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = Network(x=IMAGE)
    path = save(tmp_path, net.model(classified(net, net.add("Erf", net.conv("x", 3, 8)), 8)))
    out = tmp_path / "small.accelonnx"
    assert main(["convert", str(path), str(out), "--format", "msfp16", "--outputs", "relu1,erf2"]) == 0
    assert capsys.readouterr().out.startswith("small: small.accelonnx, 0.0 MiB, converted in ")
    answer = ConvertedModel.load(out).predict({"x": image()}).outputs
    assert {name: value.shape for name, value in answer.items()} == dict.fromkeys(["relu1", "erf2"], (3, 8, 16, 16))


def test_tensorflow_is_not_loaded(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    path = save(tmp_path, net.model(classified(net, net.conv("x", 3, 8), 8)))
    code = (
        "import sys; from amlrealtimeai.convert import convert_onnx; "
        f"convert_onnx({str(path)!r}, {str(tmp_path / 'out')!r}, name='m'); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_the_model_that_was_given_is_not_changed(tmp_path: Path) -> None:
    net = Network(x=IMAGE)
    model = net.model(classified(net, net.conv("x", 3, 8), 8))
    before = onnx.ModelProto()
    before.CopyFrom(model)
    convert(tmp_path, model)
    assert model == before
