"""Random small ONNX models with nodes among them that the NPU cannot run; converted and compared with ONNX Runtime.

By hand, for a long run: python -m tests.convert.random_onnx 500 [first seed]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_onnx
from tests.convert.onnx_models import Network, floats
from tests.convert.random_runs import differences, main


class Builder:
    """Draws one network; all its choices and weights come from the seed. Values are [n, channels, height, width]."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = int(self.random.integers(9, 22))
        self.batch = self.pick(["n", "n", "n", 1, 3])
        self.side = self.pick([8, 12, 16])
        shape = (self.batch, 3, self.side, self.side)
        self.net = Network(seed, x=shape, v=(self.batch, 4)) if self.chance(0.2) else Network(seed, x=shape)
        self.channels: dict[str, int] = {"x": 3}
        self.sizes: dict[str, int] = {"x": self.side}

    def pick(self, options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def like(self, x: str, y: str, channels: int = 0, size: int = 0) -> str:
        self.channels[y], self.sizes[y] = channels or self.channels[x], size or self.sizes[x]
        return y

    # what the NPU runs
    def conv(self, x: str) -> str:
        filters, size = self.pick([4, 6, 8, 16]), self.pick([1, 3, 3, 5])
        stride = self.pick([1, 1, 2]) if self.sizes[x] >= 8 else 1
        weights = [self.net.weights(filters, self.channels[x], size, size)]
        bias = [self.net.weights(filters)] if self.chance(0.5) else []
        y = self.net.add("Conv", x, *weights, *bias, pads=[size // 2] * 4, strides=[stride] * 2)
        return self.like(x, y, filters, -(-self.sizes[x] // stride))

    def depthwise(self, x: str) -> str:
        c = self.channels[x]
        return self.like(x, self.net.add("Conv", x, self.net.weights(c, 1, 3, 3), pads=[1] * 4, group=c))

    def activation(self, x: str) -> str:
        return self.like(x, self.net.add(self.pick(["Relu", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid"]), x))

    def pool(self, x: str) -> str:
        if self.sizes[x] < 4:
            return x
        y = self.net.add(self.pick(["MaxPool", "AveragePool"]), x, kernel_shape=[2, 2], strides=[2, 2])
        return self.like(x, y, size=self.sizes[x] // 2)

    def norm(self, x: str) -> str:
        c = self.channels[x]
        scale, shift, mean = (self.net.weights(c) for _ in range(3))
        variance = self.net.constant(np.abs(self.random.normal(1, 0.1, c)) + 0.5)
        return self.like(x, self.net.add("BatchNormalization", x, scale, shift, mean, variance))

    def residual(self, x: str) -> str:
        y = self.net.conv(self.net.conv(x, self.channels[x], 8), 8, self.channels[x], 1)
        return self.like(x, self.net.add("Add", y, x))

    def branches(self, x: str) -> str:
        y = self.net.add(
            "Concat", self.net.conv(x, self.channels[x], 4, 1), self.net.conv(x, self.channels[x], 8), axis=1
        )
        return self.like(x, y, 12)

    # what it cannot
    def pointwise(self, x: str) -> str:
        return self.like(x, self.net.add(self.pick(["Erf", "Tanh", "Elu", "Selu", "Softplus", "Sin", "Softsign"]), x))

    def softmax(self, x: str) -> str:
        flat = self.net.add("Reshape", x, self.net.constant([0, self.channels[x], -1]))
        back = self.net.constant([0, self.channels[x], self.sizes[x], self.sizes[x]])
        return self.like(x, self.net.add("Reshape", self.net.add("Softmax", flat, axis=2), back))

    def layer_norm(self, x: str) -> str:
        if self.opset < 17:
            return self.instance_norm(x)
        last = self.net.norm(self.net.add("Transpose", x, perm=[0, 2, 3, 1]), self.channels[x])
        return self.like(x, self.net.add("Transpose", self.net.gelu(last), perm=[0, 3, 1, 2]))

    def instance_norm(self, x: str) -> str:
        scale, shift = (self.net.weights(self.channels[x]) for _ in range(2))
        return self.like(x, self.net.add("InstanceNormalization", x, scale, shift))

    def attention(self, x: str) -> str:
        c, n = self.channels[x], self.sizes[x]
        tokens = self.net.add("Transpose", self.net.add("Reshape", x, self.net.constant([0, c, n * n])), perm=[0, 2, 1])
        q, k = (self.net.add("MatMul", tokens, self.net.weights(c, c)) for _ in range(2))
        scores = self.net.add("MatMul", q, self.net.add("Transpose", k, perm=[0, 2, 1]))
        mixed = self.net.add("MatMul", self.net.add("Softmax", scores, axis=2), tokens)
        back = self.net.add("Transpose", mixed, perm=[0, 2, 1])
        return self.like(x, self.net.add("Reshape", back, self.net.constant([0, c, n, n])))

    def gated(self, x: str) -> str:
        """One tensor of the network decides about another."""
        mask = self.net.add("Greater", self.net.add("Tanh", x), self.net.constant(0.1))
        return self.like(x, self.net.add("Where", mask, x, self.net.add("Neg", x)))

    def chosen(self, x: str) -> str:
        """A branch that the input decides."""
        net, bodies = self.net, {}
        for name, op in (("then_branch", "Relu"), ("else_branch", "Tanh")):
            result = f"{op}_of_{x}"
            end = [helper.make_empty_tensor_value_info(result)]
            bodies[name] = helper.make_graph([helper.make_node(op, [x], [result])], name, [], end)
        total = net.add("ReduceMax", net.add("Reshape", "x", net.constant([-1])), keepdims=0)
        return self.like(x, net.add("If", net.add("Greater", total, net.constant(self.pick([-9.0, 9.0]))), **bodies))

    # heads
    def classifier(self, x: str) -> str:
        flat = self.net.add("Flatten", self.net.add("GlobalAveragePool", x))
        if len(self.net.inputs) > 1 and self.chance(0.8):
            flat = self.net.add("Concat", flat, "v", axis=1)
            width = self.channels[x] + 4
        else:
            width = self.channels[x]
        scores = self.net.add("Gemm", flat, self.net.weights(width, 5), self.net.weights(5))
        return self.pick([lambda: scores, lambda: self.net.add("Softmax", scores, axis=1)])()

    def whole(self, x: str) -> str:
        return self.net.add("Flatten", x) if self.chance(0.3) else x

    def indices(self, x: str) -> str:
        return self.net.add("ArgMax", self.classifier(x), axis=1, keepdims=0)

    def build(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The model, and an input for it."""
        taken: list[Callable[[str], str]] = [*[self.conv] * 5, *[self.activation] * 4, self.depthwise, self.pool]
        taken += [self.norm, self.residual, self.branches]
        refused: list[Callable[[str], str]] = [self.pointwise, self.pointwise, self.softmax, self.layer_norm]
        refused += [self.instance_norm, self.attention, self.gated, self.chosen]
        x = self.pick([self.conv, self.conv, self.pointwise])("x")
        seen = [x]
        for _ in range(int(self.random.integers(3, 9))):
            x = self.pick(taken if self.chance(0.7) else refused)(x)
            seen.append(x)
        outputs = [self.pick([self.classifier, self.classifier, self.whole, self.indices])(x)]
        outputs += [self.classifier(x)] if self.chance(0.3) else []
        outputs += [self.pick(seen)] if self.chance(0.3) else []
        model = self.net.model(*dict.fromkeys(outputs), opset=self.opset)
        if self.chance(0.3):
            for node in model.graph.node:
                node.name = ""
        count = 2 if self.batch == "n" else self.batch
        feed = {"x": self.random.normal(0, 1, (count, 3, self.side, self.side)).astype(np.float32)}
        if len(self.net.inputs) > 1:
            feed["v"] = self.random.normal(0, 1, (count, 4)).astype(np.float32)
        return model, feed


def convert(seed: int, folder: Path) -> tuple[ConversionReport, list[str]]:
    """Convert the network of that seed, and say what differs from ONNX Runtime."""
    model, feed = Builder(seed).build()
    expected = floats(model, feed)
    seen: list[float] = []
    report = convert_onnx(
        model, folder / "out", name="m", fmt="msfp16", require_fpga=False, progress=lambda _, done: seen.append(done)
    )
    wrong = [] if seen == sorted(seen) else [f"progress falls: {seen}"]
    return report, wrong + differences(expected, ConvertedModel.load(folder / "out").predict(feed).outputs)


if __name__ == "__main__":
    main(convert)
