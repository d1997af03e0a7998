import numpy as np
import onnx
import pytest
from onnx import TensorProto

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError, NotFoundError, UnsupportedError
from tests.npu.graphs import integers, model, node

W = integers(1, 4, 4, 3, 3)
CONV = node("Conv", "x w", "c")


def small(nodes, constants=None, shape=(1, 4, 8, 8), **options) -> onnx.ModelProto:
    return model(nodes, list(shape), {"w": W, **(constants or {})}, **options)


def behind_conv(last: onnx.NodeProto, **constants) -> onnx.ModelProto:
    return small([CONV, last], constants)


UNSUPPORTED = {
    "operation": (behind_conv(node("Elu", "c", "y")), r"y_node \(Elu\): the NPU has no such operation.*Relu"),
    "quotient of tensors": (behind_conv(node("Div", "c c", "y")), r"y_node \(Div\): it divides by a tensor"),
    "divided constant": (behind_conv(node("Div", "one c", "y"), one=np.float32(1)), "it divides by a tensor"),
    "several maxima": (behind_conv(node("Max", "c c", "y")), r"y_node \(Max\): it compares 2 tensors"),
    "maximum of different numbers": (behind_conv(node("Max", "c l", "y"), l=np.float32([1, 2, 1, 2, 3, 4])), "varies"),
    "computed limits": (behind_conv(node("Clip", "c c", "y")), r"y_node \(Clip\): its min is computed"),
    "cubic": (
        behind_conv(node("Resize", "c e f", "y", mode="cubic"), e=np.zeros(0, np.float32), f=np.float32([1, 1, 2, 2])),
        r"y_node \(Resize\): it has mode cubic",
    ),
    "odd exponent": (behind_conv(node("LRN", "c", "y", size=3, beta=0.6)), r"y_node \(LRN\): it has size 3.*beta 0.6"),
    "training dropout": (
        behind_conv(node("Dropout", "c r t", "y"), r=np.float32(0.5), t=np.bool_(True)),
        r"y_node \(Dropout\): it is in training mode",
    ),
    "power": (behind_conv(node("Pow", "c k", "y"), k=np.float32(3)), "its exponent is not 1 or 2"),
    "different sizes": (
        small(
            [
                CONV,
                node("Conv", "x w", "e", pads=[1] * 4),
                node("MaxPool", "e", "f", kernel_shape=[7, 1]),
                node("Add", "c f", "y"),
            ]
        ),
        r"y_node \(Add\): it combines",
    ),
    "pad of the batch": (behind_conv(node("Pad", "c p", "y"), p=[1, 0, 0, 0, 0, 0, 0, 0]), "selects from axes"),
    "slice of the batch": (
        behind_conv(node("Slice", "c b e a", "y"), b=[0], e=[0], a=[0]),
        r"y_node \(Slice\): it selects from the batch",
    ),
    "softmax": (
        behind_conv(node("Softmax", "c", "y")),
        r"y_node \(Softmax\): it is over 6 positions.*a featurizer that ends before",
    ),
    "domain": (behind_conv(node("Gelu", "c", "y", domain="com.microsoft")), r"y_node \(Gelu\).*com\.microsoft"),
    "one-dimensional": (small([node("Conv", "x d", "y")], {"d": integers(1, 4, 4, 3)}), "weights have 3 axes"),
    "computed weights": (behind_conv(node("Conv", "c c", "y")), r"y_node \(Conv\): its weights c is computed"),
    "wide pads of max": (
        behind_conv(node("MaxPool", "c", "y", kernel_shape=[2, 2], pads=[2, 0, 0, 0])),
        r"y_node \(MaxPool\): its window .* can lie in the padding alone",
    ),
    "pads as large as the kernel": (
        behind_conv(node("AveragePool", "c", "y", kernel_shape=[2, 2], pads=[2, 0, 0, 0], count_include_pad=1)),
        r"y_node \(AveragePool\): its pads are \(2, 0, 0, 0\)\. Supported: pads smaller than its kernel \(2, 2\)",
    ),
    "LRN of a signal": (
        small([node("Conv", "x s", "c"), node("LRN", "c", "y", size=3)], {"s": integers(1, 4, 4, 3)}, (1, 4, 9)),
        "its input has 3 axes",
    ),
    "indices": (
        small(
            [CONV, node("MaxPool", "c", "y i", kernel_shape=[2, 2]), node("Cast", "i", "j", to=1)], outputs=("y", "j")
        ),
        "indices are used",
    ),
    "cast": (behind_conv(node("Cast", "c", "y", to=TensorProto.FLOAT16)), r"y_node \(Cast\): it casts to FLOAT16"),
    "split batch": (
        small(
            [CONV, node("GlobalMaxPool", "c", "g"), node("Reshape", "g s", "y")], {"s": [-1, 1]}, shape=("n", 4, 8, 8)
        ),
        r"y_node \(Reshape\): it regroups",
    ),
    "reduce the batch": (
        behind_conv(node("ReduceMean", "c", "y", axes=[0])),
        r"y_node \(ReduceMean\): it reduces axes \[0\]",
    ),
    "image constant": (behind_conv(node("Add", "c i", "y"), i=integers(1, 6, 6)), "does not vary by channel"),
    "padded and dilated": (
        behind_conv(node("MaxPool", "c", "y", kernel_shape=[2, 2], pads=[1, 1, 1, 1], dilations=[2, 2])),
        r"y_node \(MaxPool\): its window .* is padded and dilated",
    ),
    "training": (
        behind_conv(node("BatchNormalization", "c s s s s", "y", training_mode=1), s=np.ones(4, np.float32)),
        "training mode",
    ),
    "no stride": (small([node("Conv", "x w", "y", strides=[0, 1])]), r"y_node \(Conv\): it has strides \(0, 1\)"),
    "crop": (small([node("Conv", "x w", "y", pads=[-1, 0, 0, 0])]), r"pads \(-1, 0, 0, 0\).*pads of 0 or more"),
    "L2 normalisation": (
        behind_conv(node("ReduceL2", "c", "y", axes=[1], keepdims=1)),
        r"y_node \(ReduceL2\).*Supported: a featurizer that ends before it; the host normalises in float32",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_the_npu_cannot_run_is_named(case):
    document, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedError, match=message):
        npu.compile(document)


NORM = node("BatchNormalization", "c s s s v", "y")


def broken(**fields) -> onnx.ModelProto:
    """A model whose weights have other fields than they should."""
    document = small([CONV], outputs=("c",))
    for name, value in fields.items():
        setattr(document.graph.initializer[0], name, value)
    return document


INVALID = {
    "two pads": (
        small([node("Conv", "x w", "y", pads=[1, 1])]),
        r"y_node \(Conv\): its attribute pads is \[1, 1\], expected 4 numbers",
    ),
    "empty": (small([]), "expected a graph with nodes and outputs"),
    "no weights": (small([node("Relu", "x", "y")]), "at least one Conv, Gemm or MatMul"),
    "channels": (
        small([node("Conv", "x w", "y")], shape=(1, 5, 8, 8)),
        r"y_node \(Conv\): weights take 4 channels, not 5",
    ),
    "window": (small([node("Conv", "x w", "y")], shape=(1, 4, 2, 8)), "window 3x3 does not fit its input"),
    "unknown value": (
        small([node("Conv", "ghost w", "g"), node("Conv", "x w", "h"), node("Add", "g h", "y")]),
        r"g_node \(Conv\): it reads ghost, which nothing before it writes",
    ),
    "output that is the input": (
        small([CONV], outputs=("c", "x")),
        "output x is the input itself, which nothing computes",
    ),
    "unknown output": (small([CONV], outputs=("c", "ghost")), "output ghost does not depend on the input"),
    "cycle": (
        small([CONV, node("Add", "c late", "y"), node("Conv", "y w", "late")]),
        r"_node \((Add|Conv)\) is part of a cycle",
    ),
    "infinite": (
        small([node("Conv", "x i", "y")], {"i": np.full((4, 4, 3, 3), np.inf, np.float32)}),
        "NaN or infinity",
    ),
    "variance": (
        small([CONV, NORM], {"s": np.ones(4, np.float32), "v": np.full(4, -1, np.float32)}),
        "expected a positive number",
    ),
    "too large": (
        small([CONV, node("Mul", "c k", "m"), node("Mul", "m k", "y")], {"k": np.float32(1e30)}),
        "weights of c_node does not fit float32",
    ),
    "large bias": (
        small(
            [CONV, node("Add", "c k", "m"), node("Mul", "m k", "n"), node("Div", "n k2", "y")],
            {"k": np.float32(1e30), "k2": np.float32(1e15)},
        ),
        "the bias of c_node does not fit float32",
    ),
    "division": (behind_conv(node("Div", "c k", "y"), k=np.float32([1, 0, 1, 1]).reshape(4, 1, 1)), "divides by zero"),
    "dtype": (
        small([CONV], outputs=("c",), dtype=TensorProto.FLOAT16),
        "input x: expected FLOAT .float32., got FLOAT16",
    ),
    "dynamic": (small([CONV], shape=("n", 4, "height", None), outputs=("c",)), r"fixed sizes.*'height', '\?'"),
    "batch": (small([CONV], shape=(8, 4, 8, 8), outputs=("c",)), r"expected \[1 or symbolic, .*got \[8, 4, 8, 8\]"),
    "rank": (small([CONV], shape=(1, 4, 8, 8, 8), outputs=("c",)), r"input x: expected .*got \[1, 4, 8, 8, 8\]"),
    "bias": (
        small([node("Conv", "x w b", "y")], {"b": np.ones(3, np.float32)}),
        r"y_node \(Conv\): its bias has the shape \[3\], expected \[4\]",
    ),
    "kernel": (
        small([node("Conv", "x w", "y", kernel_shape=[5, 5])]),
        r"y_node \(Conv\): its kernel_shape is \(5, 5\), its weights are \(3, 3\)",
    ),
    "norm": (
        small([CONV, NORM], {"s": np.ones(3, np.float32), "v": np.ones(4, np.float32)}),
        "expected 4 values of each",
    ),
    "data too short": (broken(raw_data=W.tobytes()[:-4]), r"c_node \(Conv\) is malformed.*onnx\.checker"),
    "unknown type": (broken(data_type=99), r"c_node \(Conv\) is malformed \(.*99.*onnx\.checker"),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_model_that_is_not_whole_is_refused(case):
    document, message = INVALID[case]
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match=message):
            function(document)


@pytest.mark.parametrize(("name", "said"), [("c\0d", "a NUL character"), ("c" * 70_000, "70000 characters")])
def test_names_that_no_program_file_can_hold_are_refused(name, said):
    named = onnx.helper.make_node("Conv", ["x", "w"], ["c"], name=name)
    value = onnx.helper.make_node("Conv", ["x", "w"], [name], name="n")
    for document in (small([named], outputs=("c",)), small([value], outputs=(name,))):
        with pytest.raises(InvalidInputError, match=f"the name 'c.* has {said}; expected at most 1000"):
            npu.compile(document)


def test_a_name_that_is_no_text():
    document = small([CONV], outputs=("c",))
    damaged = document.SerializeToString().replace(b"c_node", b"c_nod\xff")
    assert b"c_nod\xff" in damaged
    document.ParseFromString(damaged)
    for function in (npu.compile, npu.blockers):
        with pytest.raises(InvalidInputError, match=r"expected a name that is a text, got b'c_nod\\xff'"):
            function(document)


@pytest.mark.parametrize("opset", [-(2**63), -1, 0, 2**31, 2**62])
def test_an_opset_that_cannot_be(opset):
    document = small([CONV], outputs=("c",))
    document.opset_import[0].version = opset
    with pytest.raises(InvalidInputError, match=f"expected an opset of ONNX, 1 or more, got {opset} in"):
        npu.compile(document)


def test_several_inputs_are_named():
    document = small([node("Conv", "x w", "c"), node("Conv", "z w", "d"), node("Add", "c d", "y")])
    document.graph.input.append(onnx.helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 8, 8]))
    with pytest.raises(InvalidInputError, match="one graph input that the outputs depend on, got 2: x, z"):
        npu.compile(document)


