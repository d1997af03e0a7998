"""Turns the nodes of an ONNX graph into layers, one function per operation."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError
from amlrealtimeai.npu.layers import Layer, LayerList
from amlrealtimeai.npu.onnx_graph import (
    AXES,
    Graph,
    Pads,
    Refusal,
    UnknownValueError,
    View,
    attributes,
    label,
    normal,
    reshaped,
    unsupported,
)
from amlrealtimeai.npu.program import Window

_NCHW = AXES["nchw"]
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_NEAREST = {
    "ConvTranspose": "Conv",
    "Softmax": "a featurizer that ends before it; the classifier runs on the host",
    "LogSoftmax": "a featurizer that ends before it; the classifier runs on the host",
    **dict.fromkeys(
        ("LpNormalization", "ReduceL2", "ReduceSum", "ReduceSumSquare", "Pow", "Sqrt", "Rsqrt"),
        "a featurizer that ends before it; the host normalises in float32 (and a second program may read the result)",
    ),
}


def lower(graph: Graph) -> LayerList:
    """Every node of `graph` as layers, or among the blockers. Raises InvalidInputError."""
    layers = LayerList(graph)
    for node in graph.nodes:
        try:
            _lower_node(layers, node)
            layers.follow(node, node.op_type in _PRODUCTS)
        except Refusal as refusal:
            layers.block(node, refusal)
        except UnknownValueError:
            layers.follow(node, False)
        except AmlRealtimeAiError:
            raise
        except Exception as error:  # a node that breaks ONNX's rules fails in NumPy, onnx or here, each in its way
            raise InvalidInputError(
                f"node {label(node)} ({node.op_type}) is malformed ({type(error).__name__}: {error}); "
                "see what onnx.checker.check_model says of the model"
            ) from error
    return layers


def _lower_node(layers: LayerList, node: NodeProto) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise unsupported(node, f"operations of domain {node.domain} are unknown", "standard ONNX operations")
    if layers.graph.fold(node):
        return
    handler = _HANDLERS.get(node.op_type)
    if handler is None:
        nearest = _NEAREST.get(node.op_type, ", ".join(sorted(_HANDLERS)))
        raise unsupported(node, "the NPU has no such operation", nearest)
    handler(layers, node)


def _pass(found: LayerList, node: NodeProto) -> None:
    values = attributes(node)
    if node.op_type == "Cast" and values["to"] != TensorProto.FLOAT:
        raise unsupported(node, f"it casts to {TensorProto.DataType.Name(values['to'])}", "Cast to FLOAT (a no-op)")
    found.views[node.output[0]] = found.view(node)


def _transpose(found: LayerList, node: NodeProto) -> None:
    view = found.view(node)
    order = attributes(node).get("perm") or list(range(len(view.axes)))[::-1]
    found.views[node.output[0]] = replace(view, axes=tuple(view.axes[i] for i in order))


def _reshape_to(found: LayerList, node: NodeProto, target: list[int]) -> None:
    view = found.plain_view(node)
    axes = reshaped(view.axes, found.shapes[view.tensor], target)
    if axes is None:
        raise unsupported(
            node, f"it regroups {list(view.axes)} as {target}", "reshapes that flatten, or add and drop axes of size 1"
        )
    found.views[node.output[0]] = replace(view, axes=axes)


def _reshape(found: LayerList, node: NodeProto) -> None:
    target = found.integers(node, "shape", 1)
    if target is None:
        raise InvalidInputError(f"node {label(node)} (Reshape) has no shape")
    _reshape_to(found, node, target)


def _flatten(found: LayerList, node: NodeProto) -> None:
    axis = attributes(node).get("axis", 1)
    if axis not in (1, 1 - len(found.view(node).axes)):
        raise unsupported(node, f"it flattens from axis {axis}", "Flatten with axis 1")
    _reshape_to(found, node, [0, -1])


def _squeeze(found: LayerList, node: NodeProto) -> None:
    view = found.plain_view(node)
    axes = found.integers(node, "axes", 1)
    chosen = {i % len(view.axes) for i in axes} if axes is not None else {i for i, a in enumerate(view.axes) if not a}
    if any(view.axes[i] for i in chosen):
        raise unsupported(
            node, f"it drops axes {sorted(chosen)} of {list(view.axes)}", "axes of size 1 after the batch"
        )
    found.views[node.output[0]] = replace(view, axes=tuple(a for i, a in enumerate(view.axes) if i not in chosen))


def _unsqueeze(found: LayerList, node: NodeProto) -> None:
    view = found.plain_view(node)
    new = found.integers(node, "axes", 1) or []
    rank = len(view.axes) + len(new)
    places, old = {i % rank for i in new}, iter(view.axes)
    found.views[node.output[0]] = replace(view, axes=tuple("" if i in places else next(old) for i in range(rank)))


def _shape(found: LayerList, node: NodeProto) -> None:
    view = found.plain_view(node)
    found.graph.fold_shape(node, view.axes, found.shapes[view.tensor])


def _pad(found: LayerList, node: NodeProto) -> None:
    view = found.view(node)
    amounts = found.integers(node, "pads", 1) or []
    chosen = found.integers(node, "axes", 3)
    value = found.weights(node, 2, "padding value")
    filler = float(value.reshape(-1)[0]) if value is not None else attributes(node).get("value", 0.0)
    if attributes(node).get("mode", "constant") != "constant" or filler != 0:
        raise unsupported(node, "it does not pad with zeros", "constant padding with 0")
    rank = len(view.axes)
    places = [i % rank for i in chosen] if chosen is not None else list(range(rank))
    pads = dict.fromkeys(("h0", "w0", "h1", "w1"), 0)
    for i, place in enumerate(places):
        before, after = amounts[i], amounts[i + len(places)]
        if (before, after) == (0, 0):
            continue
        if view.axes[place] not in ("h", "w") or before < 0 or after < 0:
            raise unsupported(node, f"pads {amounts} of {list(view.axes)}", "non-negative pads of height and width")
        pads[f"{view.axes[place]}0"], pads[f"{view.axes[place]}1"] = before, after
    found.views[node.output[0]] = replace(view, pads=_sum(view.pads, tuple(pads.values())))


def _sum(first: Pads, second: tuple[int, ...]) -> Pads:
    top, left, bottom, right = (a + b for a, b in zip(first, second, strict=True))
    return top, left, bottom, right


def _pair(values: list[int] | None, default: int = 1) -> tuple[int, int]:
    vertical, horizontal = values or (default, default)
    return vertical, horizontal


def _window(found: LayerList, node: NodeProto, kernel: tuple[int, int]) -> Window:
    """The node's window with its own pads, those of a Pad before it, and those that auto_pad or ceil_mode imply."""
    view, values = found.view(node), attributes(node)
    strides, dilations = _pair(values.get("strides")), _pair(values.get("dilations"))
    own = tuple(values.get("pads") or (0, 0, 0, 0))
    if min(*strides, *dilations, *kernel) < 1 or len(own) != 4 or min(own) < 0:
        given = f"strides {strides}, dilations {dilations}, kernel {kernel}, pads {own}"
        raise unsupported(node, f"it has {given}", "positive strides, dilations and kernel, four pads of 0 or more")
    automatic = values.get("auto_pad", "NOTSET")
    begins, ends = [], []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        size = found.shapes[view.tensor][axis] + view.pads[axis] + view.pads[axis + 2]
        begin, end = own[axis], own[axis + 2]
        if automatic in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
            begin = total // 2 if automatic == "SAME_UPPER" else total - total // 2
            end = total - begin
        elif automatic == "VALID":
            begin = end = 0
        if values.get("ceil_mode"):
            positions = -(-(size + begin + end - reach) // strides[axis]) + 1
            # a window that would start behind the data does not count
            positions -= (positions - 1) * strides[axis] >= size + begin
            end = max(end, (positions - 1) * strides[axis] + reach - size - begin)
        begins.append(begin)
        ends.append(end)
    window = Window(kernel, strides, dilations, _sum(view.pads, (*begins, *ends)))
    if min(window.output_size(*found.shapes[view.tensor][:2])) < 1:
        raise InvalidInputError(f"node {label(node)} ({node.op_type}): its window {window} does not fit its input")
    return window


def _conv(found: LayerList, node: NodeProto) -> None:
    view = found.image_view(node)
    weights = found.required(node, 1, "weights")
    if weights.ndim != 4:
        raise unsupported(node, f"its weights have {weights.ndim} axes", "two-dimensional Conv with 4")
    channels = found.shapes[view.tensor][2]
    groups = attributes(node).get("group", 1)
    if groups != 1:
        raise unsupported(node, f"it has {groups} groups", "Conv with group 1 (neither grouped nor depthwise)")
    if weights.shape[1] != channels:
        raise InvalidInputError(f"node {label(node)} (Conv): weights take {weights.shape[1]} channels, not {channels}")
    kernel = (weights.shape[2], weights.shape[3])
    if tuple(attributes(node).get("kernel_shape", kernel)) != kernel:
        given = attributes(node)["kernel_shape"]
        raise InvalidInputError(f"node {label(node)} (Conv): its kernel_shape is {given}, its weights are {kernel}")
    _add_product(found, node, weights.transpose(0, 2, 3, 1), _window(found, node, kernel), 2, _NCHW)


def _add_product(
    found: LayerList, node: NodeProto, weights: np.ndarray, window: Window, bias_at: int, axes: tuple[str, ...]
) -> None:
    view = found.view(node)
    bias = found.weights(node, bias_at, "bias")
    if bias is not None:
        if bias.size not in (1, len(weights)):
            found_text = f"{bias.size} values for {len(weights)} outputs"
            raise InvalidInputError(f"node {label(node)} ({node.op_type}): its bias has {found_text}")
        bias = np.broadcast_to(bias.astype(np.float64).reshape(-1), weights.shape[:1])
    shape = (*window.output_size(*found.shapes[view.tensor][:2]), weights.shape[0])
    layer = Layer("conv", label(node), (view.tensor,), node.output[0], shape, window, weights, None, bias)
    found.add_layer(layer, axes)


def _dense(found: LayerList, node: NodeProto) -> None:
    """Gemm and MatMul: a convolution over the full extent of what was flattened, or 1x1 on the channels alone."""
    view, values = found.plain_view(node), attributes(node)
    matrix = found.required(node, 1, "weights")
    plain = values.get("alpha", 1.0) == 1 and values.get("beta", 1.0) == 1 and not values.get("transA")
    if matrix.ndim != 2 or not plain:
        raise unsupported(node, "it is not x @ weights + bias", "MatMul, or Gemm with alpha = beta = 1, transA = 0")
    matrix = matrix.T if not values.get("transB") else matrix  # [outputs, inputs]
    shape = found.shapes[view.tensor]
    sizes, letters = dict(zip("hwc", shape, strict=True)), view.axes[-1]
    only_channels = letters in ("c", "")
    elsewhere = [] if only_channels else [axis for axis in view.axes[1:-1] if axis]
    extents = [sizes[letter] for letter in letters]
    if view.axes[0] != "n" or elsewhere or int(np.prod(extents, dtype=int)) != matrix.shape[1]:
        raise unsupported(node, f"it multiplies {list(view.axes)} with {matrix.shape[::-1]}", "a flattened input")
    kept = [letter for letter in "hwc" if letter in letters]
    ordered = matrix.reshape(-1, *extents).transpose(0, *(1 + letters.index(letter) for letter in kept))
    kernel = (1, 1) if only_channels else shape[:2]
    weights = ordered.reshape(len(matrix), *kernel, shape[2])
    axes = (*view.axes[:-1], "c") if only_channels else ("n", *("" for _ in view.axes[1:-1]), "c")
    _add_product(found, node, weights, Window(kernel), 2, axes)


def _pool(found: LayerList, node: NodeProto) -> None:
    view, values = found.image_view(node), attributes(node)
    kernel = _pair(values.get("kernel_shape"))
    window = _window(found, node, kernel)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, window.dilations, strict=True)]
    if len(node.output) > 1 and node.output[1]:
        raise unsupported(node, "its indices are used", "MaxPool with one output")
    if any(pad >= reach[i % 2] for i, pad in enumerate(window.pads)):
        raise unsupported(node, f"its window {window} can lie in the padding alone", "pads smaller than the window")
    if any(window.pads) and window.dilations != (1, 1):
        raise unsupported(node, f"its window {window} is padded and dilated", "one of the two")
    if node.op_type == "AveragePool" and any(window.pads):
        raise unsupported(node, f"it averages over padding ({window})", "AveragePool without padding")
    if any(view.pads) and not found.is_nonnegative(view.tensor):
        raise unsupported(
            node,
            "a Pad puts zeros around data that may be negative, and a zero would win the maximum there",
            "zero padding after a Relu, or the pads of MaxPool itself",
        )
    _add_pool(found, node, "max" if node.op_type == "MaxPool" else "avg", window, _NCHW)


