"""Nodes that move values: most only change how a tensor is seen, the others pick rows, columns and channels."""

from dataclasses import replace
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto

from amlrealtimeai.npu.instructions import Shape
from amlrealtimeai.npu.lowering.graph import Refusal, attributes, invalid, label, places
from amlrealtimeai.npu.lowering.layers import Layer, LayerList, check_positions
from amlrealtimeai.npu.lowering.views import (
    BATCH,
    Axes,
    View,
    axes_of,
    described,
    extent,
    extents,
    joined,
    letters_of,
    reshaped,
    split,
)

_PAD_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def pass_on(found: LayerList, node: NodeProto) -> None:
    """Identity, Dropout at inference, Cast among float32 and wider, CastLike to what varies."""
    values = attributes(node)
    if node.op_type == "CastLike" and (like := found.constant(node, 1)) is not None and like.dtype != np.float32:
        raise Refusal(f"it casts to {like.dtype}", "CastLike a float32 (a no-op)")
    if node.op_type == "Cast":
        wide = values["to"] == TensorProto.DOUBLE and node.output[0] not in found.graph.outputs
        if values["to"] != TensorProto.FLOAT and not wide:
            raise Refusal(f"it casts to {TensorProto.DataType.Name(values['to'])}", "Cast to FLOAT (a no-op)")
    if node.op_type == "Dropout":
        training = found.constant(node, 2)
        computed = len(node.input) > 2 and node.input[2] and training is None
        if computed or (training is not None and training.any()):
            raise Refusal("it is in training mode", "a model exported for inference")
        if len(node.output) > 1 and node.output[1] in found.graph.read | set(found.graph.outputs):
            raise Refusal("its mask is used", "Dropout with one output")
    found.views[node.output[0]] = found.view(node)


def transpose(found: LayerList, node: NodeProto) -> None:
    """Another order of axes."""
    view = found.view(node)
    order = attributes(node).get("perm") or list(range(len(view.axes)))[::-1]
    if sorted(order) != list(range(len(view.axes))):
        raise invalid(node, f"perm {order} for {len(view.axes)} axes")
    found.views[node.output[0]] = replace(view, axes=tuple(view.axes[i] for i in order))


def _reshape_to(found: LayerList, node: NodeProto, view: View, target: list[int]) -> None:
    sizes = extents(view.axes)
    target = [sizes[i] if size == 0 and i < len(sizes) else size for i, size in enumerate(target)]
    axes = reshaped(view.axes, target)
    if axes is None:
        # parts that are cut unevenly: with the values in one sequence any sizes fit
        flat, axes = reshaped(view.axes, [1, -1]), reshaped(_flat_axes(prod(sizes)), target)
        if flat is None or axes is None:
            supported = "reshapes that keep the batch as the first axis"
            raise Refusal(f"it regroups {described(view.axes)} as {target}", supported)
        view = found.rearranged(node, replace(view, axes=flat))
    found.views[node.output[0]] = replace(view, axes=axes)


def _flat_axes(count: int) -> Axes:
    return axes_of("nc", (1, 1, count))


def reshape(found: LayerList, node: NodeProto) -> None:
    """Reshape, with the batch as it is."""
    target = found.integers(node, "shape", 1)
    if target is None:
        raise invalid(node, "it has no shape")
    if 0 in target and attributes(node).get("allowzero"):
        raise Refusal(f"it makes {target}, of which nothing is left", "sizes of 1 and more")
    view = found.plain_view(node)
    if target[:1] == [1] and view.axes[0] == BATCH and found.graph.fixes_batch(node, 1):
        raise Refusal(f"it regroups any number of images as {target}", "-1 or 0 for the batch, or a batch of 1")
    _reshape_to(found, node, view, target)


def flatten(found: LayerList, node: NodeProto) -> None:
    """Flatten behind the batch."""
    view, axis = found.plain_view(node), attributes(node).get("axis", 1)
    if axis not in (1, 1 - len(view.axes)):
        raise Refusal(f"it flattens from axis {axis}", "Flatten with axis 1")
    _reshape_to(found, node, view, [0, -1])


def squeeze(found: LayerList, node: NodeProto) -> None:
    """Drop axes of size 1."""
    view = found.plain_view(node)
    axes = found.integers(node, "axes", 1)
    if not axes:
        # every axis of size 1, and so what comes out for one image has other axes than for two
        raise Refusal("without axes it drops the batch, too, where that is 1", "a list of axes")
    chosen = set(places(node, axes, len(view.axes), repeated=True))
    if any(view.axes[i] for i in chosen):
        raise Refusal(f"it drops axes {sorted(chosen)} of {described(view.axes)}", "axes of size 1 after the batch")
    found.views[node.output[0]] = replace(view, axes=tuple(a for i, a in enumerate(view.axes) if i not in chosen))


