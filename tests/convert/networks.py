"""A small network with everything that a large one has: preprocessing, quantisers, residual, pooling, classifier."""

import json
import random
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models import quantizer, utils
from amlrealtimeai.npu import BlockFormat

SIDE = 32
FORMAT = BlockFormat(16, 5, 8)
FEATURES = "small/pool:0"


@contextmanager
def session() -> Any:
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.set_random_seed(3)
        random.seed(3)  # Keras draws its seeds from here
        yield session


def weights(name: str, shape: list[Any], scale: float | None = None) -> Any:
    shape = [int(size) for size in shape]
    values = np.random.default_rng(sum(map(ord, name))).normal(0, scale or np.sqrt(2 / np.prod(shape[:-1])), shape)
    return tf.Variable(values.astype(np.float32), name=name, use_resource=True)


def images(scale: float = 1.0) -> tuple[Any, Any]:
    """(string placeholder, float images [n, 32, 32, 3])."""
    encoded = tf.placeholder(tf.string, [None], name="Placeholder")
    return encoded, utils.preprocess_array(encoded, output_height=SIDE, output_width=SIDE, scaling_factor=scale)


def _activation(x: Any, scope: str, fmt: BlockFormat | None) -> Any:
    with tf.name_scope(scope):
        return quantizer.quantize_channels(x, fmt) if fmt else x


def _conv(x: Any, name: str, size: int, filters: int, fmt: BlockFormat | None, first: bool = False) -> Any:
    kernel = weights(f"{name}/weights", [size, size, x.shape[3], filters])
    gamma, beta = np.linspace(0.5, 1.5, filters), np.linspace(-0.3, 0.3, filters)
    with tf.name_scope(name):
        if fmt is None:
            y = tf.nn.conv2d(x, kernel, 1, "SAME", name="Conv2D")
            zeros, ones = np.zeros(filters, np.float32), np.ones(filters, np.float32)
            scale, offset = gamma.astype(np.float32), beta.astype(np.float32)
            return tf.nn.fused_batch_norm(y, scale, offset, zeros, ones, epsilon=1e-5, is_training=False)[0]
        folded = tf.cast(tf.cast(kernel, tf.float64) * (gamma / np.sqrt(1 + 1e-5)), tf.float32)
        quantize = quantizer.quantize_image_kernel if first else quantizer.quantize_kernel
        y = tf.nn.conv2d(x, quantize(folded, fmt), 1, "SAME", name="Conv2D")
        return tf.nn.bias_add(y, beta.astype(np.float32))


def featurizer(
    x: Any,
    fmt: BlockFormat | None = FORMAT,
    noted: BlockFormat | None = None,
    note: bool = True,
    middle: Callable[[Any], Any] = lambda x: x,
) -> Any:
    """Images [n, 32, 32, 3] -> features [n, 1, 1, 32]; `middle` is applied between the two halves."""
    source = x
    with tf.name_scope("small"):
        if fmt:
            with tf.name_scope("conv1/input"):
                x = quantizer.quantize_images(x, fmt)
        x = tf.nn.max_pool2d(tf.nn.relu(_conv(x, "conv1", 3, 16, fmt, first=True)), 3, 2, "SAME")
        x = middle(x)
        y = tf.nn.relu(_conv(_activation(x, "conv2/input", fmt), "conv2", 3, 16, fmt))
        x = tf.nn.relu(x + _conv(_activation(y, "conv3/input", fmt), "conv3", 1, 16, fmt))
        x = tf.nn.relu(_conv(_activation(x, "conv4/input", fmt), "conv4", 1, 32, fmt))
        features = tf.reduce_mean(x, [1, 2], keepdims=True, name="pool")
    if note:
        told = noted or fmt
        numbers = told and {
            "block": told.block,
            "mantissa_bits": told.mantissa_bits,
            "exponent_bits": told.exponent_bits,
        }
        text = {"model": "small", "version": "1", "inputs": [source.name], "outputs": [features.name]}
        tf.add_to_collection(
            "amlrealtimeai_featurizer", json.dumps({**text, "quantized": fmt is not None, "format": numbers})
        )
    return features


def sums(x: Any, name: str = "sums") -> Any:
    """An op that ONNX can say and the NPU cannot run."""
    return tf.math.cumsum(x, axis=1, name=name) * 0.125


def classifier(features: Any, name: str = "classifier") -> Any:
    """Features [n, 1, 1, 32] -> probabilities [n, 10]."""
    with tf.name_scope(name):
        flat = tf.reshape(features, [-1, 32])
        return tf.nn.softmax(
            flat @ weights(f"{name}_weights", [32, 10], 0.3) + np.linspace(-1, 1, 10, dtype=np.float32),
            name="probabilities",
        )


def export(session: Any, folder: Path, inputs: dict[str, Any], outputs: dict[str, Any]) -> Path:
    session.run(tf.global_variables_initializer())
    tf.saved_model.simple_save(session, str(folder), inputs=inputs, outputs=outputs)
    return folder


def whole(folder: Path, classify: Callable[[Any], Any] = classifier, **options: Any) -> Path:
    """Export preprocessing + featurizer + classifier."""
    with session() as running:
        encoded, x = images()
        result = classify(featurizer(x, **options))
        return export(running, folder, {"images": encoded}, {"output_alias": result})
