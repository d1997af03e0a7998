"""Loading a SavedModel: weights frozen to constants, graph metadata read, inputs and outputs found."""

import contextlib
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from amlrealtimeai.convert import notes
from amlrealtimeai.convert.failures import one_line, own_errors
from amlrealtimeai.convert.graph import Graph, node_name, session_config, set_placeholder, tensor_name
from amlrealtimeai.convert.inference import resolve_for_inference
from amlrealtimeai.convert.quiet import quiet, tensorflow
from amlrealtimeai.convert.source import LoadedModel
from amlrealtimeai.convert.tables import take_tables
from amlrealtimeai.convert.tensorflow_source import TensorFlowSource
from amlrealtimeai.convert.variables import freeze
from amlrealtimeai.errors import InvalidInputError, NotFoundError


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


def load(model_dir: str | Path, input_node: str | Sequence[str], outputs_nodes: str | Sequence[str]) -> LoadedModel:
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
        _restore_originals(session)
        asked = split_names(input_node), split_names(outputs_nodes)
        signature = _signature(meta, *asked)
        inputs = _find(graph, asked[0], signature[0], "input")
        outputs = _find(graph, asked[1], signature[1], "output")
        preprocess = notes.of_meta_graph(meta, notes.PREPROCESS)
        _learn_shapes(graph, meta, preprocess)
        whole = Graph.learned(graph)
        _require_reachable(whole, inputs, outputs)
        frozen = _frozen(session, whole, inputs, outputs)
        _keep(frozen, graph, inputs)
    return LoadedModel(
        graph=TensorFlowSource.of(frozen),
        inputs=inputs,
        outputs=outputs,
        input_aliases={tensor: alias for alias, tensor in signature[0].items()},
        output_aliases={tensor: alias for alias, tensor in signature[1].items()},
        preprocess=preprocess,
        featurizers=notes.of_meta_graph(meta, notes.FEATURIZER),
    )


def _frozen(session: Any, whole: Graph, inputs: list[str], outputs: list[str]) -> Graph:
    """What `outputs` need for inference, with the session's variables and tables as constants."""
    resolved = resolve_for_inference(whole, inputs, outputs)
    take_tables(session, resolved, outputs)
    return freeze(session, resolved, outputs)


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
        return tf.compat.v1.saved_model.loader.load(session, _tags(folder), str(folder))
    except Exception as error:
        raise InvalidInputError(
            f"TensorFlow cannot load {folder} as a SavedModel tagged 'serve': {one_line(error)}. "
            "Export it again with tf.compat.v1.saved_model.simple_save."
        ) from error


def _tags(folder: Path) -> list[str]:
    """Those of the graph for serving: "serve" alone where there is one, else the first with that tag beside others."""
    from tensorflow.python.saved_model.loader_impl import parse_saved_model

    serving = tensorflow().compat.v1.saved_model.tag_constants.SERVING
    found = [sorted(graph.meta_info_def.tags) for graph in parse_saved_model(str(folder)).meta_graphs]
    return next((tags for tags in sorted(found, key=len) if serving in tags), [serving])


def _restore_originals(session: Any) -> None:
    """Give variables without a value that of the copies which were restored in their place.

    So tf.saved_model.save writes those of Keras 3; the copy's initial value tells whose copy it is.
    """
    raw = tensorflow().raw_ops
    copies: dict[Any, Any] = {}
    for assign in session.graph.get_operations():
        if assign.type == "AssignVariableOp" and assign.name == f"{assign.inputs[0].op.name}/Assign":
            read = assign.inputs[1].op
            while read.type == "Identity":
                read = read.inputs[0].op
            if read.type == "ReadVariableOp":
                copies[read.inputs[0].ref()] = assign.inputs[0]
    with session.graph.as_default():
        states = {
            original: [raw.VarIsInitializedOp(resource=handle) for handle in (original.deref(), copy)]
            for original, copy in copies.items()
        }
        found = session.run(list(states.values()))
        for (original, copy), state in zip(copies.items(), found, strict=True):
            if list(state) == [False, True]:
                dtype = original.deref().op.get_attr("dtype")
                value = raw.ReadVariableOp(resource=copy, dtype=dtype)
                session.run(raw.AssignVariableOp(resource=original.deref(), value=value))


def _signature(meta: Any, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Inputs and outputs (alias -> tensor) of the first signature, serving_default before others, with these aliases.

    Where none has all, those of serving_default, or of the only signature: the names may be those of tensors.
    """
    usable = {key: value for key, value in meta.signature_def.items() if not key.startswith("__")}
    ordered = sorted(usable, key=lambda key: (key != "serving_default", key))
    for key in ordered:
        if set(inputs) <= set(usable[key].inputs) and set(outputs) <= set(usable[key].outputs):
            return _aliases(usable[key])
    if ordered and (ordered[0] == "serving_default" or len(ordered) == 1):
        return _aliases(usable[ordered[0]])
    return {}, {}


def _aliases(signature: Any) -> tuple[dict[str, str], dict[str, str]]:
    inputs, outputs = ({k: v.name for k, v in side.items() if v.name} for side in (signature.inputs, signature.outputs))
    return inputs, outputs


def _keep(frozen: Graph, graph: Any, inputs: Sequence[str]) -> None:
    """Add the inputs that no output needs, which callers give all the same."""
    for tensor in inputs:
        if node_name(tensor) not in frozen.nodes:
            known = graph.get_tensor_by_name(tensor)
            node = frozen.graph_def.node.add(name=node_name(tensor))
            set_placeholder(node, known.dtype.as_datatype_enum, known.shape)
            frozen.nodes[node.name] = node
    frozen.changed()


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


def from_session(session: Any, input_tensor: Any, output_tensor: Any) -> LoadedModel:
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
        frozen = _frozen(session, whole, inputs, outputs)
    found = (notes.of_graph(graph, collection) for collection in (notes.PREPROCESS, notes.FEATURIZER))
    return LoadedModel(
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
