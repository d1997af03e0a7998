"""Nodes that work value by value: constants per channel, tensors with tensors, activations."""

from collections.abc import Sequence
from math import prod

import numpy as np
from onnx import NodeProto

from amlrealtimeai.npu.lowering.graph import Refusal, attributes, invalid, label, places
from amlrealtimeai.npu.lowering.layers import Layer, LayerList, Step
from amlrealtimeai.npu.lowering.views import BATCH, View, described, extents

_HARD_SWISH = (float(np.float32(1 / 6)), 0.5)


def batch_norm(found: LayerList, node: NodeProto) -> None:
    """BatchNormalization at inference, along the second axis."""
    view, values = found.plain_view(node), attributes(node)
    if values.get("training_mode") or any(node.output[1:]):
        raise Refusal("it is in training mode", "a model exported for inference")
    if values.get("spatial", 1) == 0:
        raise Refusal("its constants vary inside the image (spatial = 0)", "one constant per channel")
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (found.required(node, 1 + i, n).astype(np.float64) for i, n in enumerate(names))
    channels = extents(view.axes)[1] if len(view.axes) > 1 else 0
    if {part.size for part in (gamma, beta, mean, variance)} != {channels}:
        raise invalid(node, f"expected {channels} values of each constant")
    divisor = variance + values.get("epsilon", 1e-5)
    if (divisor <= 0).any():
        raise invalid(
            node,
            f"its variance + epsilon is {divisor.min()}, "
            "expected a positive number: the result would be NaN or infinite",
        )
    parts = [part.reshape(-1, *[1] * (len(view.axes) - 2)) for part in (gamma / np.sqrt(divisor), beta, mean)]
    view, (gain, bias, mean) = _per_channel(found, node, view, parts)
    _add_affine(found, node, view, gain, bias, mean)


def _add_affine(
    found: LayerList,
    node: NodeProto,
    view: View,
    gain: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray | None = None,
    what: str = "",
) -> View:
    output = found.unused(f"{node.output[0]}/{what}") if what else node.output[0]
    shape = found.shapes[view.tensor]
    layer = Layer("affine", label(node), (view.tensor,), output, shape, gain=gain, bias=bias, mean=mean)
    return found.add_layer(layer, view.axes)


def _per_channel(
    found: LayerList, node: NodeProto, view: View, constants: Sequence[np.ndarray]
) -> tuple[View, list[np.ndarray]]:
    """Each constant, which is spread over the view's axes, as float64 [channels]; the view, rearranged for that."""
    spread = [_spread(found, view, constant) for constant in constants]
    varying = {len(view.axes) - c.ndim + i for c in constants for i, size in enumerate(c.shape) if size != 1}
    if any(values is None for values in spread) and len(varying) == 1 and 0 not in varying and len(view.axes) <= 4:
        others = iter("hw")
        letters = ["c" if i in varying else next(others) for i in range(1, len(view.axes))]
        view = found.rearranged(node, view, "n" + "".join(letters))
        spread = [_spread(found, view, constant) for constant in constants]
    values = [found_values for found_values in spread if found_values is not None]
    if len(values) < len(constants):
        shapes = ", ".join(str(list(constant.shape)) for constant in constants)
        problem = f"its constant {shapes} does not vary by channel of {described(view.axes)}"
        raise Refusal(problem, "one number per channel, or one for all")
    return view, values


def _spread(found: LayerList, view: View, constant: np.ndarray) -> np.ndarray | None:
    """A constant as float64 [channels]; None where it varies along something else."""
    channels, rank = found.shapes[view.tensor][2], len(view.axes)
    if constant.ndim > rank:
        return None
    if constant.size == 1:
        return np.full(channels, constant.reshape(-1)[0], np.float64)
    sizes = (1,) * (rank - constant.ndim) + constant.shape
    wide = [i for i, size in enumerate(sizes) if size != 1]
    parts = [part for i in wide for part in view.axes[i]]
    fits = all(sizes[i] == extents(view.axes)[i] for i in wide)
    if not fits or any(letter != "c" for letter, _, _ in parts):
        return None
    # one axis for each part of the channels, those that the constant lacks of size 1
    every = [part for axis in view.axes for part in axis if part[0] == "c"]
    shaped = constant.reshape([part[1] if part in parts else 1 for part in every])
    outer_first = sorted(range(len(every)), key=lambda i: -every[i][2])
    full = np.broadcast_to(shaped, [part[1] for part in every]).transpose(outer_first)
    return full.reshape(-1).astype(np.float64)


