"""What a graph's author notes in it for the converter: JSON texts in two collections of the graph.

A preprocessing note has "input" and "output" (tensor names) and the fields of artifact.preprocess.PreprocessParameters;
a featurizer's has "model", "version", "inputs", "outputs", "quantized" and "format" (block, mantissa_bits,
exponent_bits, or null).
"""

import json
from collections.abc import Iterable
from typing import Any

from amlrealtimeai.convert.quiet import tensorflow
from amlrealtimeai.errors import ConversionError

PREPROCESS = "amlrealtimeai_preprocess"
FEATURIZER = "amlrealtimeai_featurizer"


def add(collection: str, note: dict[str, Any]) -> None:
    """Write a note into the default graph."""
    tensorflow().compat.v1.add_to_collection(collection, json.dumps(note))


def of_graph(graph: Any, collection: str) -> list[dict[str, Any]]:
    """The notes of a tf.Graph, oldest first."""
    return _read(collection, graph.get_collection(collection))


def of_meta_graph(meta: Any, collection: str) -> list[dict[str, Any]]:
    """The notes of a MetaGraphDef, oldest first."""
    if collection not in meta.collection_def:
        return []
    return _read(collection, (value.decode() for value in meta.collection_def[collection].bytes_list.value))


def _read(collection: str, texts: Iterable[Any]) -> list[dict[str, Any]]:
    try:
        return [json.loads(text) for text in texts]
    except (TypeError, ValueError) as error:
        raise ConversionError(
            f"the graph collection {collection!r} holds no JSON ({error}); export the model again"
        ) from error