def _add_pool(found: LayerList, node: NodeProto, op: str, window: Window, axes: tuple[str, ...]) -> None:
    tensor = found.view(node).tensor
    shape = found.shapes[tensor]
    shape = (*window.output_size(*shape[:2]), shape[2])
    found.add_layer(Layer(op, label(node), (tensor,), node.output[0], shape, window), axes)
    found.mark_nonnegative(node, tensor)


def _global_pool(found: LayerList, node: NodeProto) -> None:
    view = found.image_view(node)
    if any(view.pads):
        raise unsupported(node, "it reads the result of a Pad", "Pad before Conv, MaxPool")
    window = Window(found.shapes[view.tensor][:2])
    _add_pool(found, node, "max" if node.op_type == "GlobalMaxPool" else "avg", window, _NCHW)


def _reduce(found: LayerList, node: NodeProto) -> None:
    """ReduceMean and ReduceMax over height and width."""
    view = found.plain_view(node)
    axes = found.integers(node, "axes", 1)
    reduced = {i % len(view.axes) for i in axes} if axes is not None else set(range(len(view.axes)))
    letters = sorted("".join(view.axes[i] for i in reduced))
    if letters != sorted("".join(normal(("h", "w"), found.shapes[view.tensor]))) or 0 in reduced:
        raise unsupported(node, f"it reduces axes {sorted(reduced)} of {list(view.axes)}", "height and width together")
    after = ["" if i in reduced else axis for i, axis in enumerate(view.axes)]
    if not attributes(node).get("keepdims", 1):
        after = [axis for i, axis in enumerate(view.axes) if i not in reduced]
    window = Window(found.shapes[view.tensor][:2])
    _add_pool(found, node, "max" if node.op_type == "ReduceMax" else "avg", window, tuple(after))