def _aligned(found: LayerList, node: NodeProto, view: View, constant: np.ndarray) -> np.ndarray:
    """The constant with the axes that the `axis` of old opsets means."""
    values = attributes(node)
    if found.graph.opset >= 7 or not values.get("broadcast") or "axis" not in values or constant.ndim == 0:
        return constant
    behind = len(view.axes) - values["axis"] % len(view.axes) - constant.ndim
    return constant.reshape(constant.shape + (1,) * max(0, behind))


def arithmetic(found: LayerList, node: NodeProto) -> None:
    """Add, Sub, Mul and Div with a constant per channel; Add, Sub and Mul of two tensors."""
    op = node.op_type
    constants = [found.graph.constant(name) is not None for name in node.input]
    if not any(constants):
        return _of_tensors(found, node)
    number = constants.index(False)
    if number == 1 and op == "Div":
        raise Refusal("it divides by a tensor", "a constant divisor")
    view = found.plain_view(node, number)
    constant = _aligned(found, node, view, found.required(node, 1 - number, "constant operand"))
    if constant.ndim > len(view.axes):
        raise Refusal(f"its constant {list(constant.shape)} adds axes", "a constant with no more axes")
    view, (values,) = _per_channel(found, node, view, [constant])
    if op == "Div" and (values == 0).any():
        raise invalid(node, "it divides by zero")
    gain = {"Mul": values, "Div": 1 / values if op == "Div" else None}.get(op)
    bias = {"Add": values, "Sub": -values}.get(op)
    if op == "Sub" and number == 1:
        gain, bias = np.full(len(values), -1.0), values
    _add_affine(found, node, view, gain, bias)
    return None


def _of_tensors(found: LayerList, node: NodeProto) -> None:
    op = node.op_type
    if op == "Div":
        raise Refusal("it divides by a tensor", "a constant divisor; end the program before a normalisation")
    if op in ("Add", "Mul", "Sub"):
        first, second = found.plain_view(node, 0), found.plain_view(node, 1)
        if op == "Sub":
            gain = np.full(found.shapes[second.tensor][2], -1.0)
            second = _add_affine(found, node, second, gain, None, what="negative")
        _combine(found, node, "mul" if op == "Mul" else "add", first, second, node.output[0])


def _combine(found: LayerList, node: NodeProto, op: str, first: View, second: View, output: str) -> View:
    """The sum or product of two tensors; the larger one comes first, the other may be of size 1 along some axes."""
    rank = max(len(first.axes), len(second.axes))
    if len(first.axes) != len(second.axes):
        raise Refusal(f"it combines {described(first.axes)} with {described(second.axes)}", "tensors with as many axes")
    if not _fits(found, first, second) and not _fits(found, second, first) and 2 <= rank <= 4:
        first, second = (found.rearranged(node, view) for view in (first, second))
    if not _fits(found, first, second):
        first, second = second, first
    if not _fits(found, first, second):
        sizes = [f"{described(view.axes)} {extents(view.axes)}" for view in (first, second)]
        raise Refusal(f"it combines {sizes[0]} with {sizes[1]}", "sizes that are equal, or 1 in one of them")
    shape = found.shapes[first.tensor]
    layer = Layer(op, label(node), (first.tensor, second.tensor), output, shape)
    return found.add_layer(layer, first.axes)


def _fits(found: LayerList, whole: View, other: View) -> bool:
    """Whether the second tensor is the first's, or of size 1 along some of its letters."""
    pairs = zip(found.shapes[whole.tensor], found.shapes[other.tensor], strict=True)
    axes = all(b in (a, ()) for a, b in zip(whole.axes, other.axes, strict=True))
    return axes and all(b in (a, 1) for a, b in pairs)


def _check_equal_shapes(found: LayerList, node: NodeProto) -> None:
    """Before opset 8 Sum, Mean, Max and Min do not broadcast. Raises InvalidInputError."""
    constants = [found.graph.constant(name) for name in node.input]
    sizes = [extents(found.view(node, i).axes)[1:] if c is None else list(c.shape)[1:] for i, c in enumerate(constants)]
    ranks = {len(found.view(node, i).axes) if c is None else c.ndim for i, c in enumerate(constants)}
    if found.graph.opset < 8 and (len(ranks) > 1 or any(list(size) != list(sizes[0]) for size in sizes)):
        raise invalid(node, "its inputs differ in shape, from opset 8 on they may")


