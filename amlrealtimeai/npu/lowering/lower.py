"""Turns the nodes of an ONNX graph into layers, or notes why not."""

from collections.abc import Callable, Iterator
from math import prod

from onnx import NodeProto

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError
from amlrealtimeai.npu.instructions import Port, Shape
from amlrealtimeai.npu.lowering import arithmetic, layout, resizing, windows
from amlrealtimeai.npu.lowering.graph import Graph, Refusal, UnknownValueError, attributes, label
from amlrealtimeai.npu.lowering.layers import Entry, LayerList
from amlrealtimeai.npu.lowering.views import BATCH, axes_of, split

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_IMAGE_OPS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN")
_NEAREST = {
    **dict.fromkeys(
        ("LogSoftmax", "ArgMax", "TopK"), "a featurizer that ends before it; the classifier runs on the host"
    ),
    **dict.fromkeys(
        ("LpNormalization", "ReduceL2", "ReduceSumSquare", "Sqrt", "Rsqrt", "Reciprocal"),
        "a featurizer that ends before it; the host normalises in float32 (and a second program may read the result)",
    ),
}
_HANDLERS: dict[str, Callable[[LayerList, NodeProto], None]] = {
    **dict.fromkeys(("Identity", "Cast", "CastLike", "Dropout"), layout.pass_on),
    **dict.fromkeys(("Expand", "Tile"), layout.expand),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), layout.depth_and_space),
    **dict.fromkeys(("Resize", "Upsample"), resizing.resize),
    "Concat": layout.concat,
    "Flatten": layout.flatten,
    "Gather": layout.gather,
    "Pad": layout.pad,
    "Reshape": layout.reshape,
    "Shape": layout.shape_of,
    "Slice": layout.cut,
    "Split": layout.divide,
    "Squeeze": layout.squeeze,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
    **dict.fromkeys(("Gemm", "MatMul"), windows.dense),
    **dict.fromkeys(("MaxPool", "AveragePool"), windows.pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), windows.global_pool),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), windows.reduce),
    "Conv": windows.conv,
    "ConvTranspose": windows.conv_transposed,
    "LRN": windows.lrn,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic.arithmetic),
    **dict.fromkeys(("Sum", "Mean"), arithmetic.total),
    **dict.fromkeys(("Max", "Min"), arithmetic.extreme),
    **dict.fromkeys(("LeakyRelu", "PRelu", "Abs"), arithmetic.sloped),
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "HardSwish", "Swish"), arithmetic.curved),
    "BatchNormalization": arithmetic.batch_norm,
    "Clip": arithmetic.clip,
    "Neg": arithmetic.negative,
    "Pow": arithmetic.power,
    "Relu": arithmetic.relu,
    "Softmax": arithmetic.softmax,
    "ThresholdedRelu": arithmetic.threshold,
    "Where": arithmetic.where,
}


def lower(graph: Graph) -> LayerList:
    """Every node of `graph` as layers, or among the blockers. Raises InvalidInputError.

    The input's layout is the one with which the fewest nodes are refused and the fewest layers are needed.
    """
    best: LayerList | None = None
    problem: InvalidInputError | None = None
    for entry in _entries(graph):
        try:
            found = _lower(graph, entry)
        except InvalidInputError as error:
            problem = problem or error
            continue
        if best is None or _cost(found) < _cost(best):
            best = found
        if not best.blockers and not _is_rearranged(best):
            return best
    if best is None:
        raise problem or InvalidInputError(f"input {graph.input}: its layout is unknown")
    return best


def _cost(found: LayerList) -> tuple[int, int]:
    return len(found.blockers), len(found.layers)


def _is_rearranged(found: LayerList) -> bool:
    return any(step.op == "v_shape" or step.op == "v_pick" for layer in found.layers for step in layer.steps)


def _entries(graph: Graph) -> Iterator[Entry]:
    """The ways in which the input can be held, the likeliest first."""
    name, sizes = graph.input, graph.input_sizes[1:]
    total = prod(sizes)
    parts = split(axes_of("nc", (1, 1, total))[1], sizes)
    assert parts is not None
    port = Port(name, name, "nc") if len(sizes) == 1 else Port(name, name, "nhwc", tuple(sizes))
    flat = Entry(port, (1, 1, total), (BATCH, *parts))
    images = [node for node in graph.nodes if node.op_type in _IMAGE_OPS]
    if not images:
        yield flat
    if len(sizes) == 3:
        order = ("nhwc", "nchw") if _starts_with_nhwc(graph) else ("nchw", "nhwc")
        for letters in order:
            by_letter = dict(zip(letters[1:], sizes, strict=True))
            shape = (by_letter["h"], by_letter["w"], by_letter["c"])
            yield Entry(Port(name, name, letters), shape, axes_of(letters, shape))
    elif images:
        yield from _images(graph, total)
    if len(sizes) == 2:
        if images:
            shape = (1, sizes[1], sizes[0])
            batch, channels, _, width = axes_of("nchw", shape)
            yield Entry(Port(name, name, "nchw", tuple(sizes)), shape, (batch, channels, width))
        shape = (sizes[0], sizes[1], 1)
        yield Entry(Port(name, name, "nhwc", tuple(sizes)), shape, axes_of("nhw", shape))
    if images:
        yield flat


def _images(graph: Graph, total: int) -> Iterator[Entry]:
    """Images that a flat input may hold, by the constant shapes that the graph reshapes to."""
    for node in graph.nodes:
        value = graph.constant(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        target = [] if value is None else [int(i) for i in value.reshape(-1)]
        if len(target) != 4 or min(target[1:]) < 1 or prod(target[1:]) != total:
            continue
        for letters in ("nchw", "nhwc"):
            by_letter = dict(zip(letters[1:], target[1:], strict=True))
            shape: Shape = (by_letter["h"], by_letter["w"], by_letter["c"])
            port = Port(graph.input, graph.input, letters, tuple(graph.input_sizes[1:]))
            axes = split([part for axis in axes_of(letters, shape)[1:] for part in axis], graph.input_sizes[1:])
            if axes is not None:
                yield Entry(port, shape, (BATCH, *axes))


def _starts_with_nhwc(graph: Graph) -> bool:
    """Whether the input meets a Transpose to NCHW, or has the few channels of an image last."""
    names = {graph.input}
    for node in graph.nodes:
        if names.intersection(node.input):
            if node.op_type == "Transpose":
                return bool(attributes(node).get("perm") == [0, 3, 1, 2])
            if node.op_type in _IMAGE_OPS:
                return False
            names.update(node.output)
    return False


def _lower(graph: Graph, entry: Entry) -> LayerList:
    layers = LayerList(graph, entry)
    pending = graph.nodes[::-1]
    while pending:
        node = pending.pop()
        try:
            branch = graph.branch(node)
            if branch is not None:
                pending += branch[::-1]
                continue
            layers.nodes.append(node)
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
        raise Refusal(f"operations of domain {node.domain} are unknown", "standard ONNX operations")
    if layers.graph.fold(node):
        return
    handler = _HANDLERS.get(node.op_type)
    if handler is None:
        nearest = _NEAREST.get(node.op_type, ", ".join(sorted(_HANDLERS)))
        raise Refusal("the NPU has no such operation", nearest)
    handler(layers, node)
