"""Resize and Upsample: positions of the old axis, picked or blended."""

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from amlrealtimeai.npu.lowering.graph import Refusal, attributes, invalid, places
from amlrealtimeai.npu.lowering.layers import LayerList, Step, check_positions
from amlrealtimeai.npu.lowering.views import View, described, extents, joined, letters_of


def resize(found: LayerList, node: NodeProto) -> None:
    """Resize and Upsample: nearest picks rows and columns, linear blends two of each."""
    view, values = found.plain_view(node), attributes(node)
    mode, sizes = values.get("mode", "nearest"), extents(view.axes)
    # until opset 11 names coordinates they are those of Upsample, and runtimes round up where it shrinks
    old = found.graph.opset < 11
    how = "asymmetric" if old else values.get("coordinate_transformation_mode", "half_pixel")
    known = mode in ("nearest", "linear", "bilinear") and not values.get("antialias")
    stretched = values.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    if not known or not stretched or how not in _COORDINATES:
        raise Refusal(f"it has mode {mode} with {how}", "nearest and linear, stretched, not antialiased")
    rounding = values.get("nearest_mode", "round_prefer_floor")
    if mode == "nearest" and rounding not in _ROUNDINGS:
        raise invalid(node, f"its nearest_mode is {rounding!r}, expected {', '.join(_ROUNDINGS)}")
    for axis, (target, scale) in _resized(found, node, sizes).items():
        # in float32, as runtimes compute it: the nearest of two that are equally far depends on it
        at = _COORDINATES[how](np.arange(target, dtype=np.float32), target, sizes[axis], np.float32(scale))
        if mode == "nearest":
            if old:
                rounding = "ceil" if scale < 1 else "floor"
            wanted = np.clip(_ROUNDINGS[rounding](at), 0, sizes[axis] - 1).astype(np.int64)
            view = found.selected(node, view, {axis: wanted})
        else:
            view = _blend(found, node, view, axis, np.clip(at, 0, sizes[axis] - 1))
    found.views[node.output[0]] = view


def _resized(found: LayerList, node: NodeProto, sizes: list[int]) -> dict[int, tuple[int, float]]:
    """For every axis that changes: its new size and its scale."""
    axes = places(node, attributes(node).get("axes") or list(range(len(sizes))), len(sizes))
    upsample = node.op_type == "Upsample"
    targets = None if upsample else found.integers(node, "sizes", 3)
    given = attributes(node).get("scales")
    if not targets and given is None:
        place = 1 if upsample or len(node.input) == 2 else 2
        constant = found.weights(node, place, "scales")
        given = [] if constant is None else [float(v) for v in constant.reshape(-1)]
    if len(targets or given or []) != len(axes):
        raise invalid(node, "it has no size or scale for each axis")
    if upsample and given and min(given) < 1:
        raise invalid(node, f"its scales are {given}, expected 1 and more")
    changed = {}
    for i, axis in enumerate(axes):
        size = sizes[axis]
        target = targets[i] if targets else int(np.floor(np.float32(size) * np.float32(given[i])))  # type: ignore[index]
        if axis == 0 and (target != 1 or (targets and found.graph.fixes_batch(node, 3))):
            nearest = "height and width, and the batch as it is (scales, or sizes for a batch of 1)"
            raise Refusal("it resizes the batch", nearest)
        check_positions(target)
        if axis != 0 and target < 1:
            raise Refusal(f"it leaves {target} of {size} positions", "sizes of 1 and more")
        if axis != 0 and (target != size or (not targets and given[i] != 1)):  # type: ignore[index]
            changed[axis] = (target, target / size if targets else given[i])  # type: ignore[index]
    return changed


def _blend(found: LayerList, node: NodeProto, view: View, axis: int, at: np.ndarray) -> View:
    shape = found.shapes[view.tensor]
    letters, sizes = letters_of(view.axes, shape), dict(zip("hwc", shape, strict=True))
    letter = str(letters[axis])
    if letter not in "hw" or view.axes[axis] != joined([(letter, sizes[letter], 1)]):
        raise Refusal(f"it blends axis {axis} of {described(view.axes)}", "height and width")
    low = np.floor(at).astype(np.int32)
    high = np.minimum(low + 1, sizes[letter] - 1).astype(np.int32)
    sizes[letter] = len(at)
    step = Step("v_blend", (float("hw".index(letter)),), (at - low).astype(np.float32), (low, high))
    tensor = found.add_steps(node, view, [step], (sizes["h"], sizes["w"], sizes["c"]), "blended")
    axes = tuple(joined([(letter, len(at), 1)]) if i == axis else a for i, a in enumerate(view.axes))
    found.views[tensor] = View(tensor, axes)
    return found.views[tensor]


_COORDINATES = {
    "half_pixel": lambda x, target, size, scale: (x + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda x, target, size, scale: (x + 0.5) / scale - 0.5 if target > 1 else x * 0,
    "align_corners": lambda x, target, size, scale: x * (size - 1) / max(1, target - 1),
    "asymmetric": lambda x, target, size, scale: x / scale,
    "half_pixel_symmetric": lambda x, target, size, scale: (
        size / 2 * (1 - target / (scale * size)) + (x + 0.5) / scale - 0.5
    ),
}
_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}
