"""Random small SavedModels: Keras layers and raw ops, odd heads, several outputs; converted and compared.

By hand, for a long run: python -m tests.convert.random_models 500 [first seed]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.convert import ConversionReport, convert_saved_model
from tests.convert import networks
from tests.convert.random_runs import differences, main


class Builder:
    """Draws one network; all its choices and weights come from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.log: list[str] = []

    def pick(self, options: Any) -> Any:
        chosen = options[int(self.random.integers(len(options)))]
        self.log.append(chosen.__name__ if callable(chosen) else str(chosen))
        return chosen

    def weights(self, *shape: int) -> Any:
        """A variable, resource or reference, or a constant."""
        values = self.random.normal(0, 1 / np.sqrt(max(1, np.prod(shape[:-1]))), shape).astype(np.float32)
        kind = self.random.integers(3)
        return tf.constant(values) if kind == 0 else tf.Variable(values, use_resource=bool(kind == 1))

    # images [n, h, w, c] -> images
    def convolution(self, x: Any) -> Any:
        size, stride = self.pick([1, 3, 5]), self.pick([1, 1, 2])
        kernel = self.weights(size, size, x.shape[3], self.pick([4, 6, 8, 12]))
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, self.pad(x, size)), self.weights(kernel.shape[3]))

    def pad(self, x: Any, size: int) -> str:
        return "SAME" if min(x.shape[1], x.shape[2]) < size + 1 else str(self.pick(["SAME", "VALID"]))

    def grouped(self, x: Any) -> Any:
        groups = 2 if x.shape[3] % 2 == 0 else 1
        return tf.nn.conv2d(x, self.weights(3, 3, x.shape[3] // groups, 8), 1, "SAME")

    def depthwise(self, x: Any) -> Any:
        return tf.nn.depthwise_conv2d(x, self.weights(3, 3, x.shape[3], self.pick([1, 2])), [1, 1, 1, 1], "SAME")

    def dilated(self, x: Any) -> Any:
        return tf.nn.conv2d(x, self.weights(3, 3, x.shape[3], 6), 1, "SAME", dilations=2)

    def transposed(self, x: Any) -> Any:
        h, w = x.shape[1], x.shape[2]
        if h > 16:
            return x
        shape = tf.stack([tf.shape(x)[0], 2 * h, 2 * w, 4])
        y = tf.nn.conv2d_transpose(x, self.weights(2, 2, 4, x.shape[3]), shape, 2, "SAME")
        y.set_shape([None, 2 * h, 2 * w, 4])
        return y

    def pool(self, x: Any) -> Any:
        kind = self.pick([tf.nn.max_pool2d, tf.nn.avg_pool2d])
        return kind(x, self.pick([2, 3]), self.pick([1, 2]), self.pad(x, 3))

    def activation(self, x: Any) -> Any:
        kinds = [tf.nn.relu, tf.nn.relu6, tf.nn.elu, tf.nn.sigmoid, tf.nn.tanh, tf.nn.leaky_relu, tf.nn.swish]
        return self.pick([tf.nn.relu, tf.nn.relu, tf.nn.relu, *kinds, tf.nn.softplus, tf.nn.selu])(x)

    def batch_norm(self, x: Any) -> Any:
        c = x.shape[3]
        mean, variance = self.weights(c), tf.abs(self.weights(c)) + 0.5
        return tf.nn.fused_batch_norm(x, self.weights(c) + 1.0, self.weights(c), mean, variance, is_training=False)[0]

    def keras_block(self, x: Any) -> Any:
        layers = tf.keras.layers
        block = [
            layers.Conv2D(6, 3, padding="same"),
            self.pick([layers.BatchNormalization, layers.PReLU, layers.ReLU])(),
            layers.Dropout(0.3),
        ]
        for layer in block:
            x = layer(x)
        return x

    def residual(self, x: Any) -> Any:
        return x + self.activation(tf.nn.conv2d(x, self.weights(3, 3, x.shape[3], x.shape[3]), 1, "SAME"))

    def branches(self, x: Any) -> Any:
        parts = [tf.nn.conv2d(x, self.weights(k, k, x.shape[3], 4), 1, "SAME") for k in (1, 3)]
        return tf.concat(parts if self.pick([True, False]) else [*parts, x], self.pick([3, -1]))

    def squeeze_excite(self, x: Any) -> Any:
        c = x.shape[3]
        pooled = tf.reduce_mean(x, [1, 2], keepdims=True)
        return x * tf.nn.sigmoid(tf.nn.conv2d(tf.nn.relu(pooled), self.weights(1, 1, c, c), 1, "SAME"))

    def odd(self, x: Any) -> Any:
        return self.pick(
            [
                lambda v: tf.math.cumsum(v, 1) * 0.2,
                lambda v: tf.reverse(v, [2]),
                lambda v: tf.pad(v, [[0, 0], [1, 1], [2, 0], [0, 0]]),
                lambda v: v * 0.5 - 0.25,
                lambda v: tf.image.resize_nearest_neighbor(v, [8, 8]),
                lambda v: tf.image.resize_bilinear(v, [9, 7]),
                lambda v: tf.nn.local_response_normalization(v),
                lambda v: v[:, 1:, :-1, :],
                lambda v: tf.transpose(v, [0, 2, 1, 3]),
                lambda v: tf.nn.l2_normalize(v, 3),
                lambda v: tf.where(v > 0, v, v * 0.1),
                lambda v: tf.square(v) * 0.5,
            ]
        )(x)

    # images -> outputs
    def head(self, x: Any) -> Any:
        c = int(x.shape[3])
        flat = tf.reduce_mean(x, [1, 2])
        dense = flat @ self.weights(c, 5)
        return self.pick(
            [
                lambda: x,
                lambda: flat,
                lambda: dense,
                lambda: tf.nn.softmax(dense),
                lambda: tf.argmax(dense, 1),
                lambda: tf.argmax(x, 3, output_type=tf.int32),
                lambda: tf.math.top_k(dense, 3).values,
                lambda: tf.gather(dense, [3, 0, 3], axis=1),
                lambda: tf.reshape(x, [-1, int(np.prod(x.shape[1:]))]) @ self.weights(int(np.prod(x.shape[1:])), 3),
                lambda: tf.keras.layers.Dense(4, activation="softmax")(tf.keras.layers.Flatten()(x)),
                lambda: tf.cast(dense > 0, tf.uint8),
                lambda: tf.reduce_max(x, [1, 2, 3]),
                lambda: tf.cond(tf.reduce_mean(dense) > 0, lambda: dense * 2.0, lambda: tf.nn.relu(dense)),
                lambda: tf.nn.conv2d_transpose(x, self.weights(2, 2, 3, c), [2, *(2 * s for s in x.shape[1:3]), 3], 2),
                lambda: tf.split(dense, [2, 3], axis=1)[1],
            ]
        )()


def build(seed: int, folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Export the network of that seed; returns an input, TensorFlow's outputs for it, and what was drawn."""
    b = Builder(seed)
    with networks.session() as session:
        tf.keras.backend.set_session(session)
        side = b.pick([8, 12, 16])
        shape = [None, side, side + b.pick([0, 2]), b.pick([1, 3, 3, 4])]
        dtype = b.pick([tf.float32, tf.float32, tf.float32, tf.uint8])
        given = x = tf.placeholder(dtype, shape, name="x")
        if dtype == tf.uint8:
            x = tf.cast(x, tf.float32) / 127.5 - 1.0
        blocks: list[Callable[[Any], Any]] = [b.convolution] * 4 + [b.activation] * 4
        blocks += [b.grouped, b.depthwise, b.dilated, b.transposed, b.pool, b.pool, b.batch_norm, b.keras_block]
        blocks += [b.residual, b.branches, b.squeeze_excite, b.odd, b.odd]
        x = b.convolution(x)
        seen = [x]
        for _ in range(int(b.random.integers(2, 7))):
            x = b.pick(blocks)(x)
            seen.append(x)
        outputs = {f"y{i}": tf.identity(b.head(x)) for i in range(int(b.random.integers(1, 4)))}
        if b.pick([True, False, False]):
            outputs["inner"] = tf.identity(seen[int(b.random.integers(len(seen)))])
        networks.export(session, folder, {"x": given}, outputs)
        sizes = [2 if size is None else size for size in shape]
        values = b.random.uniform(0, 255, sizes) if dtype == tf.uint8 else b.random.normal(0, 1, sizes)
        images = values.astype(dtype.as_numpy_dtype)
        answers = session.run(outputs, {given: images, tf.keras.backend.learning_phase(): 0})
    return {"x": images}, answers, b.log


def convert(seed: int, folder: Path) -> tuple[ConversionReport, list[str]]:
    """Convert the network of that seed, and say what differs from TensorFlow."""
    given, expected, _ = build(seed, folder / "model")
    report = convert_saved_model(
        folder / "model", "x", list(expected), folder / "out", name="m", fmt="msfp16", require_fpga=False
    )
    return report, differences(expected, ConvertedModel.load(folder / "out").predict(given, list(expected)).outputs)


if __name__ == "__main__":
    main(convert)
