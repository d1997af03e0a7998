"""Random ONNX graphs of what the compiler takes, on data that msfp16 holds exactly: results must equal ONNX Runtime's.

python -m tests.npu.random_graphs [--count 2000] [--seed 0]
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
import onnx

from amlrealtimeai import npu
from tests.npu.graphs import EXACT, floats, model, node


class _Writer:
    """Adds random nodes behind the input x; `values` are the names and [channels, height, width] of what they make."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.values = {"x": tuple(int(n) for n in rng.integers(1, 9, 3))}
        self.input = self.values["x"]

    def pick(self, values):
        return values[int(self.rng.integers(len(values)))]

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        return self.rng.integers(low, high, shape, endpoint=True).astype(np.float32)

    def constant(self, values) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = values
        return name

    def add(self, op: str, inputs: str, **attributes) -> str:
        """A node without a note of its shape."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(node(op, inputs, name, **attributes))
        return name

    def bounded(self, name: str, shape: tuple[int, ...]) -> None:
        """Small numbers again, so that products stay exact."""
        limits = self.constant(np.float32(-8)), self.constant(np.float32(8))
        self.values[self.add("Clip", f"{name} {limits[0]} {limits[1]}")] = shape

    def step(self) -> None:
        name = self.pick(list(self.values))
        self.pick(_STEPS)(self, name, *self.values[name])

    def unary(self, x: str, *shape: int) -> None:
        slopes = self.constant(self.pick([np.float32([2]), self.integers(-1, 2, shape[0], 1, 1)]))
        op = self.pick(["Relu", "Neg", "Abs", "PRelu", "ThresholdedRelu", "Identity", "Clip", "Max", "Min", "Cast"])
        limit = self.constant(np.float32(self.pick([-2, 0, 3])))
        inputs = {"PRelu": f"{x} {slopes}", "Max": f"{limit} {x}", "Min": f"{x} {limit}", "Clip": f"{x} {limit}"}
        options = {"ThresholdedRelu": {"alpha": 2.0}, "Cast": {"to": 1}}
        self.bounded(self.add(op, inputs.get(op, x), **options.get(op, {})), shape)

    def with_constant(self, x: str, *shape: int) -> None:
        values = self.pick(
            [self.integers(1, 2, shape[0], 1, 1), self.integers(1, 2, 1), self.integers(1, 2, 1, 1, 1, 1)]
        )
        k, op = self.constant(values), self.pick(["Add", "Sub", "Mul", "Sum"])
        self.bounded(self.add(op, self.pick([f"{x} {k}", f"{k} {x}"])), shape)

    def with_tensor(self, x: str, *shape: int) -> None:
        others = [n for n, s in self.values.items() if all(a in (1, b) for a, b in zip(s, shape, strict=True))]
        other = self.pick(others)
        if self.rng.random() < 0.4:
            other = self.add("GlobalMaxPool", x)
        pair = self.pick([f"{x} {other}", f"{other} {x}"])
        self.bounded(self.add(self.pick(["Add", "Mul", "Sub", "Sum"]), pair), shape)

    def conv(self, x: str, channels: int, height: int, width: int) -> None:
        rng = self.rng
        groups = self.pick([1, 1, channels, self.pick([n for n in range(1, channels + 1) if channels % n == 0])])
        outputs = groups * int(rng.integers(1, 4))
        kernel, pads = [int(rng.integers(1, min(4, s) + 1)) for s in (height, width)], rng.integers(0, 3, 4).tolist()
        strides = rng.integers(1, 3, 2).tolist()
        w = self.constant(self.integers(-1, 1, outputs, channels // groups, *kernel))
        if rng.random() < 0.2 and groups == 1:
            w = self.constant(self.integers(-1, 1, channels, outputs, *kernel))
            size = [(n - 1) * s + k for n, s, k in zip((height, width), strides, kernel, strict=True)]
            self.bounded(self.add("ConvTranspose", f"{x} {w}", strides=strides), (outputs, *size))
            return
        out = [(n + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, n in enumerate((height, width))]
        bias = self.constant(self.integers(-3, 3, outputs))
        made = self.add("Conv", f"{x} {w} {bias}", strides=strides, pads=pads, group=groups)
        self.bounded(made, (outputs, *out))

    def max_pool(self, x: str, channels: int, height: int, width: int) -> None:
        kernel = [int(self.rng.integers(1, min(3, n) + 1)) for n in (height, width)]
        pads = [int(self.rng.integers(0, kernel[i % 2])) for i in range(4)]
        out = [n + pads[i] + pads[i + 2] - kernel[i] + 1 for i, n in enumerate((height, width))]
        self.values[self.add("MaxPool", x, kernel_shape=kernel, pads=pads)] = (channels, *out)

    def pad(self, x: str, *shape: int) -> None:
        before, after = (self.rng.integers(0, 3, 4) * np.array([0, self.rng.random() < 0.3, 1, 1]) for _ in range(2))
        mode = self.pick(["constant", "edge"])
        inputs = f"{x} {self.constant([*before.tolist(), *after.tolist()])}"
        if mode == "constant" and self.rng.random() < 0.4:
            inputs += f" {self.constant(np.float32(3))}"
        size = tuple(int(a + n + b) for a, n, b in zip(before[1:], shape, after[1:], strict=True))
        self.values[self.add("Pad", inputs, mode=mode)] = size

    def cut(self, x: str, *shape: int) -> None:
        axis = int(self.rng.integers(1, 4))
        size = shape[axis - 1]
        first, step = int(self.rng.integers(0, size)), int(self.rng.integers(1, 3))
        names = [self.constant([v]) for v in (first, 2**62, axis, step)]
        sizes = [len(range(first, size, step)) if i + 1 == axis else n for i, n in enumerate(shape)]
        self.values[self.add("Slice", " ".join([x, *names]))] = tuple(sizes)

    def divide(self, x: str, channels: int, *rest: int) -> None:
        if channels < 2:
            return
        part = int(self.rng.integers(1, channels))
        self.nodes.append(
            node(
                "Split",
                f"{x} {self.constant([part, channels - part])}",
                f"s{len(self.nodes)} t{len(self.nodes)}",
                axis=1,
            )
        )
        first, second = self.nodes[-1].output
        self.values[first], self.values[second] = (part, *rest), (channels - part, *rest)
        self.nodes[-1].name = first

    def concat(self, x: str, *shape: int) -> None:
        axis = self.pick([1, 1, 1, 2, 3])
        alike = [
            n
            for n, s in self.values.items()
            if all(a == b or i + 1 == axis for i, (a, b) in enumerate(zip(s, shape, strict=True)))
        ]
        other = self.pick(alike)
        size = [n + self.values[other][i] if i + 1 == axis else n for i, n in enumerate(shape)]
        if size[0] <= 40 and max(size[1:]) <= 20:
            self.values[self.add("Concat", f"{x} {other}", axis=axis)] = tuple(size)

    def shuffle(self, x: str, channels: int, height: int, width: int) -> None:
        groups = self.pick([n for n in range(1, channels + 1) if channels % n == 0])
        split = self.add("Reshape", f"{x} {self.constant([0, groups, channels // groups, height, width])}")
        turned = self.add("Transpose", split, perm=[0, 2, 1, 3, 4])
        self.values[self.add("Reshape", f"{turned} {self.constant([0, channels, height, width])}")] = (
            channels,
            height,
            width,
        )

    def turn(self, x: str, *shape: int) -> None:
        order = self.rng.permutation(3)
        made = self.add("Transpose", x, perm=[0, *(order + 1).tolist()])
        self.values[made] = tuple(shape[i] for i in order)

    def there_and_back(self, x: str, *shape: int) -> None:
        there = self.add("Transpose", x, perm=[0, 2, 3, 1])
        there = self.add("Relu", self.add("Add", f"{there} {self.constant(self.integers(-2, 2, shape[0]))}"))
        self.bounded(self.add("Transpose", there, perm=[0, 3, 1, 2]), shape)

    def regroup(self, x: str, channels: int, height: int, width: int) -> None:
        sizes = self.pick([(height, channels, width), (channels * height, 1, width), (1, channels * height * width, 1)])
        self.values[self.add("Reshape", f"{x} {self.constant([-1, *sizes])}")] = sizes

    def enlarge(self, x: str, channels: int, height: int, width: int) -> None:
        if max(height, width) > 6:
            return
        scales = self.constant(np.float32([1, 1, self.pick([1, 2]), self.pick([2, 3])]))
        empty = self.constant(np.zeros(0, np.float32))
        made = self.add(
            "Resize", f"{x} {empty} {scales}", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )
        rows, columns = (int(n) for n in self.constants[scales][2:])
        self.values[made] = (channels, height * rows, width * columns)

    def reduce(self, x: str, *shape: int) -> None:
        axes = self.pick([[2], [3], [2, 3], [-1, -2]])
        made = self.add(self.pick(["ReduceMax", "ReduceMin"]), x, axes=axes)
        self.values[made] = tuple(1 if i + 1 in [a % 4 for a in axes] else n for i, n in enumerate(shape))


_STEPS: list[Callable] = [
    *(_Writer.unary, _Writer.with_constant, _Writer.with_tensor, _Writer.conv, _Writer.conv, _Writer.max_pool),
    *(_Writer.pad, _Writer.cut, _Writer.divide, _Writer.concat, _Writer.shuffle, _Writer.turn, _Writer.there_and_back),
    *(_Writer.regroup, _Writer.enlarge, _Writer.reduce),
]


def random_graph(seed: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model with one to three outputs, one of them perhaps flat, and two images for it."""
    writer = _Writer(np.random.default_rng(seed))
    for _ in range(int(writer.rng.integers(2, 14))):
        writer.step()
    last = list(writer.values)[-1]
    writer.conv(last, *writer.values[last])
    names = list(writer.values)
    ends = list(dict.fromkeys([names[-1], *(writer.pick(names[1:]) for _ in range(int(writer.rng.integers(0, 3))))]))
    if writer.rng.random() < 0.3:
        ends.append(writer.add("Flatten", writer.pick(names[1:])))
    document = model(writer.nodes, ["n", *writer.input], writer.constants, outputs=ends, opset=15)
    return document, writer.integers(-3, 3, 2, *writer.input)


def difference(seed: int) -> str | None:
    """What is wrong with the program of a random graph; None for nothing."""
    document, x = random_graph(seed)
    expected = floats(document, x)
    program = npu.compile(document, fmt=EXACT)
    reference = npu.reference.run(program, x)
    found = npu.Native(program, threads=1 + seed % 4).run(x)
    for name, values in expected.items():
        if reference[name].shape != values.shape or not np.array_equal(reference[name], values):
            said = f"seed {seed}: output {name} is not that of ONNX Runtime"
            return f"{said}\n{onnx.printer.to_text(document)}\n{program.listing()}"
        if reference[name].tobytes() != found[name].tobytes():
            return f"seed {seed}: output {name} has other bits in the native kernel\n{program.listing()}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        found = difference(seed)
        if found:
            sys.exit(found)
    print(f"{chosen.count} random graphs equal ONNX Runtime, the native kernel has the reference's bits")


if __name__ == "__main__":
    main()
