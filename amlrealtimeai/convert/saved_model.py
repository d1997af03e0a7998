"""Loading a SavedModel: weights frozen to constants, graph metadata read, inputs and outputs found."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.convert.graph import Graph, node_name, session_config, set_constant, tensor_name
from amlrealtimeai.convert.inference import resolve_for_inference
from amlrealtimeai.convert.quiet import quiet, tensorflow
from amlrealtimeai.errors import ConversionError, InvalidInputError, NotFoundError

PREPROCESS_COLLECTION = "amlrealtimeai_preprocess"
FEATURIZER_COLLECTION = "amlrealtimeai_featurizer"


@dataclass
class SavedModel:
    """A SavedModel ready to be cut: a frozen graph for inference and what its author noted in it."""

    graph: Graph
    inputs: list[str]
    outputs: list[str]
    input_aliases: dict[str, str]
    output_aliases: dict[str, str]
    preprocess: list[dict[str, Any]] = field(default_factory=list)
    featurizers: list[dict[str, Any]] = field(default_factory=list)


def split_names(names: str | Iterable[str]) -> list[str]:
    """A name, a comma-separated string or a list of names -> list of names, as they were written."""
    parts = names.split(",") if isinstance(names, str) else list(names)
    stripped = [str(getattr(part, "name", part)).strip() for part in parts]
    result = [part for part in stripped if part]
    if not result:
        raise InvalidInputError(f"expected at least one tensor name, got {names!r}; pass for example output.name")
    repeated = sorted({part for part in result if result.count(part) > 1})
    if repeated:
        raise InvalidInputError(f"the tensor name {repeated[0]!r} is given twice; name every tensor once")
    return result


def load(model_dir: str | Path, input_node: str | Sequence[str], outputs_nodes: str | Sequence[str]) -> SavedModel:
    """Load the SavedModel in `model_dir` and freeze what `outputs_nodes` need.

    Names are tensor names ("Placeholder:0", "Placeholder") or keys of the serving_default signature.
    Raises NotFoundError (no folder), InvalidInputError (no SavedModel in it, unknown tensor), ConversionError.
    """
    folder = Path(model_dir)
    _require_saved_model(folder)
    tf = tensorflow()
    with (
        quiet(),
        tf.Graph().as_default() as graph,
        tf.compat.v1.Session(graph=graph, config=session_config()) as session,
    ):
        meta = _restore(session, folder)
        signature = _signature(meta)
        inputs = _find(graph, split_names(input_node), signature[0], "input")
        outputs = _find(graph, split_names(outputs_nodes), signature[1], "output")
        _require_reachable(graph, inputs, outputs)
        resolved = resolve_for_inference(Graph(graph.as_graph_def()), inputs, outputs)
        frozen = _freeze(session, resolved, outputs)
    notes = _collection(meta, PREPROCESS_COLLECTION)
    for note in notes:
        if node_name(note["output"]) in frozen.nodes:
            frozen.ensure_shape(note["output"], [None, note["output_height"], note["output_width"], 3])
    return SavedModel(
        graph=frozen,
        inputs=inputs,
        outputs=outputs,
        input_aliases={tensor: alias for alias, tensor in signature[0].items()},
        output_aliases={tensor: alias for alias, tensor in signature[1].items()},
        preprocess=notes,
        featurizers=_collection(meta, FEATURIZER_COLLECTION),
    )


def _require_saved_model(folder: Path) -> None:
    if not folder.exists():
        raise NotFoundError(
            f"expected a SavedModel folder, but {folder} does not exist; check the path given to export"
        )
    if (folder / "saved_model.pb").is_file() or (folder / "saved_model.pbtxt").is_file():
        return
    if folder.is_file():
        found = "a file"
    else:
        held = sorted(p.name for p in folder.iterdir())
        found = f"a folder that holds {', '.join(held[:6]) or 'nothing'}{', ...' if len(held) > 6 else ''}"
    raise InvalidInputError(
        f"{folder} is no SavedModel: expected saved_model.pb in it, got {found}. "
        "Write one with tf.compat.v1.saved_model.simple_save(session, folder, inputs=..., outputs=...)."
    )


def _restore(session: Any, folder: Path) -> Any:
    tf = tensorflow()
    try:
        return tf.compat.v1.saved_model.loader.load(
            session, [tf.compat.v1.saved_model.tag_constants.SERVING], str(folder)
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        raise InvalidInputError(
            f"TensorFlow cannot load {folder} as a SavedModel tagged 'serve': {reason}. "
            "Export it again with tf.compat.v1.saved_model.simple_save."
        ) from error


def _signature(meta: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and outputs (alias -> tensor) of serving_default, or of the only signature."""
    usable = {key: value for key, value in meta.signature_def.items() if not key.startswith("__")}
    chosen = usable.get("serving_default") or (next(iter(usable.values())) if len(usable) == 1 else None)
    if chosen is None:
        return {}, {}
    return {k: v.name for k, v in chosen.inputs.items() if v.name}, {
        k: v.name for k, v in chosen.outputs.items() if v.name
    }


def _find(graph: Any, names: list[str], aliases: dict[str, str], role: str) -> list[str]:
    return [_find_one(graph, name, aliases, role) for name in names]


