"""Loading a SavedModel: weights frozen to constants, graph metadata read, inputs and outputs found."""

import contextlib
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlrealtimeai.convert import notes
from amlrealtimeai.convert.failures import own_errors
from amlrealtimeai.convert.graph import Graph, node_name, session_config, tensor_name
from amlrealtimeai.convert.inference import resolve_for_inference
from amlrealtimeai.convert.quiet import quiet, tensorflow
from amlrealtimeai.convert.source import Source
from amlrealtimeai.convert.tensorflow_source import TensorFlowSource
from amlrealtimeai.convert.variables import freeze
from amlrealtimeai.errors import InvalidInputError, NotFoundError


@dataclass
class SavedModel:
    """A model ready to be cut: a frozen graph for inference and what its author noted in it."""

    graph: Source
    inputs: list[str]
    outputs: list[str]
    input_aliases: dict[str, str]
    output_aliases: dict[str, str]
    preprocess: list[dict[str, Any]] = field(default_factory=list)
    featurizers: list[dict[str, Any]] = field(default_factory=list)


def split_names(names: str | Iterable[str]) -> list[str]:
    """A name, a comma-separated string or a list of names -> list of names, as they were written."""
    if not isinstance(names, Iterable):
        raise InvalidInputError(f"expected tensor names, got {names!r:.200}; pass for example output.name")
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
        preprocess = notes.of_meta_graph(meta, notes.PREPROCESS)
        _learn_shapes(graph, meta, preprocess)
        whole = Graph.learned(graph)
        _require_reachable(whole, inputs, outputs)
        frozen = freeze(session, resolve_for_inference(whole, inputs, outputs), outputs)
    return SavedModel(
        graph=TensorFlowSource.of(frozen),
        inputs=inputs,
        outputs=outputs,
        input_aliases={tensor: alias for alias, tensor in signature[0].items()},
        output_aliases={tensor: alias for alias, tensor in signature[1].items()},
        preprocess=preprocess,
        featurizers=notes.of_meta_graph(meta, notes.FEATURIZER),
    )


def _learn_shapes(graph: Any, meta: Any, preprocess: Sequence[dict[str, Any]]) -> None:
    """Let the tf.Graph know the shapes that signatures and notes tell, where they say more than its nodes."""
    told = [(note["output"], [None, note["output_height"], note["output_width"], 3]) for note in preprocess]
    for signature in meta.signature_def.values():
        told += [
            (info.name, info.tensor_shape) for side in (signature.inputs, signature.outputs) for info in side.values()
        ]
    for name, shape in told:
        with contextlib.suppress(KeyError, ValueError):  # no such tensor, or it contradicts: the nodes are right
            graph.get_tensor_by_name(name).set_shape(shape)


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
    graph = session.graph
    inputs = _find(graph, split_names([input_tensor]), {}, "input")
    outputs = _find(graph, split_names([output_tensor]), {}, "output")
    with own_errors(lambda: f"read {outputs[0]} from the session"):
        whole = Graph.learned(graph)
        _require_reachable(whole, inputs, outputs)
        frozen = freeze(session, resolve_for_inference(whole, inputs, outputs), outputs)
    found = (notes.of_graph(graph, collection) for collection in (notes.PREPROCESS, notes.FEATURIZER))
    return SavedModel(
        TensorFlowSource.of(frozen), inputs, outputs, {inputs[0]: "images"}, {outputs[0]: "output_alias"}, *found
    )


def _require_reachable(graph: Graph, inputs: list[str], outputs: list[str]) -> None:
    """Every output has to depend on an input; names the outputs that do not."""
    for output in outputs:
        if output in inputs:
            raise InvalidInputError(f"the output {output!r} is the input itself; expected a tensor computed from it")
        names = set(graph.ancestors([output], control=True))
        if not names & {node_name(tensor) for tensor in inputs}:
            raise InvalidInputError(
                f"the output {output!r} does not depend on the input {', '.join(inputs)}; "
                f"it depends on {_placeholders(graph, names) or 'no placeholder'}. Name the placeholder that feeds it."
            )


def _placeholders(graph: Graph, names: Iterable[str]) -> str:
    return ", ".join(tensor_name(n) for n in sorted(names) if graph.nodes[n].op.startswith("Placeholder"))
