"""TensorFlow nodes that ONNX cannot say, or says otherwise, as others that mean the same."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amlrealtimeai.convert.graph import Graph, set_constant, tensor_name
from amlrealtimeai.convert.quiet import tensorflow


def rewrite(graph: Graph) -> None:
    """Edit such nodes, in place; those whose sizes are not known stay."""
    for node in list(graph.graph_def.node):
        if node.op in _REWRITES:
            _REWRITES[node.op](graph, node)
    graph.changed()


def _nearest_as_gathers(graph: Graph, node: Any) -> None:
    """A nearest-neighbour resize by other than whole factors as gathers of TensorFlow's own indices.

    ONNX's Resize computes them from scales that are rounded otherwise, and may be a pixel or a row off.
    """
    if (sizes := _known_sizes(graph, node)) is None:
        return
    given, wanted = sizes[0][:2], [int(size) for size in sizes[1]]
    aligned, centred = node.attr["align_corners"].b, node.attr["half_pixel_centers"].b
    if not aligned and all(new % old == 0 for old, new in zip(given, wanted, strict=True)):
        return
    images, dtype = graph.inputs(node)[0], node.attr["T"].type
    indices = [_nearest(old, new, aligned, centred) for old, new in zip(given, wanted, strict=True)]
    places = [constant(graph, f"{node.name}/{side}", i) for side, i in zip(("ys", "xs"), indices, strict=True)]
    axes = [constant(graph, f"{node.name}/axis_{axis}", np.asarray(axis, np.int32)) for axis in (1, 2)]
    types = {"Tparams": dtype, **dict.fromkeys(("Tindices", "Taxis"), tensorflow().int32.as_datatype_enum)}
    rows = added(graph, f"{node.name}/rows", "GatherV2", [images, places[0], axes[0]], types)
    become(node, "GatherV2", [rows, places[1], axes[1]], types)


def _nearest(old: int, new: int, aligned: bool, centred: bool) -> np.ndarray:
    """The index that each of `new` positions reads of `old` ones, as TensorFlow's kernel computes it in float32."""
    scale = np.float32(old - 1) / np.float32(new - 1) if aligned and new > 1 else np.float32(old) / np.float32(new)
    places = (np.arange(new, dtype=np.float32) + np.float32(0.5 if centred else 0)) * scale
    rounded = np.floor(places + np.float32(0.5)) if aligned else np.floor(places)
    return np.asarray(np.clip(rounded, 0, old - 1), np.int32)


def _resize_as_products(graph: Graph, node: Any) -> None:
    """A resize that ONNX does not have as products with two matrices: what TensorFlow makes of single rows and columns.

    Its kernels (area, cubic, Lanczos, antialiased ones) weigh rows and columns independently of each other.
    """
    if (sizes := _known_sizes(graph, node)) is None:
        return
    tf = tensorflow()
    (height, width, channels), (rows, columns), *scaling = sizes
    down = _weights(node, 0, height, int(rows), scaling)
    across = _weights(node, 1, width, int(columns), scaling)
    images, single = graph.inputs(node)[0], {"T": tf.float32.as_datatype_enum}
    if node.attr["T"].type != tf.float32.as_datatype_enum:
        types = {"SrcT": node.attr["T"].type, "DstT": tf.float32.as_datatype_enum}
        images = added(graph, f"{node.name}/float", "Cast", [images], types)
    shaped = {**single, "Tshape": tf.int32.as_datatype_enum}

    def reshaped(name: str, tensor: str, *shape: int) -> list[str]:
        return [tensor, constant(graph, f"{node.name}/{name}", np.asarray([-1, *shape], np.int32))]

    tensor = added(graph, f"{node.name}/flat", "Reshape", reshaped("by_rows", images, height, width * channels), shaped)
    for name, matrix, shape in (("down", down, (width, channels)), ("across", across, ())):
        weights = constant(graph, f"{node.name}/{name}/weights", matrix)
        tensor = added(graph, f"{node.name}/{name}", "BatchMatMulV2", [weights, tensor], single)
        if shape:
            flat = reshaped("by_columns", tensor, *shape)
            tensor = added(graph, f"{node.name}/turned", "Reshape", flat, shaped)
    become(node, "Reshape", reshaped("whole", tensor, int(rows), int(columns), channels), shaped)