def _find_one(graph: Any, name: str, aliases: dict[str, str], role: str) -> str:
    for candidate in (tensor_name(name), aliases.get(name, "")):
        try:
            return str(graph.get_tensor_by_name(candidate).name)
        except (KeyError, ValueError):
            continue
    operations = graph.get_operations()
    known = [t.name for op in operations for t in op.outputs]
    near = difflib.get_close_matches(tensor_name(name), known, n=5, cutoff=0.6)
    placeholders = [op.outputs[0].name for op in operations if op.type.startswith("Placeholder")]
    consumed = {t.name for op in operations for t in op.inputs}
    ends = [op.outputs[0].name for op in operations if op.outputs and op.outputs[0].name not in consumed]
    ends = [e for e in ends if not e.startswith(("save/", "save_")) and "Initializer" not in e and "/Assign" not in e]
    listed = (
        ("placeholders", placeholders) if role == "input" else ("graph outputs", list(aliases.values()) or ends[-8:])
    )
    raise InvalidInputError(
        f"the SavedModel has no {role} tensor {name!r}. "
        + (f"Near matches: {', '.join(near)}. " if near else "")
        + f"Its {listed[0]}: {', '.join(listed[1][:8]) or 'none'}."
    )


def from_session(session: Any, input_tensor: Any, output_tensor: Any) -> SavedModel:
    """What leads from `input_tensor` to `output_tensor` in a session's graph, frozen with its variables' values.

    Tensors or their names. The signature is that of the first edition: images -> output_alias. Raises
    InvalidInputError for tensors that the graph does not have or that do not depend on each other, ConversionError for
    variables without a value.
    """
    tf = tensorflow()
    graph = session.graph
    inputs = _find(graph, split_names([input_tensor]), {}, "input")
    outputs = _find(graph, split_names([output_tensor]), {}, "output")
    _require_reachable(graph, inputs, outputs)
    resolved = resolve_for_inference(Graph(graph.as_graph_def()), inputs, outputs)
    try:
        frozen = _freeze(session, resolved, outputs)
    except tf.errors.FailedPreconditionError as error:
        raise ConversionError(
            f"a variable on the way to {outputs[0]!r} has no value in this session ({str(error).splitlines()[0]}). "
            "Initialise it or call restore_weights(session), and pass that session"
        ) from error
    notes = [[json.loads(text) for text in graph.get_collection(key)] for key in _COLLECTIONS]
    for tensor in (inputs[0], *(note["output"] for note in notes[0])):
        shape = graph.get_tensor_by_name(tensor).shape
        if node_name(tensor) in frozen.nodes and shape.rank == 4 and tensor not in inputs:
            frozen.ensure_shape(tensor, shape.as_list())
    return SavedModel(frozen, inputs, outputs, {inputs[0]: "images"}, {outputs[0]: "output_alias"}, *notes)


_COLLECTIONS = (PREPROCESS_COLLECTION, FEATURIZER_COLLECTION)


def _require_reachable(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Every output has to depend on an input; names the outputs that do not."""
    whole = Graph(graph.as_graph_def())
    for output in outputs:
        if output in inputs:
            raise InvalidInputError(f"the output {output!r} is the input itself; expected a tensor computed from it")
        names = set(whole.ancestors([output], control=True))
        if not names & {node_name(tensor) for tensor in inputs}:
            raise InvalidInputError(
                f"the output {output!r} does not depend on the input {', '.join(inputs)}; "
                f"it depends on {_placeholders(whole, names) or 'no placeholder'}. Name the placeholder that feeds it."
            )


def _placeholders(graph: Graph, names: Iterable[str]) -> str:
    return ", ".join(tensor_name(n) for n in sorted(names) if graph.nodes[n].op.startswith("Placeholder"))


_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


def _freeze(session: Any, graph: Graph, outputs: list[str]) -> Graph:
    """What `outputs` need of `graph`, with the session's variable values as constants."""
    names = graph.ancestors(outputs, control=True)
    values = _variable_values(session, graph, names)
    weights: dict[str, np.ndarray] = {}
    frozen = type(graph.graph_def)()
    frozen.versions.CopyFrom(graph.graph_def.versions)
    frozen.library.CopyFrom(graph.graph_def.library)
    for name in names:
        node = frozen.node.add()
        node.CopyFrom(graph.nodes[name])
        if name in values:
            set_constant(node, values[name], weights)
        elif node.op == "ReadVariableOp":
            dtype = node.attr["dtype"].type
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
        elif any(node_name(source) in values for source in graph.inputs(node)) and node.op not in _MOVES:
            raise ConversionError(
                f"node {name!r} ({node.op}) uses a variable by reference; expected variables that are only read. "
                "Export the graph for inference, without training ops on the way to the outputs."
            )
        node.attr.pop("_class", None)
    return Graph(frozen, copy=False, weights=weights)


_MOVES = ("Identity", "Switch", "RefSwitch")


def _variable_values(session: Any, graph: Graph, names: list[str]) -> dict[str, np.ndarray]:
    """Value of every variable node among `names`; a variable that nothing reads yet gets a reading op in its graph."""
    tf = tensorflow()
    fetch = {}
    with session.graph.as_default():
        for name in names:
            node = graph.nodes[name]
            if node.op not in _VARIABLES:
                continue
            value = session.graph.get_tensor_by_name(tensor_name(name))
            if node.op == "VarHandleOp":
                reads = (op for op in value.consumers() if op.type == "ReadVariableOp")
                dtype = tf.as_dtype(node.attr["dtype"].type)
                read = next(reads, None)
                value = read.outputs[0] if read else tf.raw_ops.ReadVariableOp(resource=value, dtype=dtype)
            fetch[name] = value
    return {name: np.asarray(value) for name, value in session.run(fetch).items()} if fetch else {}


def _collection(meta: Any, key: str) -> list[dict[str, Any]]:
    """The JSON notes of one collection, newest last."""
    if key not in meta.collection_def:
        return []
    texts = [value.decode() for value in meta.collection_def[key].bytes_list.value]
    try:
        return [json.loads(text) for text in texts]
    except ValueError as error:
        raise ConversionError(
            f"the graph collection {key!r} holds no JSON ({error}); export the model again"
        ) from error