def unsqueeze(found: LayerList, node: NodeProto) -> None:
    """Add axes of size 1."""
    view = found.plain_view(node)
    new = found.integers(node, "axes", 1) or []
    rank = len(view.axes) + len(new)
    added, old = places(node, new, rank), iter(view.axes)
    found.views[node.output[0]] = replace(view, axes=tuple(() if i in added else next(old) for i in range(rank)))


def shape_of(found: LayerList, node: NodeProto) -> None:
    """A constant: the batch counts as 1."""
    found.graph.fold_shape(node, extents(found.plain_view(node).axes))


def pad(found: LayerList, node: NodeProto) -> None:
    """Zeros around height and width wait for the window that reads them; other padding is carried out."""
    view = found.view(node)
    amounts = found.integers(node, "pads", 1)
    if amounts is None:
        amounts = found.integers(node, "paddings", 1) or []
    chosen = found.integers(node, "axes", 3)
    mode = attributes(node).get("mode", "constant")
    value = found.weights(node, 2, "padding value")
    filler = float(value.reshape(-1)[0]) if value is not None and value.size else attributes(node).get("value", 0.0)
    rank = len(view.axes)
    padded = places(node, chosen, rank) if chosen is not None else list(range(rank))
    if len(amounts) != 2 * len(padded) or (mode != "constant" and mode not in _PAD_MODES):
        raise Refusal(f"it has mode {mode} and pads {amounts}", "constant, reflect, edge and wrap")
    around = {p: (amounts[i], amounts[i + len(padded)]) for i, p in enumerate(padded)}
    around = {place: pair for place, pair in around.items() if pair != (0, 0)}
    letters = letters_of(view.axes, found.shapes[view.tensor])
    sizes = dict(zip("hwc", found.shapes[view.tensor], strict=True))
    whole = all(letters[p] in ("h", "w") and view.axes[p] == ((letters[p], sizes[letters[p]], 1),) for p in around)  # type: ignore[index]
    if whole and mode == "constant" and filler == 0 and all(min(pair) >= 0 for pair in around.values()):
        by_letter = {letters[place]: pair for place, pair in around.items()}
        (top, bottom), (left, right) = by_letter.get("h", (0, 0)), by_letter.get("w", (0, 0))
        sums = (a + b for a, b in zip(view.pads, (top, left, bottom, right), strict=True))
        pads = (next(sums), next(sums), next(sums), next(sums))
        found.views[node.output[0]] = replace(view, pads=pads)
        return
    view = found.padded(node, view)
    lists = {place: _around(node, extents(view.axes)[place], pair, mode) for place, pair in around.items()}
    found.views[node.output[0]] = found.selected(node, view, lists, filler)


def _around(node: NodeProto, size: int, pair: tuple[int, int], mode: str) -> np.ndarray:
    """The positions of an axis after padding (negative: cropping) its two ends; -1 where the filler stands."""
    check_positions(size + pair[0] + pair[1])
    kept = np.arange(size)[max(0, -pair[0]) : size - max(0, -pair[1])]
    added = (max(0, pair[0]), max(0, pair[1]))
    if not len(kept):
        raise Refusal(f"nothing is left of {size} positions with pads {pair}", "smaller crops")
    if mode == "reflect" and max(added) >= len(kept):
        raise invalid(node, f"it reflects {max(added)} of {len(kept)} positions, expected at most {len(kept) - 1}")
    if mode == "constant":
        return np.pad(kept, added, constant_values=-1)
    return np.pad(kept, added, mode=_PAD_MODES[mode])  # type: ignore[call-overload]


def cut(found: LayerList, node: NodeProto) -> None:
    """Slice with constant bounds."""
    view = found.plain_view(node)
    starts, ends = found.integers(node, "starts", 1), found.integers(node, "ends", 2)
    if starts is None or ends is None:
        raise invalid(node, "it has no bounds")
    axes = found.integers(node, "axes", 3)
    axes = places(node, list(range(len(starts))) if axes is None else axes, len(view.axes))
    steps = found.integers(node, "steps", 4) or [1] * len(starts)
    lengths = {len(starts), len(ends), len(axes), len(steps)}
    if len(lengths) > 1 or 0 in steps:
        given = f"starts {starts}, ends {ends}, axes {axes}, steps {steps}"
        expected = "lists of one length, no step of 0"
        raise invalid(node, f"it has {given}, expected {expected}")
    lists = {}
    for start, end, place, step in zip(starts, ends, axes, steps, strict=True):
        if (
            view.axes[place] == BATCH
            and (start, end >= 2**31 - 1, step) != (0, True, 1)
            and found.graph.fixes_batch(node, 2)
        ):
            raise Refusal("it selects from the batch", "axes behind the batch")
        lists[place] = np.arange(extents(view.axes)[place])[start:end:step]
    _select(found, node, view, lists)


