"""Where a graph is cut: preprocess, host, NPU, host."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.convert.graph import ALIAS_OPS, Graph, node_name
from amlrealtimeai.convert.inference import require_inference
from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.convert.saved_model import SavedModel
from amlrealtimeai.errors import ConversionError

# What npu.compile takes, as TensorFlow ops; conditions (groups, axes) are in unsupported().
_CONVOLUTIONAL = ("Conv2D", "BiasAdd", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Relu", "MaxPool")
_COMBINING = ("AvgPool", "Mean", "Add", "AddV2", "Mul", "ConcatV2", "Pad", "Squeeze", "Const", "IdentityN")
NPU_OPS = frozenset({*_CONVOLUTIONAL, *_COMBINING}) | ALIAS_OPS


@dataclass
class Cut:
    """One stage to be: its kind ("preprocess", "onnx" or "npu"), name, and the tensors at its two edges."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    details: dict[str, Any]


def plan_stages(model: SavedModel, float_graph: Graph, require_fpga: bool) -> list[Cut]:
    """Cut the path from the model's inputs to its outputs into stages, in the order they run.

    `float_graph` is the model's graph without quantisers. Raises ConversionError when nothing can run on the NPU and
    `require_fpga` is set.
    """
    needed = _needed(model)
    special = _preprocess_cuts(model, needed)
    given = [*model.inputs, *(tensor for cut in special for tensor in cut.outputs)]
    npu = _featurizer_cuts(model, needed)
    if not npu:
        npu = _automatic_cuts(model, float_graph, given, require_fpga)
    return _join(model, _ordered(model.graph, [*special, *npu]))


def plan_host(model: SavedModel) -> list[Cut]:
    """The same with everything behind the preprocessing on the host."""
    return _join(model, _preprocess_cuts(model, _needed(model)))


def _needed(model: SavedModel) -> set[str]:
    return {*model.graph.ancestors(model.outputs, stop=model.inputs), *map(node_name, model.inputs)}


def _preprocess_cuts(model: SavedModel, needed: set[str]) -> list[Cut]:
    cuts: dict[str, Cut] = {}
    for note in model.preprocess:
        source, target = note["input"], note["output"]
        if node_name(target) in needed and node_name(source) in needed:
            parameters = {k: v for k, v in note.items() if k not in ("input", "output")}
            cuts[target] = Cut("preprocess", "preprocess", [source], [target], parameters)
    return list(cuts.values())


def _featurizer_cuts(model: SavedModel, needed: set[str]) -> list[Cut]:
    cuts: dict[tuple[str, ...], Cut] = {}
    for note in model.featurizers:
        outputs = [t for t in note["outputs"] if node_name(t) in needed]
        if not outputs or not all(node_name(t) in needed for t in note["inputs"]):
            continue
        cuts[tuple(outputs)] = Cut("npu", "featurizer", list(note["inputs"]), outputs, dict(note))
    return list(cuts.values())


def unsupported(graph: Graph, name: str) -> str | None:
    """Why the node `name` cannot run on the NPU; None when it can."""
    node = graph.nodes[name]
    if node.op not in NPU_OPS:
        return f"the op {node.op} is not one that the NPU has"
    if node.op == "Conv2D":
        depth, taken = graph.shape(graph.inputs(node)[0]), graph.shape(graph.inputs(node)[1])
        if depth and taken and depth[-1] != taken[2]:
            return f"it is a grouped convolution ({depth[-1]} channels in, {taken[2]} per filter)"
    if node.attr["data_format"].s == b"NCHW":
        return "its data_format is NCHW; expected NHWC"
    sources = graph.inputs(node)
    if node.op in ("Add", "AddV2") and graph.shape(sources[0]) != graph.shape(sources[1]):
        per_channel = any(_is_per_channel(graph, tensor) for tensor in sources)
        return None if per_channel else "it adds tensors of different shapes"
    if node.op == "Mul" and not any(_is_per_channel(graph, tensor) for tensor in sources):
        return "it multiplies by something else than a constant, or one per channel"
    if node.op == "Mean" and sorted(_constant_ints(graph, sources[1])) not in ([1, 2], [-3, -2]):
        return "it averages over other axes than height and width"
    if node.op == "ConcatV2" and _constant_ints(graph, sources[-1]) not in ([3], [-1]):
        return "it concatenates along another axis than the channels"
    return None


