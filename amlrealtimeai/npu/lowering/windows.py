"""Nodes with a sliding window or a product: convolutions, dense layers, pools, reductions over the image."""

from dataclasses import replace

import numpy as np
from onnx import NodeProto

from amlrealtimeai.npu.instructions import Shape, Window
from amlrealtimeai.npu.lowering.graph import Refusal, attributes, invalid, label, places
from amlrealtimeai.npu.lowering.layers import Layer, LayerList, Step, check_positions
from amlrealtimeai.npu.lowering.views import BATCH, NO_PADS, Axes, Pads, View, axes_of, described, extents, joined
from amlrealtimeai.npu.validation import LARGEST_SIDE, LRN_EXPONENTS


def _sum(first: Pads, second: tuple[int, ...]) -> Pads:
    top, left, bottom, right = (a + b for a, b in zip(first, second, strict=True))
    return top, left, bottom, right


def _directions(found: LayerList, node: NodeProto) -> int:
    """How many axes the node's window slides along: height and width, or one axis, which is held as the width."""
    return len(found.view(node).axes) - 2


def _image_axes(found: LayerList, node: NodeProto, shape: Shape) -> Axes:
    """The axes of the node's result: NCHW, or NCW where its input has one direction."""
    axes = axes_of("nchw", shape)
    return axes if _directions(found, node) == 2 else (*axes[:2], axes[3])


def _numbers(node: NodeProto, name: str, count: int, default: int) -> list[int]:
    """An attribute that holds `count` numbers."""
    given = attributes(node).get(name) or [default] * count
    if len(given) != count:
        raise invalid(node, f"its attribute {name} is {given}, expected {count} numbers")
    return [int(number) for number in given]


def _pair(found: LayerList, node: NodeProto, name: str, default: int = 1) -> tuple[int, int]:
    """An attribute with a number for each direction of the window."""
    *vertical, horizontal = _numbers(node, name, _directions(found, node), default)
    return vertical[0] if vertical else default, horizontal


def _own_pads(found: LayerList, node: NodeProto) -> Pads:
    directions, automatic = _directions(found, node), attributes(node).get("auto_pad", "NOTSET")
    if "Conv" in node.op_type and automatic != "NOTSET" and attributes(node).get("pads"):
        raise invalid(node, f"it has pads and auto_pad {automatic}, expected one of the two")
    pads = _numbers(node, "pads", 2 * directions, 0)
    return (pads[0], pads[1], pads[2], pads[3]) if directions == 2 else (0, pads[0], 0, pads[1])


def _two_dimensional(found: LayerList, node: NodeProto, weights: np.ndarray) -> np.ndarray:
    """Weights with an axis for each direction, as those of a kernel with height and width."""
    if weights.ndim != 2 + _directions(found, node):
        axes = 2 + _directions(found, node)
        raise Refusal(f"its weights have {weights.ndim} axes", f"{axes} for an input of {axes}")
    return weights if weights.ndim == 4 else weights[:, :, None]


def _window(found: LayerList, node: NodeProto, view: View, kernel: tuple[int, int]) -> tuple[Window, Pads]:
    """The node's window with all its pads, and those of them that are its own without what ceil_mode adds."""
    values = attributes(node)
    strides, dilations = _pair(found, node, "strides"), _pair(found, node, "dilations")
    own = _own_pads(found, node)
    if min(*strides, *dilations, *kernel) < 1 or min(own) < 0:
        given = f"strides {strides}, dilations {dilations}, kernel {kernel}, pads {own}"
        raise Refusal(f"it has {given}", "positive strides, dilations and kernel, pads of 0 or more")
    check_positions(max(*strides, *dilations, *kernel, *(pad + 1 for pad in own)), LARGEST_SIDE)
    shape = found.shapes[view.tensor]
    begins, ends, extra = [], [], []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        size = shape[axis] + view.pads[axis] + view.pads[axis + 2]
        begin, end = _padded(node, size, reach, strides[axis], (own[axis], own[axis + 2]))
        begins.append(begin)
        ends.append(end)
        extra.append(_to_ceiling(size + begin, end, reach, strides[axis]) if values.get("ceil_mode") == 1 else 0)
    window = Window(kernel, strides, dilations, _sum(_sum(view.pads, (*begins, *ends)), (0, 0, *extra)))
    if min(window.output_size(*shape[:2])) < 1:
        if node.op_type != "Conv":
            raise Refusal(f"nothing is left: its window {window} does not fit its input", "windows that fit")
        raise invalid(node, f"its window {window} does not fit its input")
    top, left, bottom, right = (*begins, *ends)
    return window, (top, left, bottom, right)


