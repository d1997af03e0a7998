"""Where a graph is cut: preprocess, host, NPU, host, and so on in turn."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.convert.parts import Part, blocked_nodes, find_parts
from amlrealtimeai.convert.report import Blocked
from amlrealtimeai.convert.source import LoadedModel, Source, consumers
from amlrealtimeai.errors import ConversionError

_SHOWN = 20


@dataclass
class Cut:
    """One stage to be: its kind ("preprocess", "onnx" or "npu"), name, and the tensors at its two edges."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    details: dict[str, Any]


@dataclass
class Plan:
    """The stages in the order they run, and the nodes that keep something from the NPU."""

    cuts: list[Cut]
    blocked: list[Blocked]


def plan_stages(model: LoadedModel, float_graph: Source, require_fpga: bool) -> Plan:
    """Cut the path from the model's inputs to its outputs into stages.

    `float_graph` is the model's graph without quantisers. What its author noted as a featurizer is for the NPU; where
    nothing is noted, what parts.find_parts finds. Raises ConversionError, if `require_fpga` is set, when a featurizer
    cannot run whole on the NPU, or nothing can.
    """
    needed = {*model.graph.ancestors(model.outputs, stop=model.inputs), *map(model.graph.maker, model.inputs)}
    special = _preprocess_cuts(model, needed)
    given = [*model.inputs, *(tensor for cut in special for tensor in cut.outputs)]
    noted = _noted(model, needed)
    blocked: list[Blocked] = []
    for note in noted:
        cuts, reasons = _featurizer_cuts(float_graph, note, require_fpga)
        special += cuts
        blocked += reasons
    if not noted:
        parts, blocked = find_parts(float_graph, given, model.outputs)
        if not parts and require_fpga:
            raise ConversionError(_nothing_found(blocked))
        special += [Cut("npu", "featurizer", p.inputs, p.outputs, _details(model, p)) for p in parts]
    return Plan(_join(model, _ordered(model.graph, special)), blocked)


def plan_host(model: LoadedModel, reason: str = "") -> Plan:
    """The same with everything behind the preprocessing on the host, for that reason if there is one."""
    needed = {*model.graph.ancestors(model.outputs, stop=model.inputs), *map(model.graph.maker, model.inputs)}
    return Plan(_join(model, _preprocess_cuts(model, needed)), [Blocked("", "", reason, "")] if reason else [])


def _preprocess_cuts(model: LoadedModel, needed: set[str]) -> list[Cut]:
    cuts: dict[str, Cut] = {}
    for note in model.preprocess:
        source, target = note["input"], note["output"]
        if model.graph.maker(target) in needed and model.graph.maker(source) in needed:
            parameters = {k: v for k, v in note.items() if k not in ("input", "output")}
            cuts[target] = Cut("preprocess", "preprocess", [source], [target], parameters)
    return list(cuts.values())


def _noted(model: LoadedModel, needed: set[str]) -> list[dict[str, Any]]:
    """The notes of the featurizers that the outputs need, with those of their outputs that are needed."""
    notes: dict[tuple[str, ...], dict[str, Any]] = {}
    for note in model.featurizers:
        outputs = [tensor for tensor in note["outputs"] if model.graph.maker(tensor) in needed]
        if outputs and all(model.graph.maker(tensor) in needed for tensor in note["inputs"]):
            notes[tuple(outputs)] = {**note, "outputs": outputs}
    return list(notes.values())


def _featurizer_cuts(graph: Source, note: dict[str, Any], require_fpga: bool) -> tuple[list[Cut], list[Blocked]]:
    """One cut for a featurizer that the NPU can run whole; the parts of one that it cannot, if they will do."""
    inputs, outputs = list(note["inputs"]), note["outputs"]
    names = graph.ancestors(outputs, stop=inputs)
    _require_own_input(graph, names, inputs, outputs)
    try:
        model, blocked = _ask(graph, names, inputs, outputs)
    except ConversionError as error:
        if require_fpga:
            raise
        model, blocked = None, [Blocked("", "", str(error), "")]
    if not blocked:
        return [Cut("npu", "featurizer", inputs, outputs, {**note, "onnx": model})], []
    if require_fpga:
        raise ConversionError(_cannot_run(blocked))
    parts, reasons = find_parts(graph, inputs, outputs, set(names))
    return [
        Cut("npu", "featurizer", part.inputs, part.outputs, {**note, "onnx": part.onnx}) for part in parts
    ], reasons or blocked