def _weights(node: Any, axis: int, old: int, new: int, scaling: Sequence[np.ndarray]) -> np.ndarray:
    """[new, old]: what the resize makes of images with a single row (axis 0) or column (1) of ones, as channels."""
    tf = tensorflow()
    options = {
        key: node.attr[key].b for key in ("align_corners", "half_pixel_centers", "antialias") if key in node.attr
    }
    if "kernel_type" in node.attr:
        options["kernel_type"] = node.attr["kernel_type"].s.decode()
    for key, value, neutral in zip(("scale", "translation"), scaling, (1.0, 0.0), strict=False):
        options[key] = np.asarray([value[0], neutral] if axis == 0 else [neutral, value[1]], np.float32)
    units = np.eye(old, dtype=np.float32).reshape((1, old, 1, old) if axis == 0 else (1, 1, old, old))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        size = np.asarray([new, 1] if axis == 0 else [1, new], np.int32)
        made = session.run(getattr(tf.raw_ops, node.op)(images=units, size=size, **options))
    return np.asarray(made).reshape(new, old)


def _erfc(graph: Graph, node: Any) -> None:
    """erfc(x) as 1 - erf(x)."""
    types = {"T": node.attr["T"].type}
    one = np.asarray(1, tensorflow().as_dtype(node.attr["T"].type).as_numpy_dtype)
    erf = added(graph, f"{node.name}/erf", "Erf", graph.inputs(node), types)
    become(node, "Sub", [constant(graph, f"{node.name}/one", one), erf], types)


def _patches_as_convolution(graph: Graph, node: Any) -> None:
    """The values around each place as a convolution that picks them; tf2onnx needs a fixed batch for its own form."""
    dtype = tensorflow().as_dtype(node.attr["T"].type)
    channels = (graph.shape(graph.inputs(node)[0]) or [None])[-1]
    if channels is None or not dtype.is_floating:
        return
    sizes, strides, rates = (list(node.attr[key].list.i) for key in ("ksizes", "strides", "rates"))
    padding, values = node.attr["padding"].s, sizes[1] * sizes[2] * channels
    picks = np.eye(values, dtype=dtype.as_numpy_dtype).reshape(sizes[1], sizes[2], channels, values)
    become(
        node,
        "Conv2D",
        [graph.inputs(node)[0], constant(graph, f"{node.name}/picks", picks)],
        {"T": node.attr["T"].type},
    )
    node.attr["strides"].list.i.extend(strides)
    node.attr["dilations"].list.i.extend(rates)
    node.attr["padding"].s = padding


def _bucketize(graph: Graph, node: Any) -> None:
    """The number of boundaries that a value reaches."""
    tf = tensorflow()
    single, small, boolean = (kind.as_datatype_enum for kind in (tf.float32, tf.int32, tf.bool))
    last = constant(graph, f"{node.name}/last", np.asarray(-1, np.int32))
    bounds = constant(graph, f"{node.name}/bounds", np.asarray(node.attr["boundaries"].list.f, np.float32))
    values = added(
        graph, f"{node.name}/float", "Cast", graph.inputs(node), {"SrcT": node.attr["T"].type, "DstT": single}
    )
    column = added(graph, f"{node.name}/column", "ExpandDims", [values, last], {"T": single, "Tdim": small})
    reached = added(graph, f"{node.name}/reached", "GreaterEqual", [column, bounds], {"T": single})
    numbers = added(graph, f"{node.name}/numbers", "Cast", [reached], {"SrcT": boolean, "DstT": small})
    become(node, "Sum", [numbers, last], {"T": small, "Tidx": small})


_REWRITES: dict[str, Callable[[Graph, Any], None]] = {
    "ResizeNearestNeighbor": _nearest_as_gathers,
    "ResizeArea": _resize_as_products,
    "ResizeBicubic": _resize_as_products,
    "ScaleAndTranslate": _resize_as_products,
    "Erfc": _erfc,
    "ExtractImagePatches": _patches_as_convolution,
    "Bucketize": _bucketize,
}


def _known_sizes(graph: Graph, node: Any) -> list[Any] | None:
    """[height, width, channels] of a resize's images, and the values of its other inputs; None where one varies."""
    images, *given = graph.inputs(node)
    shape = graph.shape(images) or []
    known = [size for size in shape[1:] if size]
    values = [graph.known_value(tensor) for tensor in given]
    if len(shape) != 4 or len(known) != 3 or any(value is None for value in values):
        return None
    return [known, *values]


def added(graph: Graph, name: str, op: str, inputs: Sequence[str], types: dict[str, int]) -> str:
    """The result of a new node."""
    node = graph.graph_def.node.add(name=name)
    graph.nodes[name] = node
    become(node, op, inputs, types)
    return tensor_name(name)


def constant(graph: Graph, name: str, value: np.ndarray) -> str:
    """The result of a new Const."""
    node = graph.graph_def.node.add(name=name)
    graph.nodes[name] = node
    set_constant(node, value)
    return tensor_name(name)


def become(node: Any, op: str, inputs: Sequence[str], types: dict[str, int]) -> None:
    """Let the node be another; types: number of a tf.DType by attribute."""
    node.op = op
    node.attr.clear()
    for name, dtype in types.items():
        node.attr[name].type = dtype
    node.input[:] = [tensor.removesuffix(":0") for tensor in inputs]