def total(found: LayerList, node: NodeProto) -> None:
    """Sum and Mean of any number of tensors and constants."""
    _check_equal_shapes(found, node)
    count = len(node.input)
    varying = [i for i, name in enumerate(node.input) if found.graph.constant(name) is None]
    views = [found.plain_view(node, i) for i in varying]
    factor = 1 / count if node.op_type == "Mean" else 1.0
    view = views[0]
    for number, other in enumerate(views[1:]):
        view = _combine(found, node, "add", view, other, found.unused(f"{node.output[0]}/sum{number}"))
    bias = None
    for i in range(count):
        if i not in varying:
            view, (values,) = _per_channel(found, node, view, [found.required(node, i, "operand")])
            bias = values if bias is None else bias + values
    if factor == 1 and bias is None:
        found.views[node.output[0]] = view
        return
    channels = found.shapes[view.tensor][2]
    gain = None if factor == 1 else np.full(channels, factor)
    _add_affine(found, node, view, gain, None if bias is None else bias * factor)


def _activate(found: LayerList, node: NodeProto, view: View, *steps: Step) -> None:
    found.add_steps(node, view, steps, found.shapes[view.tensor])


def relu(found: LayerList, node: NodeProto) -> None:
    """Relu."""
    _activate(found, node, found.plain_view(node), Step("v_relu"))


def clip(found: LayerList, node: NodeProto) -> None:
    """Clip, also as Relu where only 0 is a limit."""
    values = attributes(node)
    limits = []
    for number, (name, free) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = found.constant(node, number)
        if given is None and number < len(node.input) and node.input[number]:
            raise Refusal(f"its {name} is computed", "constant limits")
        limits.append(float(np.float32(values.get(name, free) if given is None else given.reshape(-1)[0])))
    if limits[0] > limits[1] and len(node.input) == 1:
        raise invalid(node, f"its min {limits[0]} is more than its max {limits[1]}")
    _limit(found, node, found.plain_view(node), *limits)


def _limit(found: LayerList, node: NodeProto, view: View, low: float, high: float) -> None:
    largest = float(np.finfo(np.float32).max)
    low, high = (-np.inf if low <= -largest else low), (np.inf if high >= largest else high)
    if np.isnan(low) or np.isnan(high) or low == np.inf or high == -np.inf:
        raise invalid(node, f"its limits are {low} and {high}")
    if (low, high) == (-np.inf, np.inf):
        found.views[node.output[0]] = view
    elif (low, high) == (0, np.inf):
        _activate(found, node, view, Step("v_relu"))
    else:
        _activate(found, node, view, Step("v_clip", (low, high)))


def extreme(found: LayerList, node: NodeProto) -> None:
    """Max and Min of one tensor and numbers."""
    _check_equal_shapes(found, node)
    varying = [i for i, name in enumerate(node.input) if found.graph.constant(name) is None]
    if len(varying) != 1:
        raise Refusal(f"it compares {len(varying)} tensors", "one tensor with numbers")
    numbers = [found.required(node, i, "operand") for i in range(len(node.input)) if i != varying[0]]
    rank = len(found.view(node, varying[0]).axes)
    if any(np.unique(values).size != 1 or values.ndim > rank for values in numbers):
        raise Refusal("its constant operand varies", "one number for all values")
    view = found.plain_view(node, varying[0])
    if any(size not in (1, extents(view.axes)[-1 - i]) for v in numbers for i, size in enumerate(v.shape[::-1])):
        raise Refusal("its constant operand makes the result larger", "one number for all values")
    limits = [float(values.reshape(-1)[0]) for values in numbers]
    if node.op_type == "Max":
        _limit(found, node, view, max(limits, default=-np.inf), np.inf)
    else:
        _limit(found, node, view, -np.inf, min(limits, default=np.inf))


def sloped(found: LayerList, node: NodeProto) -> None:
    """LeakyRelu, PRelu, Abs: another slope below 0."""
    view = found.plain_view(node)
    if node.op_type == "PRelu":
        slope = found.required(node, 1, "slope")
        if found.graph.opset < 7 and slope.ndim == 1:
            slope = slope.reshape(-1, *[1] * (len(view.axes) - 2))
        view, (slopes,) = _per_channel(found, node, view, [slope])
    else:
        slopes = np.full(1, -1.0 if node.op_type == "Abs" else attributes(node).get("alpha", 0.01))
    vector = np.broadcast_to(slopes.astype(np.float32), found.shapes[view.tensor][2:])
    _activate(found, node, view, Step("v_prelu", vector=vector))