def _relu(found: LayerList, node: NodeProto) -> None:
    view = found.plain_view(node)
    shape = found.shapes[view.tensor]
    found.add_layer(Layer("relu", label(node), (view.tensor,), node.output[0], shape), view.axes)
    found.mark_nonnegative(node)


def _concat(found: LayerList, node: NodeProto) -> None:
    views = [found.plain_view(node, i) for i in range(len(node.input))]
    shapes = [found.shapes[view.tensor] for view in views]
    axis = attributes(node)["axis"] % len(views[0].axes)
    shape = (*shapes[0][:2], sum(s[2] for s in shapes))
    # the channel letter is missing where a part has one channel: its axis is the one that is concatenated
    axes = [tuple("c" if i == axis and not a else a for i, a in enumerate(view.axes)) for view in views]
    if (
        len(set(axes)) != 1
        or axes[0][axis] != "c"
        or "".join(axes[0]).count("c") != 1
        or len({s[:2] for s in shapes}) != 1
    ):
        raise unsupported(node, f"it concatenates axis {axis} of {[list(v.axes) for v in views]}", "the channels")
    tensors = tuple(view.tensor for view in views)
    found.add_layer(Layer("concat", label(node), tensors, node.output[0], shape), axes[0])
    found.mark_nonnegative(node, *tensors)


