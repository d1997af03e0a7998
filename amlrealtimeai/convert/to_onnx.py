"""TensorFlow subgraphs to ONNX by tf2onnx, without its optimiser and without carrying the large weights through it."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

from amlrealtimeai.artifact.runtime import session, settings
from amlrealtimeai.convert.failures import one_line
from amlrealtimeai.convert.graph import Graph, node_name, set_constant, set_placeholder, subgraph, tensor_name
from amlrealtimeai.convert.quiet import TF2ONNX_LOCK, quiet, tensorflow
from amlrealtimeai.convert.rewrites import rewrite
from amlrealtimeai.errors import ConversionError
from amlrealtimeai.npu.lowering.nested import inside

OPSET = 15
# tf2onnx logs an error for some of these and writes a model that cannot run, so they are refused by name beforehand.
_HOST_REFUSED = re.compile(r"Decode\w+|\w*PyFunc\w*|Parse\w*Example\w*|ReadFile|(Stateless)?Case")
_HINTS = {
    **dict.fromkeys(
        ("DecodeJpeg", "DecodePng", "DecodeImage", "DecodeBmp", "DecodeGif", "DecodeWebP", "DecodeAndCropJpeg"),
        "Decode images with amlrealtimeai.accel.models.utils.preprocess_array, which converts.",
    ),
    "LookupTable": "Tables convert whose keys are whole numbers; clients can look texts up before they ask.",
    "Case": "Write it with tf.cond.",
    "StatelessCase": "Write it with tf.cond.",
    "PyFunc": "Python code cannot leave the notebook; write it with TensorFlow ops.",
    "EagerPyFunc": "Python code cannot leave the notebook; write it with TensorFlow ops.",
}


def convert_host(
    graph: Graph, name: str, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[bytes, dict[str, str]]:
    """ONNX file of a host stage with a free batch dimension, and {ONNX input: tensor}.

    Raises ConversionError naming the op and the node that tf2onnx or ONNX Runtime cannot take.
    """
    shapes = {tensor: _free_batch(graph.shape(tensor)) for tensor in inputs}
    stage, renamed = subgraph(graph, shapes, outputs)
    bodies = [function.node_def for function in stage.graph_def.library.function]
    for node in itertools.chain(stage.graph_def.node, *bodies):
        if _HOST_REFUSED.fullmatch(node.op):
            raise ConversionError(_refusal(name, node.op, node.name))
    model = _tf2onnx(stage, name, list(renamed.values()), outputs)
    data = model.SerializeToString()
    _require_loadable(data, name)
    return data, {onnx_name: tensor for tensor, onnx_name in renamed.items()}


def convert_featurizer(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """onnx.ModelProto of the float featurizer: batch 1, static shapes, as tf2onnx maps it."""
    shapes = {tensor: image_shape(graph, tensor) for tensor in inputs}
    stage, renamed = subgraph(graph, shapes, outputs)
    return _tf2onnx(stage, "featurizer", list(renamed.values()), outputs)


def image_shape(graph: Graph, tensor: str) -> list[int | None]:
    """[1, height, width, channels] of the NPU's input; ConversionError when it is not static."""
    shape = graph.shape(tensor)
    if shape is None or len(shape) != 4 or any(size is None for size in shape[1:]):
        raise ConversionError(
            f"the NPU needs an image of fixed size: expected {tensor} of shape [batch, height, width, channels], "
            f"got {shape if shape is not None else 'unknown'}. Give the placeholder its shape, "
            "for example [None, 224, 224, 3]."
        )
    if graph.tensor(tensor).dtype.base_dtype.name != "float32":
        raise ConversionError(f"the NPU needs float32 images, got {graph.tensor(tensor).dtype.name} at {tensor}")
    return [1, *shape[1:]]