def negative(found: LayerList, node: NodeProto) -> None:
    """Neg."""
    view = found.plain_view(node)
    _add_affine(found, node, view, np.full(found.shapes[view.tensor][2], -1.0), None)


def threshold(found: LayerList, node: NodeProto) -> None:
    """ThresholdedRelu."""
    alpha = float(np.float32(attributes(node).get("alpha", 1.0)))
    _activate(found, node, found.plain_view(node), Step("v_threshold", (alpha,)) if alpha else Step("v_relu"))


def curved(found: LayerList, node: NodeProto) -> None:
    """Sigmoid, HardSigmoid, HardSwish and Swish."""
    values = attributes(node)
    hard = (values.get("alpha", 0.2), values.get("beta", 0.5))
    if node.op_type == "Swish" and values.get("alpha", 1.0) != 1:
        raise Refusal(f"its alpha is {values['alpha']}", "Swish with alpha 1")
    step = {
        "Sigmoid": Step("v_sigmoid"),
        "Swish": Step("v_silu"),
        "HardSigmoid": Step("v_hsigmoid", hard),
        "HardSwish": Step("v_hswish", _HARD_SWISH),
    }[node.op_type]
    _activate(found, node, found.plain_view(node), step)


def softmax(found: LayerList, node: NodeProto) -> None:
    """Softmax over two positions, as split attention has it: the sigmoid of one less the other."""
    view = found.plain_view(node)
    old, rank = found.graph.opset < 13, len(view.axes)
    (axis,) = places(node, [attributes(node).get("axis", 1 if old else -1)], rank)
    sizes = extents(view.axes)
    # before opset 13 it is over all the axes from there on
    over = [i for i in range(axis, rank) if sizes[i] != 1] if old else [axis]
    count = prod(sizes[i] for i in over)
    if count != 2 or view.axes[over[0]] == BATCH:
        nearest = "Softmax over 2 positions; a featurizer that ends before it; the classifier runs on the host"
        raise Refusal(f"it is over {count} positions", nearest)
    other = found.selected(node, view, {over[0]: np.array([1, 0])})
    gain = np.full(found.shapes[other.tensor][2], -1.0)
    other = _add_affine(found, node, other, gain, None, what="other")
    difference = _combine(found, node, "add", view, other, found.unused(f"{node.output[0]}/difference"))
    _activate(found, node, difference, Step("v_sigmoid"))


def power(found: LayerList, node: NodeProto) -> None:
    """Pow with the constant exponent 1 or 2."""
    exponent = found.weights(node, 1, "exponent")
    if exponent is None or exponent.size != 1 or float(exponent.reshape(-1)[0]) not in (1, 2):
        raise Refusal("its exponent is not 1 or 2", "the constant exponents 1 and 2; the rest on the host")
    view = found.plain_view(node)
    if exponent.ndim > len(view.axes):
        raise Refusal(f"its exponent {list(exponent.shape)} adds axes", "one number")
    if float(exponent.reshape(-1)[0]) == 1:
        found.views[node.output[0]] = view
    else:
        _combine(found, node, "mul", view, view, node.output[0])


def where(found: LayerList, node: NodeProto) -> None:
    """Where with a constant condition that is the same everywhere."""
    condition = found.constant(node, 0)
    if condition is None or np.unique(condition).size != 1:
        raise Refusal("its condition is computed or varies", "a constant condition, the same everywhere")
    number = 1 if condition.reshape(-1)[0] else 2
    view = found.plain_view(node, number)
    if condition.ndim > len(view.axes) or condition.size > 1:
        raise Refusal("its condition has several values", "a condition of one value")
    other = found.graph.constant(node.input[3 - number])
    sizes = extents(found.view(node, 3 - number).axes) if other is None else list(other.shape)
    aligned = zip(sizes[::-1], extents(view.axes)[::-1], strict=False)
    if len(sizes) > len(view.axes) or any(size not in (1, whole) for size, whole in aligned):
        raise Refusal("what it does not choose makes the result larger", "operands of one size")
    found.views[node.output[0]] = view