def _batch_norm(found: LayerList, node: NodeProto) -> None:
    view, values = found.image_view(node), attributes(node)
    if values.get("training_mode"):
        raise unsupported(node, "it is in training mode", "a model exported for inference")
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (found.required(node, 1 + i, n).astype(np.float64) for i, n in enumerate(names))
    channels = found.shapes[view.tensor][2]
    if {part.size for part in (gamma, beta, mean, variance)} != {channels}:
        raise InvalidInputError(f"node {label(node)} (BatchNormalization): expected {channels} values of each constant")
    divisor = variance + values.get("epsilon", 1e-5)
    if (divisor <= 0).any():
        raise InvalidInputError(f"node {label(node)} (BatchNormalization): variance + epsilon is not positive")
    gain = gamma / np.sqrt(divisor)
    _add_affine(found, node, view, gain, beta, mean)


def _add_affine(
    found: LayerList,
    node: NodeProto,
    view: View,
    gain: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray | None = None,
) -> None:
    if any(view.pads):
        raise unsupported(node, "it reads the result of a Pad", "Pad before Conv, MaxPool")
    shape = found.shapes[view.tensor]
    layer = Layer("affine", label(node), (view.tensor,), node.output[0], shape, gain=gain, bias=bias, mean=mean)
    found.add_layer(layer, view.axes)


