"""Layers over tensors of height x width x channels, and what finding them in an ONNX graph needs."""

from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.onnx_graph import (
    AXES,
    Graph,
    Refusal,
    UnknownValueError,
    View,
    attributes,
    label,
    normal,
    unsupported,
)
from amlrealtimeai.npu.program import Shape, Window


@dataclass(frozen=True, eq=False)
class Layer:
    """One operation: conv, affine, add, relu, max, avg or concat.

    conv: weights float32 [outputs, kernel height, kernel width, channels]; the result is x*weights*gain + bias.
    affine: the result is (x - mean)*gain + bias. gain, bias and mean are float64 [channels] or None.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    shape: Shape
    window: Window | None = None
    weights: np.ndarray | None = None
    gain: np.ndarray | None = None
    bias: np.ndarray | None = None
    mean: np.ndarray | None = None

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


class LayerList:
    """The layers found so far in `graph`, the `shapes` of their results, and the `views` of the ONNX values."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.layers: list[Layer] = []
        self.views: dict[str, View] = {graph.input.tensor: graph.input}
        self.shapes: dict[str, Shape] = {graph.input.tensor: graph.input_shape}
        self.blockers: list[tuple[NodeProto, Refusal]] = []
        self._nonnegative: set[str] = set()
        self._behind_blockers: set[str] = set()
        self._behind_products: set[str] = set()

    def view(self, node: NodeProto, number: int = 0) -> View:
        """The view of a node's input that depends on the graph's input."""
        name = node.input[number]
        if self.graph.constant(name) is not None:
            raise unsupported(node, f"its operand {name} is a constant", "constants in the place of weights")
        if name not in self.views and name in self._behind_blockers:
            raise UnknownValueError
        if name not in self.views:
            raise InvalidInputError(f"node {label(node)} ({node.op_type}) reads {name}, which nothing before it writes")
        return self.views[name]

    def plain_view(self, node: NodeProto, number: int = 0) -> View:
        """The same, for operations that cannot take over pending padding."""
        view = self.view(node, number)
        if any(view.pads):
            raise unsupported(node, "it reads the result of a Pad", "Pad before Conv, MaxPool")
        return view

    def image_view(self, node: NodeProto) -> View:
        """The first input, which must be NCHW."""
        view = self.view(node)
        if view.axes != normal(AXES["nchw"], self.shapes[view.tensor]) or len(view.axes) != 4:
            raise unsupported(node, f"its input has the axes {list(view.axes)}", "inputs in NCHW order (Transpose)")
        return view

    def weights(self, node: NodeProto, number: int, what: str) -> np.ndarray | None:
        """Constant input `number` as float32; None where it is absent. Refuses values that are computed or infinite."""
        if number >= len(node.input) or not node.input[number]:
            return None
        value = self.graph.constant(node.input[number])
        if value is None:
            raise unsupported(node, f"its {what} {node.input[number]} is computed", f"constant {what}")
        value = np.asarray(value, np.float32)
        if not np.isfinite(value).all():
            raise InvalidInputError(f"node {label(node)} ({node.op_type}): its {what} holds NaN or infinity")
        return value

    def required(self, node: NodeProto, number: int, what: str) -> np.ndarray:
        """Like `weights`, for inputs that must be there."""
        value = self.weights(node, number, what)
        if value is None:
            raise InvalidInputError(f"node {label(node)} ({node.op_type}): it has no {what}")
        return value

    def integers(self, node: NodeProto, name: str, number: int) -> list[int] | None:
        """A list that is an attribute in old opsets and a constant input in new ones."""
        given = attributes(node).get(name)
        if given is not None:
            return list(given)
        if number >= len(node.input) or not node.input[number]:
            return None
        value = self.graph.constant(node.input[number])
        if value is None:
            raise unsupported(node, f"its {name} are computed from data", f"constant {name}")
        return [int(i) for i in value.reshape(-1)]

    def block(self, node: NodeProto, refusal: Refusal) -> None:
        """Note a node that the NPU cannot run, and guess what its results look like, to judge what follows."""
        self.blockers.append((node, refusal))
        self._behind_blockers.update(node.output)
        shapes = self.graph.inferred_shapes
        before = next((name for name in node.input if name in self.views), None)
        for name in node.output:
            sizes = shapes.get(name, [])
            axes = self.views[before].axes if before and shapes.get(before) == sizes else None
            if len(sizes) in (2, 4) and all(sizes[1:]):
                nhwc = before is not None and self._is_nhwc(self.views[before])
                axes = axes or AXES["nc" if len(sizes) == 2 else "nhwc" if nhwc else "nchw"]
                if len(axes) == len(sizes) and all(len(axis) <= 1 for axis in axes):
                    known = {letter: size for letter, size in zip(axes, sizes, strict=True) if letter}
                    self.shapes[name] = (known.get("h", 1), known.get("w", 1), known.get("c", 1))
                    self.views[name] = View(name, normal(axes, self.shapes[name]))

    def _is_nhwc(self, view: View) -> bool:
        return view.axes == normal(AXES["nhwc"], self.shapes[view.tensor])

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

    def add_layer(self, layer: Layer, axes: tuple[str, ...]) -> None:
        """Append a layer whose result is seen with `axes` (letters of size 1 still in)."""
        self.layers.append(layer)
        self.shapes[layer.output] = layer.shape
        self.views[layer.output] = View(layer.output, normal(axes, layer.shape))

    def mark_nonnegative(self, node: NodeProto, *tensors: str) -> None:
        """The node's result is not negative if all of `tensors` are not (none given: always)."""
        if all(tensor in self._nonnegative for tensor in tensors):
            self._nonnegative.add(node.output[0])

    def is_nonnegative(self, tensor: str) -> bool:
        """Whether the tensor is known to hold no negative value."""
        return tensor in self._nonnegative
