"""Nodes with unusual attributes, shapes and opsets, which random_spellings.py joins to graphs."""

import numpy as np

_OPSETS = [6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]


class Draw:
    """Everything of one graph comes from its seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.constants: dict[str, np.ndarray] = {}
        self.opset = int(self.pick(_OPSETS))
        self.rank = int(self.pick([4, 4, 4, 4, 3, 2]))

    def pick(self, values):
        return values[int(self.rng.integers(len(values)))]

    def maybe(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def numbers(self, low: int, high: int, usual: int) -> list[int]:
        count = usual if self.maybe(0.93) else self.number(0, 5)
        return [self.number(low, high) for _ in range(count)]

    def constant(self, values, dtype=np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(values, dtype)
        return name

    def integers(self, values) -> str:
        return self.constant(values, np.int64 if self.maybe(0.95) else np.int32)

    def tensor(self, *shape: int) -> str:
        return self.constant(self.rng.integers(-2, 3, shape))

    def odd(self, shape: list[int]) -> list[int]:
        """Mostly that shape, sometimes one that is broadcast or does not fit."""
        shape = list(shape)
        if self.maybe(0.4):
            shape = [n if self.maybe() else 1 for n in shape]
        if self.maybe(0.3):
            shape = shape[self.number(0, len(shape)) :]
        if self.maybe(0.1):
            shape = [1, *shape]
        if self.maybe(0.06) and shape:
            shape[self.number(0, len(shape) - 1)] = self.number(0, 3)
        return shape


def _window(d: Draw, count: int) -> dict:
    options = {}
    if d.maybe():
        options["strides"] = d.numbers(1 if d.maybe(0.95) else -1, 3, count)
    if d.maybe(0.3):
        options["dilations"] = d.numbers(1 if d.maybe(0.95) else 0, 2, count)
    if d.maybe():
        options["pads"] = d.numbers(0 if d.maybe(0.95) else -1, 2, 2 * count)
    if d.maybe(0.25):
        options["auto_pad"] = d.pick(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "SAME", "notset"])
    return options


def conv(d, x, shape):
    spatial = d.rank - 2
    channels = shape[1] if d.maybe(0.95) else d.number(0, 5)
    groups = d.pick([1, 1, 1, channels or 1, 2, 0, 3])
    w = d.tensor(
        d.number(1, 2) * max(1, groups) + d.number(0, 10) // 10,
        max(0, channels // max(1, groups)),
        *d.numbers(1, 3, spatial),
    )
    inputs = [x, w] + ([d.tensor(*d.odd([d.constants[w].shape[0]]))] if d.maybe(0.4) else [])
    options = _window(d, spatial)
    if groups != 1 or d.maybe(0.1):
        options["group"] = groups
    if d.maybe(0.2):
        options["kernel_shape"] = list(d.constants[w].shape[2:]) if d.maybe(0.8) else d.numbers(1, 3, spatial)
    return "Conv", inputs, options


def transposed(d, x, shape):
    spatial = d.rank - 2
    groups = d.pick([1, 1, 2, shape[1]])
    w = d.tensor(shape[1] if d.maybe(0.95) else 2, d.number(1, 3), *d.numbers(1, 3, spatial))
    options = _window(d, spatial) | ({"group": groups} if groups != 1 else {})
    if d.maybe(0.2):
        options["output_padding"] = d.numbers(0, 1, spatial)
    if d.maybe(0.1):
        options["output_shape"] = d.numbers(5, 12, spatial)
    inputs = [x, w] + ([d.tensor(*d.odd([d.constants[w].shape[1] * groups]))] if d.maybe(0.3) else [])
    return "ConvTranspose", inputs, options


def pool(d, x, shape):
    op, options = d.pick(["MaxPool", "AveragePool"]), _window(d, d.rank - 2)
    options["kernel_shape"] = d.numbers(1, 3, d.rank - 2)
    if d.maybe(0.3):
        options["ceil_mode"] = d.number(0, 2)
    if op == "AveragePool":
        if d.opset < 19:
            options.pop("dilations", None)
        if d.maybe(0.3):
            options["count_include_pad"] = d.number(0, 2)
    elif d.maybe(0.1):
        options["storage_order"] = d.number(0, 1)
    return op, [x], options


def plain(d, x, shape):
    op = d.pick(
        ["Relu", "Neg", "Abs", "Identity", "GlobalMaxPool", "GlobalAveragePool", "Sigmoid", "HardSwish", "Flatten"]
    )
    options = {"axis": d.number(-5, 5)} if op == "Flatten" and d.maybe() else {}
    return op, [x], options


def sloped(d, x, shape):
    op = d.pick(["LeakyRelu", "HardSigmoid", "ThresholdedRelu"])
    options = {"alpha": float(d.number(-2, 3)) / 2} if d.maybe(0.7) else {}
    if op == "HardSigmoid" and d.maybe():
        options["beta"] = float(d.number(-1, 2)) / 2
    return op, [x], options


def prelu(d, x, shape):
    return "PRelu", [x, d.tensor(*d.odd(shape[1:]))], {}


def two(d, x, shape):
    op = d.pick(["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow"])
    other = d.pick(["x", "c", x]) if d.maybe(0.25) else d.tensor(*d.odd(shape))
    if op == "Div" and other in d.constants:
        d.constants[other] = np.where(d.constants[other] == 0, 4, d.constants[other] * 2).astype(np.float32)
    if op == "Pow":
        other = d.constant(d.number(0, 3))
    pair = [x, other] if d.maybe(0.7) else [other, x]
    if op in ("Max", "Min", "Sum", "Mean") and d.maybe(0.2):
        pair.append(d.tensor(*d.odd([1] * len(shape))))
    options = {}
    if d.opset < 7 and op in ("Add", "Sub", "Mul", "Div"):
        options = {"broadcast": 1} | ({"axis": d.number(0, 3)} if d.maybe() else {})
    return op, pair, options


def clip(d, x, shape):
    if d.opset < 11:
        return "Clip", [x], {k: float(d.number(-3, 3)) for k in ("min", "max") if d.maybe(0.7)}
    limits = [d.constant(np.float32(d.number(-3, 3))) if d.maybe(0.8) else "" for _ in range(2)]
    return "Clip", [x, *limits], {}


def norm(d, x, shape):
    c = shape[1] if d.maybe(0.95) else 3
    parts = [d.tensor(c) for _ in range(3)] + [d.constant(np.full(c, d.pick([1, 4, 0.25, -1])))]
    options = {"epsilon": d.pick([0.0, 1e-5, 3.0])} if d.maybe() else {}
    return "BatchNormalization", [x, *parts], options


def reduce(d, x, shape):
    op = d.pick(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    axes = [d.number(-len(shape), len(shape) - 1) for _ in range(d.number(0, 3))]
    if d.maybe(0.8):
        axes = [a for a in axes if a % len(shape)] or [len(shape) - 1]
    options = {"keepdims": d.number(0, 1)} if d.maybe() else {}
    as_input = d.opset >= (13 if op == "ReduceSum" else 18)
    if as_input and d.maybe(0.1):
        options["noop_with_empty_axes"] = 1
    if d.maybe(0.9):
        if as_input:
            return op, [x, d.constant(axes, np.int64)], options
        options["axes"] = axes
    return op, [x], options


def reshape(d, x, shape):
    total = int(np.prod(shape[1:]))
    rest = d.pick(
        [[total], [-1], shape[1:], [shape[1], -1], [0, -1], [2, total // 2], shape[:0:-1], [1, total, 1], [3, -1]]
    )
    first = d.pick([-1, -1, 0, 1, 2])
    target = [first, *rest]
    if target.count(-1) > 1 and d.maybe(0.9):
        target[0] = 0
    options = {"allowzero": 1} if d.opset >= 14 and d.maybe(0.1) else {}
    return "Reshape", [x, d.constant(target, np.int64)], options


def transpose(d, x, shape):
    order = [0, *(1 + d.rng.permutation(len(shape) - 1)).tolist()]
    if d.maybe(0.1):
        order = d.rng.permutation(len(shape)).tolist()
    if d.maybe(0.05):
        order[0] = -1
    return "Transpose", [x], {"perm": [int(i) for i in order]} if d.maybe(0.9) else {}


def squeeze(d, x, shape):
    op = d.pick(["Squeeze", "Unsqueeze"])
    axes = [d.number(-len(shape), len(shape)) for _ in range(d.number(1, 2))]
    if d.opset >= 13:
        return op, [x, d.constant(axes, np.int64)] if d.maybe(0.9) else [x], {}
    return op, [x], {"axes": axes} if d.maybe(0.9) else {}


def cut(d, x, shape):
    count = d.number(1, 2)
    starts = [d.number(-8, 8) for _ in range(count)]
    ends = [d.pick([d.number(-8, 8), 2**31 - 1, 2**63 - 1, -(2**31)]) for _ in range(count)]
    axes = [d.number(-len(shape), len(shape) - 1) for _ in range(count)]
    if d.opset < 10:
        return "Slice", [x], {"starts": starts, "ends": ends} | ({"axes": axes} if d.maybe(0.9) else {})
    steps = [d.pick([1, 1, 2, -1, -2, 3, 0]) for _ in range(count if d.maybe(0.95) else count + 1)]
    inputs = [x, *(d.constant(v, np.int64) for v in (starts, ends, axes, steps))]
    return "Slice", inputs[: d.pick([3, 4, 5, 5, 5])], {}


def split(d, x, shape):
    axis = d.number(-len(shape), len(shape) - 1)
    size = shape[axis]
    parts = [d.number(0 if d.maybe(0.1) else 1, max(1, size - 1))]
    parts.append(size - parts[0] + (d.number(0, 20) == 0))
    options = {"axis": axis} if d.maybe(0.9) else {}
    if d.maybe(0.6):
        if d.opset >= 13:
            return "Split", [x, d.constant(parts, np.int64)], options
        options["split"] = parts
    elif d.opset >= 18:
        options["num_outputs"] = 2 if d.maybe(0.9) else 3
    return "Split", [x], options


def gather(d, x, shape):
    axis = d.number(-len(shape), len(shape) - 1)
    size = shape[axis]
    indices = [d.number(-size, size - 1 + d.number(0, 20) // 20) for _ in range(d.number(1, 4))]
    values = d.pick([indices, indices, indices[0], [indices]])
    return "Gather", [x, d.constant(values, np.int64)], {"axis": axis} if d.maybe(0.9) else {}


def concat(d, x, shape):
    others = [d.pick([x, x, "c", "x"]) if d.maybe(0.9) else d.tensor(*shape) for _ in range(d.number(0, 2))]
    return "Concat", [x, *others], {"axis": d.number(-len(shape), len(shape) - 1)}


def pad(d, x, shape):
    rank = len(shape)
    pads = [d.number(-1, 2) if i % rank > 1 or d.maybe(0.1) else 0 for i in range(2 * rank)]
    mode = d.pick(["constant", "constant", "edge", "reflect", "wrap", "other"])
    options = {"mode": mode} if mode != "constant" or d.maybe() else {}
    if d.opset < 11:
        return "Pad", [x], options | {"pads": pads} | ({"value": float(d.number(-1, 2))} if d.maybe(0.3) else {})
    inputs = [x, d.constant(pads, np.int64)] + ([d.constant(np.float32(d.number(-1, 2)))] if d.maybe(0.3) else [])
    if d.opset >= 18 and d.maybe(0.2):
        axes = [d.number(-rank, rank - 1) for _ in range(2)]
        inputs = [x, d.constant(pads[:4], np.int64), "", d.constant(axes, np.int64)]
    return "Pad", inputs, options


def resize(d, x, shape):
    if d.opset < 11:
        scales = d.constant([1, *(d.pick([1, 2, 0.5, 1.5]) if i else 1.0 for i in range(len(shape) - 1))])
        return ("Upsample" if d.opset in (9,) else "Resize"), [x, scales], {"mode": d.pick(["nearest", "linear"])}
    options = {"mode": d.pick(["nearest", "nearest", "linear", "cubic"])}
    if d.maybe(0.8):
        options["coordinate_transformation_mode"] = d.pick(
            [
                "half_pixel",
                "asymmetric",
                "align_corners",
                "pytorch_half_pixel",
                "tf_half_pixel_for_nn",
                "half_pixel_symmetric",
            ]
        )
    if d.maybe():
        options["nearest_mode"] = d.pick(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil", "none"])
    if d.opset >= 18 and d.maybe(0.2):
        options["keep_aspect_ratio_policy"] = d.pick(["stretch", "not_larger", "not_smaller"])
    scales = [1.0, 1.0, *(d.pick([1, 2, 0.5, 1.5, 0.7, 3, 1.3]) for _ in shape[2:])]
    if d.opset >= 18 and d.maybe(0.2):
        options["axes"] = list(range(2, len(shape)))
        scales = scales[2:]
    scales = scales[: max(1, len(shape))] if len(scales) > len(shape) else scales
    empty = d.constant(np.zeros(0))
    if d.maybe(0.6):
        return "Resize", [x, empty, d.constant(scales)], options
    sizes = [int(np.floor(n * s)) or 1 for n, s in zip(shape[-len(scales) :], scales, strict=True)]
    if len(scales) == len(shape):
        sizes[0] = 1 if d.maybe() else 2
    return "Resize", [x, empty, d.constant(np.zeros(0)) if d.maybe() else "", d.constant(sizes, np.int64)], options


def space(d, x, shape):
    op, size = d.pick(["DepthToSpace", "SpaceToDepth"]), d.pick([1, 2, 2, 2, 3, 0, -1])
    options = {"blocksize": size}
    if op == "DepthToSpace" and d.opset >= 11 and d.maybe():
        options["mode"] = d.pick(["DCR", "CRD", "XYZ"])
    return op, [x], options


def dense(d, x, shape):
    if d.maybe() or len(shape) != 2:
        k = shape[-1] if d.maybe(0.95) else 3
        w = d.pick([(k, 3), (k, 3), (1, k, 3), (2, k, 3), (k,), (1, 1, 1, k, 2)])
        return "MatMul", [x, d.tensor(*w)] if d.maybe(0.9) else [d.tensor(3, shape[-2]), x], {}
    options = {"transB": d.number(0, 1)} | ({"alpha": 2.0, "beta": d.pick([0.5, 0.0])} if d.maybe(0.3) else {})
    k = shape[1] if d.maybe(0.95) else 5
    w = (3, k) if options["transB"] else (k, 3)
    bias = [d.tensor(*d.odd([1, 3]))] if d.maybe(0.7) else []
    if d.opset < 7 and d.maybe():
        options["broadcast"] = 1
    if d.maybe(0.05):
        options["transA"] = 1
    return "Gemm", [x, d.tensor(*w), *bias], options


def expand(d, x, shape):
    op = d.pick(["Expand", "Tile"])
    if op == "Tile":
        return (
            op,
            [
                x,
                d.constant(
                    [d.pick([1, 1, 2, 3]) if i else 1 for i in range(len(shape) - (d.number(0, 12) == 0))], np.int64
                ),
            ],
            {},
        )
    return (
        op,
        [x, d.constant([n if d.maybe() else d.pick([1, 2, n]) if i else 1 for i, n in enumerate(shape)], np.int64)],
        {},
    )


def softmax(d, x, shape):
    return "Softmax", [x], {"axis": d.number(-len(shape), len(shape) - 1)} if d.maybe(0.8) else {}


def lrn(d, x, shape):
    return (
        "LRN",
        [x],
        {
            "size": d.number(0, 6),
            "alpha": d.pick([1e-4, 1.0, 0.0]),
            "beta": d.pick([0.5, 0.75, 1.0]),
            "bias": d.pick([1.0, 2.0]),
        },
    )


def cast(d, x, shape):
    return "Cast", [x], {"to": d.pick([1, 1, 11, 10, 7])}


def dropout(d, x, shape):
    if d.opset < 12:
        return "Dropout", [x], {"ratio": 0.5} if d.maybe() else {}
    return "Dropout", [x, d.constant(np.float32(0.5)), d.constant(d.maybe(0.1), bool)], {}


def where(d, x, shape):
    condition = d.constant(np.full(d.odd(shape), d.maybe()), bool)
    pair = [x, d.pick(["c", d.tensor(*d.odd(shape))])]
    return "Where", [condition, *(pair if d.maybe() else pair[::-1])], {}


STEPS = [
    *(conv, conv, transposed, pool, pool, plain, sloped, prelu, two, two, two, clip, norm, reduce, reduce, reshape),
    *(transpose, squeeze, cut, cut, split, gather, concat, pad, pad, resize, resize, space, dense, expand, softmax),
    *(lrn, cast, dropout, where),
]
