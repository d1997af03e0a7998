"""Layers over tensors of height x width x channels, and what finding them in an ONNX graph needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from onnx import NodeProto

from amlrealtimeai.npu.instructions import Port, Shape, Window
from amlrealtimeai.npu.lowering.graph import Graph, Refusal, UnknownValueError, attributes, invalid, label
from amlrealtimeai.npu.lowering.views import (
    BATCH,
    NO_PADS,
    Axes,
    View,
    axes_of,
    described,
    extents,
    joined,
    letters_of,
    offsets,
    positions,
)
from amlrealtimeai.npu.validation import LARGEST_CHANNELS, LARGEST_SIDE, LARGEST_TENSOR


@dataclass(frozen=True, eq=False)
class Step:
    """One instruction of the vector units before its constants have names."""

    op: str
    values: tuple[float, ...] = ()
    vector: np.ndarray | None = None
    lists: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation: conv, filter, affine, vector, add, mul, max, avg or concat.

    conv: weights float32 [outputs, kernel height, kernel width, channels of a group], in `groups` groups; the result is
    x*weights*gain + bias. filter: the same with one channel in a group, in float32. affine: the result is
    (x - mean)*gain + bias. gain, bias and mean are float64 [channels] or None. vector: the steps, in order.
    add, mul: the second input may be of size 1 in some directions. counted: what an average counts of its padding.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    shape: Shape
    window: Window | None = None
    weights: np.ndarray | None = None
    groups: int = 1
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None
    mean: np.ndarray | None = None
    steps: tuple[Step, ...] = ()
    counted: tuple[int, ...] = ()

    def then(self, affine: "Layer") -> "Layer":
        """This layer followed by `affine`, as one layer that writes what `affine` wrote."""
        gain, bias = self.gain, self.bias
        if affine.mean is not None:
            bias = -affine.mean if bias is None else bias - affine.mean
        if affine.gain is not None:
            gain = affine.gain if gain is None else gain * affine.gain
            bias = None if bias is None else bias * affine.gain
        if affine.bias is not None:
            bias = affine.bias if bias is None else bias + affine.bias
        return replace(self, gain=gain, bias=bias, output=affine.output)


def check_positions(count: int, most: int = LARGEST_CHANNELS) -> None:
    """Refuse more positions along one axis than a tensor or window can have, before lists of them are made."""
    if count > most:
        raise Refusal(f"it makes {count} positions along one axis", f"at most {most}")


@dataclass(frozen=True)
class Entry:
    """How the graph's input is held: its port, the tensor's shape, and what lies on its axes."""

    port: Port
    shape: Shape
    axes: Axes


class LayerList:
    """The layers found so far in `graph`, the `shapes` of their results, and the `views` of the ONNX values.

    nodes: those that were looked at; in the place of an If with a constant condition stand those of its branch.
    """

    def __init__(self, graph: Graph, entry: Entry) -> None:
        self.graph, self.entry = graph, entry
        self.layers: list[Layer] = []
        self.nodes: list[NodeProto] = []
        self.views: dict[str, View] = {graph.input: View(entry.port.tensor, entry.axes)}
        self.shapes: dict[str, Shape] = {entry.port.tensor: entry.shape}
        self.blockers: list[tuple[NodeProto, Refusal]] = []
        self._names = set(graph.names)
        self._makers: dict[str, Layer] = {}
        self._behind_blockers: set[str] = set()
        self._behind_products: set[str] = set()

    # What a node reads

    def view(self, node: NodeProto, number: int = 0) -> View:
        """The view of a node's input that depends on the graph's input."""
        name = node.input[number]
        if self.graph.constant(name) is not None:
            raise Refusal(f"its operand {name} is a constant", "constants in the place of weights")
        if name not in self.views and name in self._behind_blockers:
            raise UnknownValueError
        if name not in self.views:
            raise invalid(node, f"it reads {name}, which nothing before it writes")
        return self.views[name]

    def plain_view(self, node: NodeProto, number: int = 0) -> View:
        """The same, with padding from a Pad node carried out."""
        return self.padded(node, self.view(node, number))

    def image_view(self, node: NodeProto, number: int = 0, keep_pads: bool = True) -> View:
        """An input whose tensor is in the order that the node's NCHW input says; rearranged first where it is not.

        What has three axes, NCW, counts as an image of one row.
        """
        view = self.view(node, number)
        if len(view.axes) not in (3, 4) or view.axes[0] != BATCH:
            raise Refusal(f"its input has the axes {described(view.axes)}", "three or four axes, NCW or NCHW")
        if len(view.axes) == 3:
            view = self.padded(node, view)
            view = replace(view, axes=(*view.axes[:2], (), view.axes[2]))
        ordered = view.axes == axes_of("nchw", self.shapes[view.tensor])
        if ordered and (keep_pads or view.pads == NO_PADS):
            return view
        return self.rearranged(node, self.padded(node, view))

    def constant(self, node: NodeProto, number: int) -> np.ndarray | None:
        """Constant input `number`; None where it is absent or depends on the graph's input."""
        there = number < len(node.input) and node.input[number]
        return self.graph.constant(node.input[number]) if there else None

    def weights(self, node: NodeProto, number: int, what: str) -> np.ndarray | None:
        """Constant input `number` as float32; None where it is absent. Refuses values that are computed or infinite."""
        if number >= len(node.input) or not node.input[number]:
            return None
        value = self.graph.constant(node.input[number])
        if value is None:
            raise Refusal(f"its {what} {node.input[number]} is computed", f"constant {what}")
        with np.errstate(over="ignore"):
            value = np.asarray(value, np.float32)
        if not np.isfinite(value).all():
            raise invalid(node, f"its {what} holds NaN or infinity")
        return value

    def required(self, node: NodeProto, number: int, what: str) -> np.ndarray:
        """Like `weights`, for inputs that must be there."""
        value = self.weights(node, number, what)
        if value is None:
            raise invalid(node, f"it has no {what}")
        return value

    def integers(self, node: NodeProto, name: str, number: int) -> list[int] | None:
        """A list that is an attribute in old opsets and a constant input in new ones."""
        given = attributes(node).get(name)
        if given is not None:
            return [int(i) for i in given] if isinstance(given, list | tuple) else [int(given)]
        if number >= len(node.input) or not node.input[number]:
            return None
        value = self.graph.constant(node.input[number])
        if value is None:
            raise Refusal(f"its {name} are computed from data", f"constant {name}")
        return [int(i) for i in value.reshape(-1)]

    # What a node makes

    def unused(self, name: str) -> str:
        """`name`, or that name with a number where a value has it already."""
        number, found = 1, name
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def add_layer(self, layer: Layer, axes: Axes) -> View:
        """Append a layer whose result is seen with `axes`; the result's view."""
        height, width, channels = layer.shape
        fits = (
            max(height, width) <= LARGEST_SIDE and channels <= LARGEST_CHANNELS and prod(layer.shape) <= LARGEST_TENSOR
        )
        if min(layer.shape) < 1:
            raise Refusal(f"nothing is left of its result: {height} x {width} x {channels}", "sizes of 1 and more")
        if not fits:
            limits = f"{LARGEST_SIDE} rows and columns, {LARGEST_CHANNELS} channels, {LARGEST_TENSOR} values"
            raise Refusal(f"its result has the size {height} x {width} x {channels}", f"at most {limits}")
        self.layers.append(layer)
        self._makers[layer.output] = layer
        self.shapes[layer.output] = layer.shape
        self.views[layer.output] = View(layer.output, axes)
        return self.views[layer.output]

    def add_steps(self, node: NodeProto, view: View, steps: Sequence[Step], shape: Shape, what: str = "") -> str:
        """Append a vector layer; its tensor is the node's result, or a new one named after it for its part `what`."""
        output = self.unused(f"{node.output[0]}/{what}") if what else node.output[0]
        self.add_layer(Layer("vector", label(node), (view.tensor,), output, shape, steps=tuple(steps)), view.axes)
        return output

    def padded(self, node: NodeProto, view: View) -> View:
        """The view with its padding carried out."""
        if view.pads == NO_PADS:
            return view
        height, width, channels = self.shapes[view.tensor]
        top, left, bottom, right = view.pads
        check_positions(max(height + top + bottom, width + left + right))
        lists = tuple(
            np.pad(np.arange(size, dtype=np.int32), around, constant_values=-1) if any(around) else None
            for size, around in ((height, (top, bottom)), (width, (left, right)))
        )
        shape = (height + top + bottom, width + left + right, channels)
        axes = _with_sizes(view.axes, self.shapes[view.tensor], shape)
        tensor = self.add_steps(node, view, [Step("v_pick", (0,), lists=(*lists, None))], shape, "padded")
        self.views[tensor] = View(tensor, axes)
        return self.views[tensor]

    def selected(self, node: NodeProto, view: View, lists: Mapping[int, np.ndarray], fill: float = 0.0) -> View:
        """The positions in `lists` of some axes (-1: `fill`); the view of a new tensor."""
        view = self.padded(node, view)
        letters = letters_of(view.axes, self.shapes[view.tensor])
        chosen = [letters[axis] for axis in lists]
        parts = [part[0] for axis in view.axes for part in axis]
        alone = all(parts.count(c) == len(view.axes[axis]) for c, axis in zip(chosen, lists, strict=True) if c)
        if not alone and [len(view.axes[axis]) for axis in lists] == [1]:
            return self._selected_part(node, view, *next(iter(lists.items())), fill)
        if None in chosen or "n" in chosen or len(set(chosen)) != len(chosen) or not alone:
            view = self.rearranged(node, view)
            letters = letters_of(view.axes, self.shapes[view.tensor])
        if any(letters[axis] in (None, "n") for axis in lists):
            raise Refusal(f"it selects from axes {list(lists)} of {described(view.axes)}", "h, w and channels")
        sizes, axes = dict(zip("hwc", self.shapes[view.tensor], strict=True)), list(view.axes)
        picks: dict[str, np.ndarray | None] = dict.fromkeys("hwc")
        for axis, wanted in lists.items():
            letter = str(letters[axis])
            picks[letter] = np.where(wanted < 0, -1, positions(view.axes[axis])[wanted]).astype(np.int32)
            sizes[letter] = len(wanted)
            axes[axis] = joined([(letter, len(wanted), 1)])
        step = Step("v_pick", (fill,), lists=tuple(picks[letter] for letter in "hwc"))
        tensor = self.add_steps(node, view, [step], (sizes["h"], sizes["w"], sizes["c"]), "part")
        self.views[tensor] = View(tensor, tuple(axes))
        return self.views[tensor]

    def _selected_part(self, node: NodeProto, view: View, axis: int, wanted: np.ndarray, fill: float) -> View:
        """The same for an axis that holds a part of a letter whose other parts lie on other axes."""
        ((letter, size, stride),) = view.axes[axis]
        sizes = dict(zip("hwc", self.shapes[view.tensor], strict=True))
        found = np.arange(sizes[letter]).reshape(-1, size, stride)[:, wanted]
        found[:, wanted < 0] = -1
        sizes[letter] = found.size
        picks = tuple(found.reshape(-1).astype(np.int32) if letter == other else None for other in "hwc")
        shape = (sizes["h"], sizes["w"], sizes["c"])
        tensor = self.add_steps(node, view, [Step("v_pick", (fill,), lists=picks)], shape, "part")
        axes = list(view.axes)
        for place, parts in enumerate(view.axes):
            # the parts outside of this one lie closer to each other, or farther away
            moved = [
                (name, count, at * len(wanted) // size) if name == letter and at > stride else (name, count, at)
                for name, count, at in parts
            ]
            axes[place] = joined([(letter, len(wanted), stride)] if place == axis else moved)
        self.views[tensor] = View(tensor, tuple(axes))
        return self.views[tensor]

    def rearranged(self, node: NodeProto, view: View, layout: str = "") -> View:
        """The same values in a tensor with one letter on each axis: those of `layout`, else nchw, nhc or nc."""
        layout = layout or {2: "nc", 3: "nhc", 4: "nchw"}.get(len(view.axes), "")
        if not layout or view.axes[0] != BATCH:
            raise Refusal(f"it reads the axes {described(view.axes)}", "two to four axes, the batch first")
        old = self.shapes[view.tensor]
        sizes = dict.fromkeys("hwc", 1) | dict(zip(layout[1:], extents(view.axes)[1:], strict=True))
        shape = (sizes["h"], sizes["w"], sizes["c"])
        if view.axes == axes_of(layout, old) and view.pads == NO_PADS:
            return view
        if prod(shape) > LARGEST_TENSOR:
            raise Refusal(f"it rearranges {prod(shape)} values", f"at most {LARGEST_TENSOR}")
        steps = self._moves(view.axes, layout, old, shape)
        tensor = self.add_steps(node, view, steps, shape, "arranged")
        self.views[tensor] = View(tensor, axes_of(layout, shape))
        return self.views[tensor]

    def _moves(self, axes: Axes, layout: str, old: Shape, shape: Shape) -> list[Step]:
        """Steps that bring the parts on `axes` to the letters of `layout`."""
        letters = letters_of(axes, old)
        if all(axis == () or letters[i] == layout[i] for i, axis in enumerate(axes)):
            lists = {layout[i]: positions(axis).astype(np.int32) for i, axis in enumerate(axes) if i and axis}
            moved = {letter: v for letter, v in lists.items() if (v != np.arange(len(v))).any()}
            return [Step("v_pick", (0,), lists=tuple(moved.get(letter) for letter in "hwc"))]
        total = prod(shape)
        if total > LARGEST_CHANNELS:
            raise Refusal(f"it rearranges {total} values", f"at most {LARGEST_CHANNELS}")
        where = dict.fromkeys("hwc", np.zeros(1, np.int64))
        where |= {layout[i]: offsets(axis, old) for i, axis in enumerate(axes) if i}
        flat = (where["h"][:, None, None] + where["w"][:, None] + where["c"]).reshape(-1).astype(np.int32)
        steps = [Step("v_shape", (1, 1, total))]
        if (flat != np.arange(total)).any():
            steps.append(Step("v_pick", (0,), lists=(None, None, flat)))
        return [*steps, Step("v_shape", tuple(float(size) for size in shape))]

    def is_nonnegative(self, tensor: str) -> bool:
        """Whether the tensor is known to hold no negative value."""
        layer = self._makers.get(tensor)
        if layer is None:
            return False
        if layer.op == "vector" and layer.steps and layer.steps[-1].op in ("v_relu", "v_sigmoid", "v_hsigmoid"):
            return True
        if layer.op == "vector" and layer.steps and layer.steps[-1].op in ("v_clip", "v_threshold"):
            return layer.steps[-1].values[0] >= 0
        moves = layer.op == "vector" and all(step.op in ("v_pick", "v_shape") for step in layer.steps)
        fills = all(step.values[0] >= 0 for step in layer.steps if step.op == "v_pick")
        passing = layer.op in ("add", "mul", "max", "avg", "concat") or (moves and fills)
        return passing and all(self.is_nonnegative(name) for name in layer.inputs)

    # What stops a model

    def block(self, node: NodeProto, refusal: Refusal) -> None:
        """Note a node that the NPU cannot run, and guess what its results look like, to judge what follows."""
        self.blockers.append((node, refusal))
        self._behind_blockers.update(node.output)
        shapes = self.graph.inferred_shapes
        before = next((self.views[name] for name in node.input if name in self.views), None)
        nhwc = before is not None and before.axes == axes_of("nhwc", self.shapes[before.tensor])
        for name in node.output:
            sizes = shapes.get(name, [])
            layout = {2: "nc", 3: "nhc", 4: "nhwc" if nhwc else "nchw"}.get(len(sizes))
            if name and layout and all(sizes[1:]):
                known = dict.fromkeys("hwc", 1) | dict(zip(layout[1:], sizes[1:], strict=True))
                self.shapes[name] = (known["h"], known["w"], known["c"])
                self.views[name] = View(name, axes_of(layout, self.shapes[name]))

    def follow(self, node: NodeProto, is_product: bool) -> None:
        """Note what lies behind the node: whether blockers or products were on the way to its results."""
        if self._behind_blockers.intersection(node.input):
            self._behind_blockers.update(node.output)
        if is_product or self._behind_products.intersection(node.input):
            self._behind_products.update(node.output)

    def is_behind_blockers(self, name: str) -> bool:
        """Whether the value depends on what the NPU cannot run."""
        return name in self._behind_blockers

    def is_runnable(self, name: str) -> bool:
        """Whether no blocker lies before the value, and a product does."""
        return name in self.views and name in self._behind_products and name not in self._behind_blockers


def _with_sizes(axes: Axes, old: Shape, new: Shape) -> Axes:
    """`axes` of whole letters after those letters have changed their sizes."""
    letters, sizes = letters_of(axes, old), dict(zip("hwc", new, strict=True))
    pairs = zip(axes, letters, strict=True)
    return tuple(joined([(letter, sizes[letter], 1)]) if letter in sizes else axis for axis, letter in pairs)