def test_an_input_that_nothing_needs_does_not_count():
    document = small([CONV], outputs=("c",))
    document.graph.input.append(onnx.helper.make_tensor_value_info("learning_phase", TensorProto.BOOL, []))
    assert [name for name, _ in npu.compile(document).inputs] == ["x"]


def test_files_that_are_missing_or_no_model(tmp_path):
    with pytest.raises(NotFoundError, match=r"expected an ONNX file at .*none\.onnx"):
        npu.compile(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("this is not a model")
    with pytest.raises(InvalidInputError, match=r"text\.onnx as an ONNX model"):
        npu.compile(tmp_path / "text.onnx")
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(InvalidInputError, match="empty"):
        npu.compile(tmp_path / "empty.onnx")
    with pytest.raises(InvalidInputError, match=r"expected an onnx\.ModelProto or the path of a file, got bytes"):
        npu.compile(b"model")


def test_external_data_that_is_missing_short_or_not_loaded(tmp_path):
    path, weights = tmp_path / "model.onnx", tmp_path / "weights.bin"
    document = small([CONV], outputs=("c",))
    onnx.save_model(document, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert npu.compile(path).digest == npu.compile(small([CONV], outputs=("c",)), name="model").digest
    with pytest.raises(InvalidInputError, match=r"constant w is in another file that was not loaded; .*onnx\.load"):
        npu.compile(onnx.load(path, load_external_data=False))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InvalidInputError, match=r"model\.onnx as an ONNX model with its external data"):
        npu.compile(path)
    weights.unlink()
    with pytest.raises(InvalidInputError, match=r"external data: .*weights\.bin"):
        npu.compile(path)


def test_unknown_configurations_and_formats_are_named():
    with pytest.raises(InvalidInputError, match="presets: bw_s5, bw_a10, bw_s10"):
        npu.compile(small([CONV], outputs=("c",)), config="bw_x")
    with pytest.raises(InvalidInputError, match="unknown number format 'fp4'"):
        npu.compile(small([CONV], outputs=("c",)), fmt="fp4")