def _is_per_channel(graph: Graph, tensor: str) -> bool:
    """True for a constant number or a constant vector along the last axis."""
    shape = graph.shape(tensor)
    names = graph.ancestors([tensor])
    return shape is not None and all(size == 1 for size in shape[:-1]) and graph.constants(names) == set(names)


def _constant_ints(graph: Graph, tensor: str) -> list[int]:
    node = graph.nodes[node_name(tensor)]
    if node.op != "Const":
        return []
    return [int(v) for v in tensorflow().make_ndarray(node.attr["value"].tensor).reshape(-1)]


def check_featurizer(graph: Graph, cut: Cut) -> None:
    """Raise ConversionError naming the first node of the NPU stage that the NPU cannot run."""
    names = graph.ancestors(cut.outputs, stop=cut.inputs)
    require_inference(graph, names)
    constant = graph.constants(names)
    for name in names:
        if graph.nodes[name].op.startswith("Placeholder"):
            raise ConversionError(
                f"the featurizer outputs {', '.join(cut.outputs)} depend on {name!r}, which is not its input "
                f"({', '.join(cut.inputs)}); expected everything to pass through the featurizer's input."
            )
        reason = None if name in constant else unsupported(graph, name)
        if reason:
            raise ConversionError(
                f"the NPU cannot run node {name!r} ({graph.nodes[name].op}): {reason}. It runs {_supported_list()}. "
                "Replace the layer, or convert with require_fpga_conversion=False to run the whole model on the host."
            )


def _supported_list() -> str:
    return ", ".join(sorted(NPU_OPS - ALIAS_OPS - {"Const", "IdentityN"}))


def _automatic_cuts(model: SavedModel, graph: Graph, given: Sequence[str], require_fpga: bool) -> list[Cut]:
    """The largest region of NPU ops with convolutions that starts at the float image tensor."""
    path = graph.ancestors(model.outputs, stop=given)
    constant = graph.constants(path)
    varying = [name for name in path if name not in constant and name not in {node_name(t) for t in given}]
    image = _image_tensor(graph, varying, given)
    region, refused = _grow(graph, varying, constant, image)
    convolutions = [name for name in region if graph.nodes[name].op == "Conv2D"]
    if not convolutions:
        if not require_fpga:
            return []
        raise ConversionError(_nothing_found(graph, refused, image))
    require_inference(graph, region)
    outputs = _region_outputs(graph, region, varying, model.outputs)
    details: dict[str, Any] = {}
    if any("bfp_quantize" in name for name in model.graph.ancestors(outputs)):
        details = dict(next((note for note in reversed(model.featurizers) if note.get("quantized")), {}))
    return [Cut("npu", "featurizer", [image], outputs, details)] if image else []


def _image_tensor(graph: Graph, varying: Sequence[str], given: Sequence[str]) -> str | None:
    """The NHWC float tensor that the first convolution (or its padding) reads, as far down as one tensor feeds all."""
    first = next((n for n in varying if graph.nodes[n].op == "Conv2D"), None)
    if first is None:
        return None
    tensor = graph.inputs(graph.nodes[first])[0]
    while tensor not in given and graph.nodes[node_name(tensor)].op in {"Pad", *ALIAS_OPS}:
        tensor = graph.inputs(graph.nodes[node_name(tensor)])[0]
    return tensor


