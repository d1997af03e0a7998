"""Writes ONNX nodes one by one, with random weights that keep activations in range."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE_VARIANCE = 70.0**2
"""Images are RGB minus their means: about 70 grey levels of deviation."""
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


class Builder:
    """One graph. `style`: "tensorflow" has an NHWC image and NHWC results, "pytorch" NCHW ones.

    weights: all arrays in Keras' naming and layout; without them everything is random from `seed`.
    """

    def __init__(self, name: str, style: str, seed: int = 0, weights: Mapping[str, np.ndarray] | None = None) -> None:
        self.name, self.style = name, style
        self.weights = weights or {}
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.results: list[str] = []

    def add(self, op: str, inputs: Sequence[str], output: str, channels: int = 0, **attributes: object) -> str:
        """A node named after its output, which has as many channels as its first input unless told."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        self.channels[output] = channels or self.channels.get(inputs[0], 0)
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def image(self, size: int, channels: int = 3, name: str = "image") -> str:
        """The input [1, size, size, channels], or its NCHW form, as the NCHW value that the layers read."""
        nhwc = self.style == "tensorflow"
        shape = [1, size, size, channels] if nhwc else [1, channels, size, size]
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.channels[name] = channels
        return self.add("Transpose", [name], f"{name}_nchw", perm=[0, 3, 1, 2]) if nhwc else name

    def conv(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        gain: float = 2.0,
        **attributes: object,
    ) -> str:
        """He's initialisation: weights of variance `gain` / inputs. attributes: auto_pad in the place of pads."""
        inputs = self.channels[x] // groups
        shape = (outputs, inputs, kernel, kernel)
        if self.weights:
            values = self.weights[f"{name}/kernel"].astype(np.float32).transpose(3, 2, 0, 1)
        else:
            values = self._normal(shape, np.sqrt(gain / (inputs * kernel**2)))
        operands = [x, self.constant(f"{name}/kernel", values)]
        if bias:
            operands.append(self.constant(f"{name}/bias", self._normal((outputs,), 0.1)))
        place = attributes or {"pads": [pad] * 4}
        window = {"strides": [stride] * 2, "dilations": [dilation] * 2, "kernel_shape": [kernel] * 2, "group": groups}
        return self.add("Conv", operands, name, outputs, **window, **place)

    def batch_norm(self, x: str, name: str, epsilon: float = 1.001e-5, gain: float = 1.0, variance: float = 1.0) -> str:
        """Batch normalisation with moving averages near mean 0 and the variance that the layer before it makes."""
        size = self.channels[x]
        if self.weights:
            parts = {part: self.weights[f"{name}/{part}"] for part in _STATISTICS}
        else:
            parts = {
                "gamma": gain * self.rng.uniform(0.8, 1.2, size),
                "beta": self.rng.normal(0, 0.1, size),
                "moving_mean": self.rng.normal(0, 0.1 * np.sqrt(variance), size),
                "moving_variance": variance * self.rng.uniform(0.8, 1.25, size),
            }
        constants = [self.constant(f"{name}/{part}", parts[part].astype(np.float32)) for part in _STATISTICS]
        return self.add("BatchNormalization", [x, *constants], name, epsilon=epsilon)

    def conv_bn(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        weight_gain: float = 2.0,
        gain: float = 1.0,
        variance: float = 1.0,
    ) -> str:
        """A convolution without bias and its batch normalisation; weight_gain: conv's gain, the others batch_norm's."""
        window = {"stride": stride, "pad": pad, "groups": groups}
        y = self.conv(x, f"{name}_conv", outputs, kernel, bias=False, gain=weight_gain, **window)
        return self.batch_norm(y, f"{name}_bn", gain=gain, variance=variance)

    def relu(self, x: str, name: str) -> str:
        return self.add("Relu", [x], name)

    def relu6(self, x: str, name: str) -> str:
        ends = [self.constant(f"{name}/{end}", np.float32(value)) for end, value in (("low", 0), ("high", 6))]
        return self.add("Clip", [x, *ends], name)

    def silu(self, x: str, name: str) -> str:
        return self.add("Mul", [x, self.add("Sigmoid", [x], f"{name}/sigmoid")], name)

    def result(self, x: str, name: str) -> str:
        """A named output, in NHWC or NCHW as `style` says."""
        self.results.append(name)
        if self.style == "tensorflow":
            return self.add("Transpose", [x], name, perm=[0, 2, 3, 1])
        return self.add("Identity", [x], name)

    def model(self, opset: int = 17) -> onnx.ModelProto:
        """The finished model."""
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.results]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, ends, self.initializers)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def _normal(self, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        return self.rng.standard_normal(shape, np.float32) * np.float32(deviation)
