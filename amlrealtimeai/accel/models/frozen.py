"""A network whose weights are constants of the graph: there is nothing to restore and nothing to train."""

from pathlib import Path

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.base import FloatModel
from amlrealtimeai.convert.convert import convert_frozen
from amlrealtimeai.convert.graph import Graph
from amlrealtimeai.convert.saved_model import from_session
from amlrealtimeai.convert.source import LoadedModel


def import_frozen(model: FloatModel, images: tf.Tensor) -> tf.Tensor:
    """Add the featurizer with constant weights to the default graph; returns its only output.

    images: float32 model.get_input_dims().
    """
    frozen = _frozen(model)
    assert isinstance(frozen.graph, Graph)
    (features,) = tf.import_graph_def(frozen.graph.as_graph_def(), {frozen.inputs[0]: images}, frozen.outputs, name="")
    return features


def write_featurizer(model: FloatModel, path: Path) -> None:
    """Write the featurizer alone, for the NPU, as a converted model."""
    convert_frozen(_frozen(model), path, name=model.model_ref, on_npu=True)


def _frozen(model: FloatModel) -> LoadedModel:
    """The featurizer in a graph of its own. FloatModel's methods, whatever a subclass makes of a frozen network."""
    with tf.Graph().as_default(), tf.Session() as session:
        features = FloatModel.import_graph_def(model, is_training=False)
        FloatModel.restore_weights(model, session)
        return from_session(session, model.input_tensor_list[0], features)