def _grow(graph: Graph, varying: list[str], constant: set[str], image: str | None) -> tuple[list[str], list[str]]:
    """Nodes whose every varying input comes from `image` through NPU ops, and those refused at the region's edge."""
    if image is None:
        return [], [f"{n!r} ({graph.nodes[n].op})" for n in varying if unsupported(graph, n)]
    region: set[str] = set()
    order: list[str] = []
    refused: list[str] = []
    for name in varying:
        sources = [t for t in graph.inputs(graph.nodes[name]) if node_name(t) not in constant]
        if not sources or not all(t == image or node_name(t) in region for t in sources):
            continue
        reason = "it ends the featurizer" if graph.nodes[name].op == "Squeeze" else unsupported(graph, name)
        if reason:
            refused.append(f"{name!r} ({graph.nodes[name].op}): {reason}")
        else:
            region.add(name)
            order.append(name)
    return _around_convolutions(graph, order, image), refused


def _around_convolutions(graph: Graph, order: list[str], image: str) -> list[str]:
    """Those nodes that lead to a convolution or come after one; the rest is no work for the NPU."""
    convolutions = [name for name in order if graph.nodes[name].op == "Conv2D"]
    before = set(graph.ancestors([f"{name}:0" for name in convolutions], stop=[image]))
    after: set[str] = set(convolutions)
    for name in order:
        if any(node_name(tensor) in after for tensor in graph.inputs(graph.nodes[name])):
            after.add(name)
    return [name for name in order if name in before or name in after]


def _region_outputs(graph: Graph, region: list[str], varying: list[str], wanted: Sequence[str]) -> list[str]:
    """Tensors that leave the region: read outside of it, or asked for."""
    inside = set(region)
    ends: dict[str, None] = {}
    for tensor, readers in graph.consumers(varying).items():
        if node_name(tensor) in inside and any(reader not in inside for reader in readers):
            ends[tensor] = None
    for tensor in wanted:
        if node_name(tensor) in inside:
            ends[tensor] = None
    return list(dict.fromkeys(graph.resolve(tensor, stop=wanted) for tensor in ends))


def _nothing_found(graph: Graph, refused: list[str], image: str | None) -> str:
    start = f"starting at {image}" if image else "anywhere in the graph"
    blocked = f" The first op that stops it: {refused[0]}." if refused else ""
    return (
        f"no convolution {start} can run on the NPU.{blocked} It runs {_supported_list()}. "
        "Use a featurizer of amlrealtimeai.accel.models, or convert with require_fpga_conversion=False."
    )


def _ordered(graph: Graph, cuts: list[Cut]) -> list[Cut]:
    """Cuts so that one which feeds another comes first."""
    # of the inputs: a cut's other outputs may lie deeper than all of the cut that it feeds
    depth = {id(cut): len(graph.ancestors(cut.inputs)) for cut in cuts}
    return sorted(cuts, key=lambda cut: depth[id(cut)])


def _join(model: SavedModel, special: list[Cut]) -> list[Cut]:
    """Insert a host stage wherever a tensor is needed that no stage before makes."""
    graph = model.graph
    available = list(model.inputs)
    stages: list[Cut] = []
    for cut in special:
        cut.inputs = [graph.resolve(tensor, stop=available) for tensor in cut.inputs]
        _bridge(graph, stages, available, cut.inputs, "host")
        cut.name = _unused(cut.name, stages)
        stages.append(cut)
        available.extend(cut.outputs)
    _bridge(graph, stages, available, model.outputs, "classifier" if special else "model")
    return stages


def _bridge(graph: Graph, stages: list[Cut], available: list[str], needed: list[str], name: str) -> None:
    missing = [tensor for tensor in needed if tensor not in available]
    if not missing:
        return
    names = set(graph.ancestors(missing, stop=available))
    readers = graph.consumers(names)
    sources = [t for t in available if t in readers]
    stages.append(Cut("onnx", _unused(name, stages), sources, missing, {}))
    available.extend(missing)


def _unused(name: str, stages: list[Cut]) -> str:
    taken = {cut.name for cut in stages}
    return name if name not in taken else next(n for i in itertools.count(2) if (n := f"{name}_{i}") not in taken)