def run(model: Any, inputs: Sequence[Any], outputs: Sequence[str]) -> dict[str, Any]:
    """Outputs of the featurizer's ONNX in ONNX Runtime for the first item of the batch. Raises ConversionError."""
    try:
        running = session(model.SerializeToString(), settings())
        feed = {value.name: array[:1] for value, array in zip(running.get_inputs(), inputs, strict=True)}
        return dict(zip(outputs, running.run(None, feed), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ConversionError(
            f"ONNX Runtime cannot run the featurizer {', '.join(outputs)}, to compare it with TensorFlow: "
            f"{one_line(error)}. Convert with require_fpga_conversion=False"
        ) from error


def _free_batch(shape: list[int | None] | None) -> list[int | None] | None:
    return [None, *shape[1:]] if shape else shape


def _tf2onnx(graph: Graph, stage: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """onnx.ModelProto as tf2onnx maps it.

    Its optimiser is not run: it copies every weight in each of its passes (14 of 17 s for a ResNet-50) and folds batch
    normalisation in float32; npu.compile and ONNX Runtime do their own.
    """
    tf = tensorflow()
    from tf2onnx.tfonnx import process_tf_graph

    rewrite(graph)
    weights = _take_weights(graph)
    from tf2onnx import utils

    with TF2ONNX_LOCK, quiet() as errors, tf.Graph().as_default() as scratch:
        try:
            utils.INTERNAL_NAME = 1  # numbers in names start anew, so that the same model gives the same file
            tf.import_graph_def(graph.graph_def, name="")
            converted = process_tf_graph(
                scratch,
                opset=OPSET,
                input_names=[*inputs, *map(tensor_name, weights)],
                output_names=[tensor_name(name) for name in outputs],
            )
            model = converted.make_model("amlrealtimeai")
        except Exception as error:
            raise ConversionError(_explain(stage, graph.graph_def, [*errors, str(error)])) from error
    unsupported = [text for text in errors if "not supported" in text or "Unsupported" in text or "Failed" in text]
    if unsupported:
        raise ConversionError(_explain(stage, graph.graph_def, unsupported))
    for node in (*model.graph.node, *inside(model.graph.node)):
        if node.op_type == "Identity":
            del node.input[1:]  # of a list of tensors that tf2onnx made a tensor, its shape
    return _put_weights(model, weights)


def _take_weights(graph: Graph) -> dict[str, Any]:
    """Turn the weights of Conv2D and MatMul into placeholders, in place; returns node name -> their values.

    Other large constants go back into the GraphDef.
    """
    readers: dict[str, set[tuple[str, int]]] = {}
    for node in graph.graph_def.node:
        for index, source in enumerate(node.input):
            readers.setdefault(node_name(source), set()).add((node.op, index))
    weights = {}
    for node in graph.graph_def.node:
        if node.op == "Const" and readers.get(node.name, {("", 0)}) <= {("Conv2D", 1), ("MatMul", 1)}:
            weights[node.name] = graph.value(node.name)
            set_placeholder(node, node.attr["dtype"].type, weights[node.name].shape)
        elif node.name in graph.weights:
            set_constant(node, graph.weights[node.name])
    return weights


def _put_weights(model: Any, weights: dict[str, Any]) -> Any:
    """Make the graph inputs that stand for weights initializers."""
    from onnx import numpy_helper

    values = {tensor_name(name): value for name, value in weights.items()}
    kept = [value for value in model.graph.input if value.name not in values]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return model


def _explain(stage: str, graph_def: Any, messages: Sequence[str]) -> str:
    """Message that names the node when tf2onnx's own text mentions one of the graph."""
    text = " ".join(messages)
    words = set(re.findall(r"[\w./-]+", text))
    named = [n for n in graph_def.node if n.name in words and n.op != "Placeholder"]
    if named:
        best = max(named, key=lambda n: (n.op in words, len(n.name)))
        return _refusal(stage, best.op, best.name)
    return (
        f"the stage {stage!r} could not be converted to ONNX: {one_line(text)}. "
        "Rewrite that layer with ops that ONNX has."
    )


def _refusal(stage: str, op: str, node: str) -> str:
    hint = next((text for start, text in _HINTS.items() if op.startswith(start)), "Rewrite it with ops that ONNX has.")
    return f"the op {op} of node {node!r} in the host stage {stage!r} cannot be converted to ONNX. {hint}"


def _require_loadable(data: bytes, stage: str) -> None:
    try:
        session(data, settings(optimised=False))
    except Exception as error:
        reason = " ".join(str(error).split())
        if unknown := re.search(r"No Op registered for (\w+)", reason):
            raise ConversionError(
                f"the op {unknown[1]} in the host stage {stage!r} has no form in ONNX. Leave it out, as far as the "
                "answer does not need it, or write it with other TensorFlow ops"
            ) from error
        if missing := re.search(r"find an implementation for (\w+)\(\d+\) node with name '([^']*)'", reason):
            raise ConversionError(
                f"ONNX Runtime has no {missing[1]} for the element types of node {missing[2]!r} in the host stage "
                f"{stage!r}. Compute it in float32: cast what it reads, and its result back"
            ) from error
        raise ConversionError(f"ONNX Runtime cannot load the converted host stage {stage!r}: {reason[:500]}") from error