def _arithmetic(found: LayerList, node: NodeProto) -> None:
    """Add, Sub, Mul and Div with a constant per channel; Add of two tensors."""
    op = node.op_type
    constants = [found.graph.constant(name) is not None for name in node.input]
    if not any(constants):
        if op != "Add":
            nearest = "Add of two tensors, or a constant operand; end the featurizer before a normalisation"
            raise unsupported(node, "both operands depend on the input", nearest)
        return _add(found, node)
    number = constants.index(False)
    if number == 1 and op in ("Sub", "Div"):
        raise unsupported(node, "its first operand is the constant", "a constant second operand")
    view = found.plain_view(node, number)
    values = _per_channel(found, node, view, found.required(node, 1 - number, "constant operand"))
    if op == "Div" and (values == 0).any():
        raise InvalidInputError(f"node {label(node)} (Div): it divides by zero")
    gain = {"Mul": values, "Div": 1 / values if op == "Div" else None}.get(op)
    bias = {"Add": values, "Sub": -values}.get(op)
    _add_affine(found, node, view, gain, bias)
    return None


def _per_channel(found: LayerList, node: NodeProto, view: View, constant: np.ndarray) -> np.ndarray:
    channels = found.shapes[view.tensor][2]
    padded = constant.reshape((1,) * (len(view.axes) - constant.ndim) + constant.shape)
    wide = [i for i, size in enumerate(padded.shape) if size != 1]
    if padded.ndim != len(view.axes) or any(view.axes[i] != "c" or padded.shape[i] != channels for i in wide):
        shape = list(constant.shape)
        raise unsupported(
            node, f"its constant {shape} does not vary by channel of {list(view.axes)}", "one per channel"
        )
    return np.broadcast_to(padded.reshape(-1).astype(np.float64), (channels,))


def _add(found: LayerList, node: NodeProto) -> None:
    first, second = found.plain_view(node, 0), found.plain_view(node, 1)
    shape = found.shapes[first.tensor]
    if first.axes != second.axes or shape != found.shapes[second.tensor]:
        raise unsupported(
            node,
            f"it adds {list(second.axes)} {found.shapes[second.tensor]} to {list(first.axes)} {shape}",
            "Add of two tensors of the same shape and layout",
        )
    tensors = (first.tensor, second.tensor)
    found.add_layer(Layer("add", label(node), tensors, node.output[0], shape), first.axes)
    found.mark_nonnegative(node, *tensors)


_HANDLERS: dict[str, Callable[[LayerList, NodeProto], None]] = {
    **dict.fromkeys(("Identity", "Cast", "Dropout"), _pass),
    **dict.fromkeys(("Gemm", "MatMul"), _dense),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax"), _reduce),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Conv": _conv,
    "Flatten": _flatten,
    "Pad": _pad,
    "Relu": _relu,
    "Reshape": _reshape,
    "Shape": _shape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