def _ask(graph: Source, names: Sequence[str], inputs: list[str], outputs: list[str]) -> tuple[Any, list[Blocked]]:
    """The featurizer's ONNX, and what the compiler refuses of it."""
    constant = graph.constants(names)
    varying = [name for name in names if name not in constant]
    for name in varying:
        if reason := graph.refusal(name):
            raise ConversionError(f"the batch normalisation {name!r} ({graph.nodes[name].op}) {reason}")
    model = graph.npu_part(inputs, outputs)
    return model, blocked_nodes(graph, varying, inputs[0], model)


def _require_own_input(graph: Source, names: Sequence[str], inputs: list[str], outputs: list[str]) -> None:
    for name in names:
        if graph.nodes[name].op.startswith("Placeholder"):
            raise ConversionError(
                f"the featurizer outputs {', '.join(outputs)} depend on {name!r}, which is not its input "
                f"({', '.join(inputs)}); expected everything to pass through the featurizer's input."
            )


def _details(model: LoadedModel, part: Part) -> dict[str, Any]:
    """What is known of a part that nobody noted: its format, where it was cut out of a quantised featurizer."""
    details: dict[str, Any] = {}
    if any("bfp_quantize" in name for name in model.graph.ancestors(part.outputs)):
        details = dict(next((note for note in reversed(model.featurizers) if note.get("quantized")), {}))
    return {**details, "onnx": part.onnx}


def _cannot_run(blocked: Sequence[Blocked]) -> str:
    return (
        f"the NPU cannot run {_listed(blocked)}\nReplace these layers, end the featurizer before the "
        "first of them, or convert with require_fpga_conversion=False, which leaves them to the host."
    )


def _nothing_found(blocked: Sequence[Blocked]) -> str:
    found = f"It cannot run {_listed(blocked)}" if blocked else "The graph has none that reads an image."
    return (
        f"no convolution anywhere in the graph can run on the NPU. {found}\n"
        "Use a featurizer of amlrealtimeai.accel.models, or convert with require_fpga_conversion=False, which runs the "
        "model on the host."
    )


def _listed(blocked: Sequence[Blocked]) -> str:
    lines = [str(node) for node in blocked[:_SHOWN]]
    if len(blocked) > _SHOWN:
        lines.append(f"and {len(blocked) - _SHOWN} more")
    return lines[0] if len(lines) == 1 else "\n  ".join((f"{len(blocked)} nodes.", *lines))


def _ordered(graph: Source, cuts: list[Cut]) -> list[Cut]:
    """Cuts so that one which feeds another comes first."""
    # of the inputs: a cut's other outputs may lie deeper than all of the cut that it feeds
    depth = {id(cut): len(graph.ancestors(cut.inputs)) for cut in cuts}
    return sorted(cuts, key=lambda cut: depth[id(cut)])


def _join(model: LoadedModel, special: list[Cut]) -> list[Cut]:
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


def _bridge(graph: Source, stages: list[Cut], available: list[str], needed: list[str], name: str) -> None:
    missing = [tensor for tensor in needed if tensor not in available]
    if not missing:
        return
    names = set(graph.ancestors(missing, stop=available))
    readers = consumers(graph, names)
    sources = [t for t in available if t in readers] or available[:1]  # of constants alone: a stage has an input
    stages.append(Cut("onnx", _unused(name, stages), sources, missing, {}))
    available.extend(missing)


def _unused(name: str, stages: list[Cut]) -> str:
    taken = {cut.name for cut in stages}
    return name if name not in taken else next(n for i in itertools.count(2) if (n := f"{name}_{i}") not in taken)
