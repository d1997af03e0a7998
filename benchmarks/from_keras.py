"""Writes an architecture of keras.applications as ONNX, in a process of its own, which TensorFlow fills; see census.py.

    python -m benchmarks.from_keras NAME FILE SIZE

SIZE: height and width of the image. Weights are random as Keras makes them; batch normalisation has gains of 0.8 to
1.2, means around 0 and variances of 0.5 to 1.
"""

import os
import sys
from typing import Any


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tf2onnx
    import tf2onnx.optimizer
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    name, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tf.keras.utils.set_random_seed(0)
    model = getattr(tf.keras.applications, name)(weights=None, input_shape=(size, size, 3))
    _draw_statistics(tf, model)
    tf2onnx.optimizer.optimize_graph = lambda graph, *_, **__: graph  # minutes, in which it copies the weights again
    signature = [tf.TensorSpec((None, size, size, 3), tf.float32, name="image")]
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    names = {"input_names": [frozen.inputs[0].name], "output_names": [frozen.outputs[0].name]}
    tf2onnx.convert.from_graph_def(frozen.graph.as_graph_def(), **names, opset=17, output_path=path)


def _draw_statistics(tf: Any, model: Any) -> None:
    for layer in model._flatten_layers():
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            if layer.gamma is not None:
                layer.gamma.assign(tf.random.uniform(layer.gamma.shape, 0.8, 1.2))
            layer.beta.assign(tf.random.normal(layer.beta.shape, 0, 0.1))
            layer.moving_mean.assign(tf.random.normal(layer.beta.shape, 0, 0.1))
            layer.moving_variance.assign(tf.random.uniform(layer.beta.shape, 0.5, 1.0))


if __name__ == "__main__":
    main()