def _padded(node: NodeProto, size: int, reach: int, stride: int, own: tuple[int, int]) -> tuple[int, int]:
    """The pads before and behind `size` values of an axis, over which a kernel of that reach goes: the node's own, or
    those that its auto_pad means.
    """
    automatic = attributes(node).get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return own
    if automatic == "VALID":
        return 0, 0
    if automatic not in ("SAME_UPPER", "SAME_LOWER"):
        raise invalid(node, f"its auto_pad is {automatic!r}")
    total = (-(-size // stride) - 1) * stride + reach - size
    if total < (-2 if automatic == "SAME_LOWER" else -1):
        # whether the data is then cropped at its beginning is not said; runtimes differ
        raise Refusal(f"its strides leave gaps with auto_pad {automatic}", "pads instead of auto_pad")
    less, more = max(total, 0) // 2, -(-max(total, 0) // 2)
    return (less, more) if automatic == "SAME_UPPER" else (more, less)


def _to_ceiling(before: int, end: int, reach: int, stride: int) -> int:
    """What ceil_mode pads behind an axis of `before` values, the pads in front of it included, and `end` pads."""
    positions = -(-(before + end - reach) // stride) + 1
    positions -= (positions - 1) * stride >= before  # a window that would start behind the data does not count
    return max(0, (positions - 1) * stride + reach - before - end)


def conv(found: LayerList, node: NodeProto) -> None:
    """Conv, also grouped and depthwise."""
    view = found.image_view(node)
    weights = _two_dimensional(found, node, found.required(node, 1, "weights"))
    channels, groups = found.shapes[view.tensor][2], attributes(node).get("group", 1)
    if groups < 1 or weights.shape[1] * groups != channels:
        taken = weights.shape[1] * groups
        raise invalid(node, f"weights take {taken} channels, not {channels}")
    if weights.shape[0] % groups:
        raise invalid(node, f"{weights.shape[0]} outputs in {groups} groups")
    kernel = (weights.shape[2], weights.shape[3])
    _check_kernel(found, node, kernel)
    window, _ = _window(found, node, view, kernel)
    bias = _bias(found, node, len(weights))
    _add_product(found, node, view, weights.transpose(0, 2, 3, 1), window, groups, bias)


def _bias(found: LayerList, node: NodeProto, outputs: int) -> np.ndarray | None:
    """A convolution's bias: one number per output."""
    bias = found.weights(node, 2, "bias")
    if bias is not None and bias.shape != (outputs,):
        raise invalid(node, f"its bias has the shape {list(bias.shape)}, expected [{outputs}], one number per output")
    return bias


def _check_kernel(found: LayerList, node: NodeProto, kernel: tuple[int, int]) -> None:
    given = kernel if not attributes(node).get("kernel_shape") else _pair(found, node, "kernel_shape")
    if given != kernel:
        raise invalid(node, f"its kernel_shape is {given}, its weights are {kernel}")


def _add_product(
    found: LayerList,
    node: NodeProto,
    view: View,
    weights: np.ndarray,
    window: Window,
    groups: int,
    bias: np.ndarray | None,
    axes: Axes | None = None,
) -> None:
    """A product whose result has the axes of the input's kind, NCHW or NCW, or `axes`."""
    if bias is not None:
        per_output = bias.ndim > 0 and bias.shape[-1] == bias.size == len(weights)
        if bias.size != 1 and not per_output and bias.ndim < 2:
            found_text = f"{bias.size} values for {len(weights)} outputs"
            raise invalid(node, f"its bias has {found_text}")
        if bias.size != 1 and not per_output:
            raise Refusal(f"its bias {list(bias.shape)} is not one number per output", "bias per output")
        bias = np.broadcast_to(bias.astype(np.float64).reshape(-1), weights.shape[:1])
    shape = (*window.output_size(*found.shapes[view.tensor][:2]), weights.shape[0])
    # one channel in a group is the vector unit's work: as blocks of one channel it would be none of the matrix unit's
    op = "filter" if groups > 1 and weights.shape[-1] == 1 else "conv"
    layer = Layer(op, label(node), (view.tensor,), node.output[0], shape, window, weights, groups=groups, bias=bias)
    found.add_layer(layer, axes or _image_axes(found, node, shape))


def conv_transposed(found: LayerList, node: NodeProto) -> None:
    """ConvTranspose: zeros between the pixels, then the convolution with turned kernels."""
    view, values = found.image_view(node, keep_pads=False), attributes(node)
    weights = _two_dimensional(found, node, found.required(node, 1, "weights"))
    automatic, groups = values.get("auto_pad", "NOTSET"), values.get("group", 1)
    if automatic not in ("NOTSET", "VALID") or values.get("output_shape"):
        raise Refusal("it names its output's size, or has auto_pad", "pads instead")
    channels = found.shapes[view.tensor][2]
    if groups < 1 or weights.shape[0] != channels or channels % groups:
        raise invalid(node, f"its weights do not fit {channels} channels")
    strides, dilations = _pair(found, node, "strides"), _pair(found, node, "dilations")
    kernel = (weights.shape[2], weights.shape[3])
    _check_kernel(found, node, kernel)
    own, added = _own_pads(found, node), _pair(found, node, "output_padding", 0)
    if min(*strides, *dilations, *kernel) < 1:
        raise Refusal(f"it has strides {strides}, dilations {dilations}, kernel {kernel}", "1 and more")
    if any(more >= max(pair) for more, *pair in zip(added, strides, dilations, strict=True)):
        problem = f"its output_padding is {added}, expected less than strides {strides} or dilations {dilations}"
        raise invalid(node, problem)
    lists, pads = {}, [0] * 4
    for axis in range(2):
        size, stride = found.shapes[view.tensor][axis], strides[axis]
        check_positions(size * stride)
        spread = np.full((size, stride), -1)
        spread[:, 0] = np.arange(size)
        if stride > 1:
            lists[axis + 2] = spread.reshape(-1)[: (size - 1) * stride + 1]
        reach = dilations[axis] * (kernel[axis] - 1)
        pads[axis], pads[axis + 2] = reach - own[axis], reach - own[axis + 2] + added[axis]
    if min(pads) < 0:
        raise Refusal(f"its pads {own} cut more than the kernel {kernel} adds", "smaller pads")
    if lists:
        view = found.selected(node, view, lists)
    each = weights.reshape(groups, channels // groups, *weights.shape[1:])[..., ::-1, ::-1]
    turned = each.transpose(0, 2, 3, 4, 1).reshape(-1, *kernel, channels // groups)
    window = Window(kernel, (1, 1), dilations, (pads[0], pads[1], pads[2], pads[3]))
    if min(window.output_size(*found.shapes[view.tensor][:2])) < 1:
        raise invalid(node, "nothing is left of its result")
    _add_product(found, node, view, turned, window, groups, _bias(found, node, len(turned)))


def dense(found: LayerList, node: NodeProto) -> None:
    """Gemm and MatMul: a convolution over the full extent of what was flattened, or 1x1 on the channels alone."""
    view, values = found.plain_view(node), attributes(node)
    matrix, bias = found.required(node, 1, "weights"), found.weights(node, 2, "bias")
    while matrix.ndim > 2 and matrix.shape[0] == 1 and matrix.ndim <= len(view.axes):
        matrix = matrix[0]
    if matrix.ndim != 2 or values.get("transA"):
        raise Refusal("it is not x @ weights + bias", "MatMul with one matrix, Gemm with transA = 0")
    matrix = matrix.T if not values.get("transB") else matrix  # [outputs, inputs]
    if extents(view.axes)[-1] != matrix.shape[1] or len(view.axes) < 2:
        factors = f"{described(view.axes)} with {list(matrix.shape[::-1])}"
        raise invalid(node, f"it multiplies {factors}")
    view, kept = _flattened(found, node, view)
    shape = found.shapes[view.tensor]
    sizes = dict(zip("hwc", shape, strict=True))
    letters = [letter for letter, _, _ in view.axes[-1]]
    kernel = (1, 1) if kept else shape[:2]
    sides = [sizes[letter] for letter in letters]
    order = [1 + letters.index(letter) for letter in "hwc" if letter in letters]
    ordered = matrix.reshape(-1, *sides).transpose(0, *order)
    weights = ordered.reshape(len(matrix), *kernel, shape[2])
    alpha, beta = values.get("alpha", 1.0), values.get("beta", 1.0)
    if alpha != 1:
        weights = (weights * np.float64(alpha)).astype(np.float32)
    if bias is not None and beta != 1:
        bias = (bias * np.float64(beta)).astype(np.float32)
    axes = (*view.axes[:-1], joined([("c", len(matrix), 1)]))
    _add_product(found, node, view, weights, Window(kernel), 1, bias, axes)


def _flattened(found: LayerList, node: NodeProto, view: View) -> tuple[View, bool]:
    """The view in an order that a product can take, and whether its last axis is the channels alone."""
    channels = joined([("c", found.shapes[view.tensor][2], 1)])
    if view.axes[-1] == channels and view.axes[0] == BATCH:
        return view, True
    sizes = dict(zip("hwc", found.shapes[view.tensor], strict=True))
    whole = all(size == sizes.get(letter) for letter, size, _ in view.axes[-1])
    if not whole or any(view.axes[1:-1]) or view.axes[0] != BATCH:
        # the channels last, which the product sums over
        return found.rearranged(node, view, "nhwc" if len(view.axes) == 4 else ""), True
    return view, False


def pool(found: LayerList, node: NodeProto) -> None:
    """MaxPool and AveragePool."""
    view, values = found.image_view(node), attributes(node)
    average = node.op_type == "AveragePool"
    if not average and view.pads != NO_PADS and not found.is_nonnegative(view.tensor):
        # the maximum's own padding never wins, zeros do
        view = found.padded(node, view)
    if len(node.output) > 1 and node.output[1] in found.graph.read | set(found.graph.outputs):
        raise Refusal("its indices are used", "MaxPool with one output")
    if values.get("storage_order"):
        raise Refusal("its storage_order is 1", "MaxPool with one output")
    kernel = _pair(found, node, "kernel_shape")
    window, own = _window(found, node, view, kernel)
    counted = _sum(view.pads, own) if values.get("count_include_pad") else view.pads
    counts = window.positions_counted(*found.shapes[view.tensor][:2], counted if average else ())
    if min(int(count.min()) for count in counts) < 1:
        raise Refusal(f"its window {window} can lie in the padding alone", "pads smaller than the window")
    if any(pad >= kernel[i % 2] for i, pad in enumerate(_own_pads(found, node))):
        raise Refusal(f"its pads are {_own_pads(found, node)}", f"pads smaller than its kernel {kernel}")
    if not average and any(window.pads):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, window.dilations, strict=True)]
        if window.dilations != (1, 1) or any(p >= reach[i % 2] for i, p in enumerate(window.pads)):
            raise Refusal(f"its window {window} is padded and dilated", "one of the two")
    _add_pool(found, node, view, "avg" if average else "max", window, counted if average else NO_PADS)


def _add_pool(
    found: LayerList,
    node: NodeProto,
    view: View,
    op: str,
    window: Window,
    counted: Pads = NO_PADS,
    axes: Axes | None = None,
    output: str = "",
) -> View:
    shape = found.shapes[view.tensor]
    shape = (*window.output_size(*shape[:2]), shape[2])
    some = counted if any(counted) else ()
    layer = Layer(op, label(node), (view.tensor,), output or node.output[0], shape, window, counted=some)
    return found.add_layer(layer, axes or _image_axes(found, node, shape))


def global_pool(found: LayerList, node: NodeProto) -> None:
    """GlobalAveragePool and GlobalMaxPool."""
    view = found.image_view(node, keep_pads=False)
    op = "max" if node.op_type == "GlobalMaxPool" else "avg"
    _add_pool(found, node, view, op, Window(found.shapes[view.tensor][:2]))


def reduce(found: LayerList, node: NodeProto) -> None:
    """ReduceMean, ReduceSum, ReduceMax and ReduceMin over anything but the batch."""
    view, values = found.plain_view(node), attributes(node)
    axes = found.integers(node, "axes", 1)
    if not axes:
        if values.get("noop_with_empty_axes") and axes is None:
            found.views[node.output[0]] = view
            return
        axes = list(range(len(view.axes)))
    reduced = set(places(node, axes, len(view.axes), repeated=True))
    view = _whole_letters(found, node, view, reduced)
    for axis in reduced:
        if [letter for letter, _, _ in view.axes[axis]] == ["c"]:
            view = _reduced_channels(found, node, view, axis)
    letters = {part[0] for i in reduced for part in view.axes[i]}
    if not letters <= {"h", "w"}:
        raise Refusal(f"it reduces axes {sorted(reduced)} of {described(view.axes)}", "axes behind the batch")
    after = tuple(() if i in reduced else axis for i, axis in enumerate(view.axes))
    if not values.get("keepdims", 1):
        after = tuple(axis for i, axis in enumerate(view.axes) if i not in reduced)
    height, width, _ = found.shapes[view.tensor]
    window = Window((height if "h" in letters else 1, width if "w" in letters else 1))
    found.views[node.output[0]] = replace(_reduced(found, node, view, window), axes=after)


def _reduced(found: LayerList, node: NodeProto, view: View, window: Window) -> View:
    """The sum, mean, maximum or minimum of each window; the view of a new tensor, with NHWC's axes."""
    if window.kernel == (1, 1):
        return view
    if node.op_type == "ReduceMin":
        view = _negative(found, node, view, "negative")
    shape = found.shapes[view.tensor]
    size = (*window.output_size(*shape[:2]), shape[2])
    output, axes = found.unused(f"{node.output[0]}/reduced"), axes_of("nhwc", size)
    if node.op_type == "ReduceSum":
        ones = np.ones((shape[2], *window.kernel, 1), np.float32)
        layer = Layer("filter", label(node), (view.tensor,), output, size, window, ones, groups=shape[2])
        return found.add_layer(layer, axes)
    view = _add_pool(
        found, node, view, "avg" if node.op_type == "ReduceMean" else "max", window, axes=axes, output=output
    )
    return _negative(found, node, view, "minimum") if node.op_type == "ReduceMin" else view


def _reduced_channels(found: LayerList, node: NodeProto, view: View, axis: int) -> View:
    """The view with one position on an axis of channels, whose outer ones become rows and whose own become columns."""
    ((_, size, stride),) = view.axes[axis]
    height, width, channels = found.shapes[view.tensor]
    rows = height * width * channels // (size * stride)
    check_positions(max(rows, size), LARGEST_SIDE)
    shaped = found.add_steps(node, view, [Step("v_shape", (rows, size, stride))], (rows, size, stride), "columns")
    row = _reduced(found, node, View(shaped, axes_of("nhwc", (rows, size, stride))), Window((1, size)))
    shape = (height, width, channels // size)
    tensor = found.add_steps(node, row, [Step("v_shape", tuple(map(float, shape)))], shape, "channels")
    nearer = [[(c, n, s // size if c == "c" and s > stride else s) for c, n, s in parts] for parts in view.axes]
    axes = tuple(() if place == axis else joined(parts) for place, parts in enumerate(nearer))
    found.views[tensor] = View(tensor, axes)
    return found.views[tensor]


def _whole_letters(found: LayerList, node: NodeProto, view: View, reduced: set[int]) -> View:
    """The view, rearranged where a letter but the channels lies on reduced axes and on others."""
    inside = {part[0] for i in reduced for part in view.axes[i]}
    outside = {part[0] for i, axis in enumerate(view.axes) if i not in reduced for part in axis}
    mixed = any(len(view.axes[i]) > 1 and "c" in {part[0] for part in view.axes[i]} for i in reduced)
    return found.rearranged(node, view) if mixed or (inside & outside) - {"c"} else view


def _negative(found: LayerList, node: NodeProto, view: View, what: str) -> View:
    shape = found.shapes[view.tensor]
    output = found.unused(f"{node.output[0]}/{what}")
    layer = Layer("affine", label(node), (view.tensor,), output, shape, gain=np.full(shape[2], -1.0))
    return found.add_layer(layer, view.axes)


def lrn(found: LayerList, node: NodeProto) -> None:
    """LRN with the exponents that square roots give."""
    view, values = found.image_view(node, keep_pads=False), attributes(node)
    size, alpha = values["size"], values.get("alpha", 1e-4)
    beta, bias = values.get("beta", 0.75), values.get("bias", 1.0)
    if size % 2 == 0 or _directions(found, node) != 2:
        given = f"its size is {size} and its input has {2 + _directions(found, node)} axes"
        raise Refusal(given, "an odd size and four axes: runtimes refuse the others")
    if beta not in LRN_EXPONENTS or bias <= 0 or alpha <= 0 or size < 1:
        given = f"size {size}, alpha {alpha}, beta {beta}, bias {bias}"
        raise Refusal(f"it has {given}", f"beta {', '.join(map(str, LRN_EXPONENTS))}, the others positive")
    step = Step("v_lrn", (float(size), float(alpha), float(beta), float(bias)))
    axes = _image_axes(found, node, found.shapes[view.tensor])
    found.add_steps(node, replace(view, axes=axes), [step], found.shapes[view.tensor])
