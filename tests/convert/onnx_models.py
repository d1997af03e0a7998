"""Small ONNX models for the converter's tests, and what ONNX Runtime computes with them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_onnx

IMAGE = ("n", 3, 16, 16)
FLOAT = TensorProto.FLOAT


class Network:
    """Nodes, constants, inputs and outputs that are added one by one; values are named by their numbers."""

    def __init__(self, seed: int = 0, **inputs: Any) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        shapes = {name: value if isinstance(value[0], tuple) else (value, FLOAT) for name, value in inputs.items()}
        self.inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in shapes.items()]

    def constant(self, value: Any) -> str:
        """Name of a new initializer; whole numbers are int64, others float32."""
        name = f"c{len(self.constants)}"
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype == np.float64 else array
        return name

    def weights(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])) if len(shape) != 2 else shape[0])
        return self.constant(self.random.normal(0, 1 / np.sqrt(fan_in), shape))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Name of the node's result, or a list of them."""
        names = [f"{op.lower()}{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"the_{names[0]}", **attributes))
        return names if outputs > 1 else names[0]

    def conv(self, x: str, channels: int, filters: int, size: int = 3, **attributes: Any) -> str:
        attributes = {"pads": [size // 2] * 4, **attributes}
        return self.add("Relu", self.add("Conv", x, self.weights(filters, channels, size, size), **attributes))

    def norm(self, x: str, size: int) -> str:
        return self.add("LayerNormalization", x, self.weights(size), self.weights(size), axis=-1)

    def gelu(self, x: str) -> str:
        erf = self.add("Erf", self.add("Div", x, self.constant(np.sqrt(2.0))))
        return self.add("Mul", self.add("Mul", x, self.add("Add", erf, self.constant(1.0))), self.constant(0.5))

    def model(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        tensors = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        ends = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "network", self.inputs, ends, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def image(seed: int = 3, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape or (3, *IMAGE[1:])).astype(np.float32)


def floats(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes without its optimiser."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def convert(
    folder: Path, model: onnx.ModelProto, *feeds: Mapping[str, np.ndarray], tolerance: float = 0.03, **options: Any
) -> ConversionReport:
    """Convert, and compare names, types, shapes and values of all outputs with ONNX Runtime's."""
    seen: list[float] = []
    progress: Callable[[str, float], None] = lambda _, done: seen.append(done)  # noqa: E731
    options = {"name": "m", "fmt": "msfp16", "progress": progress, **options}
    report = convert_onnx(model, folder / "out.accelonnx", **options)
    assert seen == sorted(seen) and seen[-1] == 1.0
    converted = ConvertedModel.load(folder / "out.accelonnx")
    for feed in feeds or ({"x": image()},):
        answers = converted.predict(feed).outputs
        expected = floats(model, feed)
        assert list(answers) == list(expected)
        for name, values in expected.items():
            assert (answers[name].shape, answers[name].dtype) == (values.shape, values.dtype)
            largest = np.abs(values.astype(np.float64)).max()
            np.testing.assert_allclose(answers[name], values, rtol=0, atol=tolerance * largest)
    return report


def kinds(report: ConversionReport) -> list[str]:
    return [stage.kind for stage in report.stages]


def refused(report: ConversionReport) -> list[str]:
    """The operations that were left to the host."""
    return [node.op for node in report.blocked]


def save(folder: Path, model: onnx.ModelProto, external: Sequence[str] = ()) -> Path:
    """network.onnx in the folder, with large data in files of their own."""
    path = folder / "network.onnx"
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external[0], size_threshold=16)
    else:
        onnx.save(model, path)
    return path
