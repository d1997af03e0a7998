"""Small converted models for tests: preprocessing and ONNX stages, so that no compiled program is needed."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from amlrealtimeai.artifact.converted import write_converted
from amlrealtimeai.artifact.definition import document


def graph(nodes: list, inputs: dict, outputs: dict, weights: dict[str, np.ndarray] | None = None) -> bytes:
    """A serialised ONNX model; inputs and outputs are {name: (elem_type, shape)}."""
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def mean_classifier() -> bytes:
    """[n, h, w, 3] -> [n, 3]: the mean of each channel."""
    return graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)],
        {"x": (TensorProto.FLOAT, ["n", None, None, 3])},
        {"y": (TensorProto.FLOAT, ["n", 3])},
    )


def image_model(path: Path, name: str = "means", **parameters: Any) -> Path:
    """images (encoded) -> output_alias [n, 3]: channel means after preprocessing."""
    definition = document(
        name,
        {"images": {"tensor": "Placeholder:0", "dtype": "string", "shape": [None]}},
        {"output_alias": {"tensor": "classifier/mean:0", "dtype": "float32", "shape": [None, 3]}},
        [
            {
                "type": "preprocess",
                "name": "preprocess",
                "inputs": {"images": "Placeholder:0"},
                "outputs": {"output": "map/TensorArrayStack:0"},
                "parameters": {"order": "RGB", "output_height": 8, "output_width": 8} | parameters,
            },
            {
                "type": "onnx",
                "name": "classifier",
                "file": "classifier.onnx",
                "inputs": {"x": "map/TensorArrayStack:0"},
                "outputs": {"y": "classifier/mean:0"},
            },
        ],
    )
    write_converted(path, definition, {"classifier.onnx": mean_classifier()})
    return path


def arithmetic_model(path: Path, name: str = "arithmetic") -> Path:
    """a, b float32 [n, 2] -> sum:0 = a + b, difference:0 = a - b; outputs have no aliases, as TensorFlow saves them."""
    spec = (TensorProto.FLOAT, ["n", 2])
    add = graph([helper.make_node("Add", ["a", "b"], ["y"])], {"a": spec, "b": spec}, {"y": spec})
    sub = graph([helper.make_node("Sub", ["a", "b"], ["y"])], {"a": spec, "b": spec}, {"y": spec})
    pair = {"dtype": "float32", "shape": [None, 2]}
    wires = {"a": "in/a:0", "b": "in/b:0"}
    definition = document(
        name,
        {"a": {"tensor": "in/a:0", **pair}, "b": {"tensor": "in/b:0", **pair}},
        {"sum:0": {"tensor": "sum:0", **pair}, "difference:0": {"tensor": "difference:0", **pair}},
        [
            {"type": "onnx", "name": "add", "file": "add.onnx", "inputs": wires, "outputs": {"y": "sum:0"}},
            {"type": "onnx", "name": "sub", "file": "sub.onnx", "inputs": wires, "outputs": {"y": "difference:0"}},
        ],
    )
    write_converted(path, definition, {"add.onnx": add, "sub.onnx": sub})
    return path


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(width: int = 300, height: int = 260, mode: str = "RGB") -> Image.Image:
    """A smooth picture with something going on in every channel and in both directions."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 3 + y * 5) % 256, (x + y) % 256]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8), "RGBA").convert(mode)


def slow_model(path: Path, name: str = "slow", products: int = 12) -> Path:
    """x float32 [1] -> output_alias float32 [1] = 0 after some hundred milliseconds of matrix products."""
    nodes = [
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),  # from the input, so that nothing can be folded
        helper.make_node("Expand", ["nothing", "size"], ["m0"]),
        *[helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(products)],
        helper.make_node("ReduceMax", [f"m{products}"], ["top"], axes=[0], keepdims=0),
        helper.make_node("Slice", ["top", "start", "end"], ["y"]),
    ]
    weights = {
        "zero": np.zeros(1, np.float32),
        "size": np.array([768, 768]),
        "start": np.array([0]),
        "end": np.array([1]),
    }
    spec = {"dtype": "float32", "shape": [1]}
    definition = document(
        name,
        {"x": {"tensor": "x:0", **spec}},
        {"output_alias": {"tensor": "y:0", **spec}},
        [{"type": "onnx", "name": "slow", "file": "slow.onnx", "inputs": {"x": "x:0"}, "outputs": {"y": "y:0"}}],
    )
    one = (TensorProto.FLOAT, [1])
    write_converted(path, definition, {"slow.onnx": graph(nodes, {"x": one}, {"y": one}, weights)})
    return path


def many_output_model(path: Path, count: int = 12, aliases: str = "head{}:0") -> Path:
    """x float32 [n, 2] -> count outputs "head<i>:0" = x + i, as an object detector has many."""
    spec = (TensorProto.FLOAT, ["n", 2])
    pair = {"dtype": "float32", "shape": [None, 2]}
    nodes = [helper.make_node("Add", ["x", f"c{i}"], [f"y{i}"]) for i in range(count)]
    weights = {f"c{i}": np.full(1, i, np.float32) for i in range(count)}
    definition = document(
        "heads",
        {"x": {"tensor": "x:0", **pair}},
        {aliases.format(i): {"tensor": f"head{i}:0", **pair} for i in range(count)},
        [
            {
                "type": "onnx",
                "name": "heads",
                "file": "heads.onnx",
                "inputs": {"x": "x:0"},
                "outputs": {f"y{i}": f"head{i}:0" for i in range(count)},
            }
        ],
    )
    write_converted(
        path, definition, {"heads.onnx": graph(nodes, {"x": spec}, {f"y{i}": spec for i in range(count)}, weights)}
    )
    return path