def _select(found: LayerList, node: NodeProto, view: View, lists: dict[int, np.ndarray], output: str = "") -> None:
    sizes = extents(view.axes)
    lists = {p: v for p, v in lists.items() if len(v) != sizes[p] or (v != np.arange(sizes[p])).any()}
    if any(view.axes[place] == BATCH for place in lists):
        raise Refusal("it selects from the batch", "axes behind the batch")
    if any(len(v) == 0 for v in lists.values()):
        raise Refusal(f"nothing is left of {sizes}", "a part that is not empty")
    found.views[output or node.output[0]] = found.selected(node, view, lists) if lists else view


def gather(found: LayerList, node: NodeProto) -> None:
    """Constant positions of one axis; a single number drops the axis."""
    view, indices = found.plain_view(node), found.constant(node, 1)
    if indices is None or indices.ndim > 1:
        raise Refusal("its indices are computed or have several axes", "a constant list of positions")
    (axis,) = places(node, [attributes(node).get("axis", 0)], len(view.axes))
    size = extents(view.axes)[axis]
    if view.axes[axis] == BATCH and found.graph.fixes_batch(node, 1):
        raise Refusal("it selects from the batch", "axes behind the batch")
    wanted = np.where(indices < 0, indices + size, indices).reshape(-1)
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < size):
        raise invalid(node, f"positions beyond the {size} that there are")
    _select(found, node, view, {axis: wanted})
    if indices.ndim == 0:
        kept = found.views[node.output[0]]
        axes = tuple(a for i, a in enumerate(kept.axes) if i != axis)
        found.views[node.output[0]] = replace(kept, axes=axes)


