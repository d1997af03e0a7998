"""Small ONNX graphs for tests. Their data are small integers, which m = 7 holds exactly: results must equal float."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai import npu
from amlrealtimeai.npu.program import Program

EXACT = npu.BlockFormat(16, 7, 8)
Dims = Sequence[int | str | None]


def node(op: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    """A node named after its output; `inputs` are separated by blanks."""
    domain = attributes.pop("domain", "")
    return helper.make_node(op, inputs.split(), output.split(), name=f"{output}_node", domain=domain, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Dims,
    constants: Mapping[str, np.ndarray] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 15,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model with the input x; constants keep their own types (lists are int64)."""
    tensors = [
        numpy_helper.from_array(np.asarray(v, np.int64 if isinstance(v, list) else None), name)
        for name, v in (constants or {}).items()
    ]
    entry = helper.make_tensor_value_info("x", dtype, shape)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "small", [entry], ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def integers(seed: int, *shape: int, low: int = -1, high: int = 1) -> np.ndarray:
    """Seeded float32 integers, both bounds included."""
    return np.random.default_rng(seed).integers(low, high, shape, endpoint=True).astype(np.float32)


def floats(document: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes in float32, node by node: its optimiser joins a Pad of zeros to a maximum."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(document.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def check_exact(document: onnx.ModelProto, x: np.ndarray) -> Program:
    """Compile, run on `x`, require every output to equal ONNX Runtime's (shape and values); the program."""
    program = npu.compile(document, fmt=EXACT)
    found, expected = npu.reference.run(program, x), floats(document, x)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
        assert np.abs(value).max() > 0
    return program


def operations(program: Program) -> list[str]:
    """Each chain as text: its operations without v_."""
    return [" ".join(i.op.removeprefix("v_") for i in chain.instructions) for chain in program.chains]
