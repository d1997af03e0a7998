"""The workshop's ResNet-50 without TensorFlow: an ONNX featurizer, written node by node, and a classifier in NumPy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai import resources
from amlrealtimeai.accel.models import codec
from amlrealtimeai.artifact.preprocess import MEANS

UNITS = (3, 4, 6, 3)
EPSILON = 1.001e-5
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
_OTHER_ARCHIVE = (
    "Give the resnet50.npz in a folder that 'python -m amlrealtimeai.lab.training FOLDER' has filled, with its digest "
    "beside it, or leave the option out."
)


def weights(path: Path | None = None) -> dict[str, np.ndarray]:
    """Arrays by Keras' names, of an archive (default: the shipped one). Raises WeightsError."""
    if path is None:
        return codec.load(resources.path("weights/resnet50.npz"), "resnet50")
    return codec.load(path, "resnet50", advice=_OTHER_ARCHIVE)


def prepare(pictures: np.ndarray) -> np.ndarray:
    """uint8 [n, 224, 224, 3], RGB -> what the featurizer takes: float32, BGR minus the means."""
    return np.ascontiguousarray((pictures.astype(np.float32) - MEANS)[..., ::-1])


def classify(arrays: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Features float32 [n, 1, 1, 2048] -> the most probable class of each, int64 [n]."""
    return logits(arrays, features).argmax(axis=1)


def logits(arrays: Mapping[str, np.ndarray], features: np.ndarray) -> np.ndarray:
    """Features float32 [n, 1, 1, 2048] -> the classifier's logits, float32 [n, 1000]."""
    return features.reshape(len(features), -1) @ arrays["predictions/kernel"] + arrays["predictions/bias"]


def featurizer(arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Images float32 [n, 224, 224, 3] -> features [n, 1, 1, 2048], batch normalisation not yet folded."""
    graph = _Graph(arrays)
    x = graph.node("Transpose", ["image"], perm=[0, 3, 1, 2])
    x = graph.node("Relu", [graph.convolution(x, "conv1", 2, 3)])
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, units in enumerate(UNITS, start=2):
        for number in range(1, units + 1):
            x = graph.unit(x, f"conv{stage}_block{number}", 2 if number == 1 and stage > 2 else 1, number == 1)
    x = graph.node("GlobalAveragePool", [x])
    graph.nodes.append(helper.make_node("Transpose", [x], ["features"], perm=[0, 2, 3, 1]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 224, 224, 3])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1, 1, 2048])
    made = helper.make_graph(graph.nodes, "resnet50", [image], [features], graph.initializers)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Graph:
    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """A new node; returns the name of its output."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def convolution(self, x: str, name: str, stride: int = 1, pad: int = 0) -> str:
        """A convolution, its kernel turned from HWIO to OIHW, and its batch normalisation."""
        kernel = np.ascontiguousarray(self.arrays[f"{name}_conv/kernel"].transpose(3, 2, 0, 1))
        self.initializers.append(numpy_helper.from_array(kernel, f"{name}/kernel"))
        y = self.node("Conv", [x, f"{name}/kernel"], strides=[stride] * 2, pads=[pad] * 4)
        for part in _STATISTICS:
            self.initializers.append(numpy_helper.from_array(self.arrays[f"{name}_bn/{part}"], f"{name}/{part}"))
        return self.node("BatchNormalization", [y, *(f"{name}/{part}" for part in _STATISTICS)], epsilon=EPSILON)

    def unit(self, x: str, name: str, stride: int, project: bool) -> str:
        """A bottleneck; `project`: with a convolution beside it, where the shape changes."""
        side = self.convolution(x, f"{name}_0", stride) if project else x
        y = self.node("Relu", [self.convolution(x, f"{name}_1", stride)])
        y = self.node("Relu", [self.convolution(y, f"{name}_2", pad=1)])
        return self.node("Relu", [self.node("Add", [side, self.convolution(y, f"{name}_3")])])