def divide(found: LayerList, node: NodeProto) -> None:
    """Split: each output is a part of the axis."""
    view = found.plain_view(node)
    (axis,) = places(node, [attributes(node).get("axis", 0)], len(view.axes))
    size, count = extents(view.axes)[axis], len(node.output)
    if view.axes[axis] == BATCH and count > 1:
        raise Refusal(f"it splits the batch among {count} outputs", "axes behind the batch")
    parts = found.integers(node, "split", 1)
    if parts is None:
        each = -(-size // count)
        parts = [each] * (count - 1) + [size - each * (count - 1)]
        if size > count and size % count and found.graph.opset < 18:
            raise invalid(node, f"it splits {size} positions into {count} equal parts, which opset 18 allows")
    if sum(parts) != size or len(parts) != count:
        raise invalid(node, f"its parts are {parts}, expected {count} that add up to {size}")
    if min(parts) < 1:
        raise Refusal(f"it splits {size} positions into {parts}", "parts that are not empty, behind the batch")
    first = 0
    for name, part in zip(node.output, parts, strict=True):
        if name:
            _select(found, node, view, {axis: np.arange(first, first + part)}, name)
        first += part


def expand(found: LayerList, node: NodeProto) -> None:
    """Expand and Tile: axes that are repeated."""
    view = found.plain_view(node)
    given = found.integers(node, "shape" if node.op_type == "Expand" else "repeats", 1) or []
    rank = max(len(view.axes), len(given))
    if node.op_type == "Expand":
        given = [1] * (rank - len(given)) + given
    sizes = extents(view.axes)
    if len(given) != len(view.axes) or min(given) < 1:
        raise Refusal(f"it makes {given} of {described(view.axes)}", "as many axes as before, none empty")
    check_positions(max(given) * (max(sizes) if node.op_type == "Tile" else 1))
    if node.op_type == "Tile":
        lists = {i: np.tile(np.arange(size), given[i]) for i, size in enumerate(sizes)}
    else:
        if any(1 not in (size, wanted) and size != wanted for size, wanted in zip(sizes, given, strict=True)):
            raise invalid(node, f"{sizes} cannot become {given}")
        lists = {i: np.zeros(given[i], np.int64) for i, size in enumerate(sizes) if size == 1 and given[i] > 1}
    _select(found, node, view, lists)


def depth_and_space(found: LayerList, node: NodeProto) -> None:
    """DepthToSpace and SpaceToDepth: other groups of parts of the letters."""
    view, size = found.plain_view(node), attributes(node)["blocksize"]
    mode = attributes(node).get("mode", "DCR")
    if size < 1 or mode not in ("DCR", "CRD") or len(view.axes) != 4:
        given = f"blocksize {size}, mode {mode}, {len(view.axes)} axes"
        expected = "a blocksize of 1 or more, DCR or CRD, 4 axes"
        raise invalid(node, f"it has {given}, expected {expected}")
    _, channels, rows, columns = extents(view.axes)
    less, more = channels // size**2, channels * size**2
    if node.op_type == "SpaceToDepth":
        sizes, order = [channels, rows // size, size, columns // size, size], [2, 4, 0, 1, 3]
        last = [more, rows // size, columns // size]
    elif mode == "DCR":
        sizes, order, last = [size, size, less, rows, columns], [2, 3, 0, 4, 1], [less, rows * size, columns * size]
    else:
        sizes, order, last = [less, size, size, rows, columns], [0, 3, 1, 4, 2], [less, rows * size, columns * size]
    parts = split([part for axis in view.axes[1:] for part in axis], sizes)
    axes = None if parts is None else split([part for i in order for part in parts[i]], last)
    if axes is None or view.axes[0] != BATCH:
        raise Refusal(f"blocks of {size} do not divide {described(view.axes)}", "sizes that they divide")
    found.views[node.output[0]] = replace(view, axes=(BATCH, *axes))


def concat(found: LayerList, node: NodeProto) -> None:
    """Along the channels; along another axis where the values of each part lie in one sequence."""
    if len(node.input) == 1:
        found.views[node.output[0]] = found.view(node)
        return
    constants = [found.graph.constant(name) for name in node.input]
    if any(value is not None for value in constants):
        raise Refusal("some of its parts are constants", "parts that depend on the input")
    views = [found.plain_view(node, i) for i in range(len(node.input))]
    (axis,) = places(node, [attributes(node)["axis"]], len(views[0].axes))
    sizes = [extents(view.axes) for view in views]
    alike = all(s[:axis] + s[axis + 1 :] == sizes[0][:axis] + sizes[0][axis + 1 :] for s in sizes)
    if not alike or axis == 0:
        raise Refusal(f"it concatenates axis {axis} of {sizes}", "the channels of tensors of one size")
    shapes = [found.shapes[view.tensor] for view in views]
    if not _by_channels(views, shapes, axis):
        if len(sizes[0]) > 4:
            raise Refusal(f"it concatenates axis {axis} of {sizes}", "at most four axes, or the channels")
        if prod(sizes[0][:axis]) == 1:
            return _concat_flat(found, node, views, axis)
        others = iter("hw")
        letters = ["c" if i == axis else next(others, "") for i in range(1, len(sizes[0]))]
        views = [found.rearranged(node, view, "n" + "".join(letters)) for view in views]
        shapes = [found.shapes[view.tensor] for view in views]
    shape = (*shapes[0][:2], sum(shape[2] for shape in shapes))
    inner = shapes[0][2] // sizes[0][axis]
    axes = tuple(joined([("c", shape[2] // inner, inner)]) if i == axis else a for i, a in enumerate(views[0].axes))
    _add_concat(found, node, views, shape, axes)
    return None


def _by_channels(views: list[View], shapes: list[Shape], axis: int) -> bool:
    """Whether the axis is the channels, or their outermost part, of tensors that are alike otherwise."""
    rest = {tuple(a for i, a in enumerate(view.axes) if i != axis) for view in views}
    counts = [extent(view.axes[axis]) for view in views]
    inner = {shape[2] // count for shape, count in zip(shapes, counts, strict=True)}
    outermost = all(
        view.axes[axis] == joined([("c", count, shape[2] // count)])
        for view, shape, count in zip(views, shapes, counts, strict=True)
    )
    return outermost and len(rest) == len(inner) == 1 and len({shape[:2] for shape in shapes}) == 1


def _concat_flat(found: LayerList, node: NodeProto, views: list[View], axis: int) -> None:
    """Each part as one sequence of values, where no axis of more than one position lies before the axis."""
    sizes = [extents(view.axes) for view in views]
    flat = []
    for view in views:
        axes = reshaped(view.axes, [1, -1])
        if axes is None:
            raise Refusal(f"it concatenates {described(view.axes)}", "values with the batch first")
        flat.append(found.rearranged(node, replace(view, axes=axes)))
    total = sum(prod(s) for s in sizes)
    wanted = [*sizes[0][1:axis], sum(s[axis] for s in sizes), *sizes[0][axis + 1 :]]
    axes = reshaped(_flat_axes(total), [1, *wanted])
    assert axes is not None
    _add_concat(found, node, flat, (1, 1, total), axes)


def _add_concat(found: LayerList, node: NodeProto, views: list[View], shape: Shape, axes: Axes) -> None:
    tensors = tuple(view.tensor for view in views)
    found.add_layer(Layer("concat", label(node), tensors, node.output[0], shape), axes)
