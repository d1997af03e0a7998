"""The workshop's ResNet-50 as an ONNX featurizer, written node by node, so that these tests need no TensorFlow."""

import functools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amlrealtimeai import resources
from amlrealtimeai.accel.models import codec
from amlrealtimeai.serving.preprocess import preprocess_images

EPSILON = 1.001e-5


class Builder:
    def __init__(self, weights: dict[str, np.ndarray]):
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def conv_bn(self, x: str, name: str, stride: int = 1, pad: int = 0) -> str:
        kernel = self.weights[f"{name}_conv/kernel"].astype(np.float32).transpose(3, 2, 0, 1)
        conv = self.add(
            "Conv",
            [x, self.constant(f"{name}_conv/kernel", kernel)],
            f"{name}_conv",
            strides=[stride] * 2,
            pads=[pad] * 4,
        )
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        statistics = [self.constant(f"{name}_bn/{part}", self.weights[f"{name}_bn/{part}"]) for part in parts]
        return self.add("BatchNormalization", [conv, *statistics], f"{name}_bn", epsilon=EPSILON)

    def block(self, x: str, name: str, stride: int, shortcut: bool) -> str:
        side = self.conv_bn(x, f"{name}_0", stride) if shortcut else x
        y = self.add("Relu", [self.conv_bn(x, f"{name}_1", stride)], f"{name}_1_relu")
        y = self.add("Relu", [self.conv_bn(y, f"{name}_2", 1, 1)], f"{name}_2_relu")
        return self.add("Relu", [self.add("Add", [side, self.conv_bn(y, f"{name}_3")], f"{name}_add")], f"{name}_out")


@functools.cache
def onnx_model() -> onnx.ModelProto:
    b = Builder(codec.load(resources.path("weights/resnet50.npz"), "resnet50"))
    x = b.add("Transpose", ["image"], "image_nchw", perm=[0, 3, 1, 2])
    x = b.add("Relu", [b.conv_bn(x, "conv1", 2, 3)], "conv1_relu")
    x = b.add("MaxPool", [x], "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in enumerate((3, 4, 6, 3), start=2):
        for number in range(1, blocks + 1):
            x = b.block(x, f"conv{stage}_block{number}", 2 if number == 1 and stage > 2 else 1, number == 1)
    x = b.add("GlobalAveragePool", [x], "features_nchw")
    b.add("Transpose", [x], "features", perm=[0, 2, 3, 1])
    graph = helper.make_graph(
        b.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 224, 224, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1, 1, 2048])],
        b.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sample_image() -> np.ndarray:
    """A real picture, preprocessed as the weights want it: BGR minus the means, float32 [1, 224, 224, 3]."""
    jpeg = sorted(resources.path("images").glob("*.jpg"))[0].read_bytes()
    parameters = {
        "order": "BGR",
        "scaling_factor": 1.0,
        "output_height": 224,
        "output_width": 224,
        "preserve_aspect_ratio": True,
    }
    return preprocess_images(np.array([jpeg], object), parameters)
