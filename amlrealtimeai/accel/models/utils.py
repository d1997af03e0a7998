"""Image preprocessing as graph operations: encoded images in, the networks' input out."""

from typing import Any

import tensorflow.compat.v1 as tf

from amlrealtimeai.accel.models.checks import check_graph, check_tensor
from amlrealtimeai.artifact.preprocess import MEANS, SHORT_SIDE, PreprocessParameters
from amlrealtimeai.convert import notes
from amlrealtimeai.core.arguments import check_flag
from amlrealtimeai.errors import InvalidInputError


def preprocess_array(
    in_images: tf.Tensor,
    order: str = "RGB",
    scaling_factor: float = 1.0,
    output_height: int = 224,
    output_width: int = 224,
    preserve_aspect_ratio: bool = True,
) -> tf.Tensor:
    """Decode and prepare a batch of images: string [n] -> float32 [n, output_height, output_width, 3].

    in_images: the bytes of JPEG or PNG files, as a one-dimensional string tensor or placeholder.
    order: "RGB" for every network of amlrealtimeai.accel.models; "BGR" swaps the channels at the end. The weights of
        keras.applications' ResNet and VGG were trained on BGR; the networks here swap the channels of their first
        kernel when they load such weights, which is the same arithmetic, so they take RGB.
    scaling_factor: multiplies the result (0.017 for DenseNet).
    preserve_aspect_ratio: True resizes the short side to 256 and crops the centre (outputs up to 256); False resizes to
        the output's size.
    The resize is TensorFlow 1's bilinear; the ImageNet means (123.68, 116.779, 103.939) are subtracted. The result is
    equal, bit for bit, to amlrealtimeai.artifact.preprocess, which replaces these operations in a converted model.
    Raises InvalidInputError for parameters out of range.
    """
    check_graph("preprocess_array")
    _check_images(in_images)
    try:
        numbers = float(scaling_factor), int(output_height), int(output_width)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"preprocessing: scaling_factor, output_height and output_width have to be numbers ({error})"
        ) from None
    parameters = PreprocessParameters(order, *numbers, check_flag("preserve_aspect_ratio", preserve_aspect_ratio))
    result = tf.map_fn(lambda data: _prepare(data, parameters), in_images, fn_output_signature=tf.float32, name="map")
    result.set_shape([None, parameters.output_height, parameters.output_width, 3])
    record = {"input": in_images.name, "output": result.name, **vars(parameters)}
    notes.add(notes.PREPROCESS, record)
    return result


def _check_images(images: Any) -> None:
    check_tensor("in_images", images)
    if images.dtype != tf.string or images.shape.rank not in (None, 1):
        raise InvalidInputError(
            f"in_images: expected the bytes of image files, string (None,), got {images.dtype.name} {images.shape} "
            f"({images.name}). Make it with tf.placeholder(tf.string, [None])"
        )


def _prepare(data: tf.Tensor, parameters: PreprocessParameters) -> tf.Tensor:
    """One image: string [] -> float32 [output_height, output_width, 3]."""
    # this operation decodes PNG as well; INTEGER_ACCURATE is the decoding that every other libjpeg reproduces
    image = tf.image.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    size = tf.constant([parameters.output_height, parameters.output_width])
    resized = _resize(image, _size_with_short_side(image) if parameters.preserve_aspect_ratio else size)
    offset = (tf.shape(resized)[:2] - size) // 2
    cropped = tf.slice(resized, tf.concat([offset, [0]], axis=0), tf.concat([size, [3]], axis=0))
    centred = cropped - tf.constant(MEANS)
    ordered = tf.reverse(centred, axis=[2]) if parameters.order == "BGR" else centred
    return ordered * parameters.scaling_factor if parameters.scaling_factor != 1.0 else ordered


def _size_with_short_side(image: tf.Tensor) -> tf.Tensor:
    """int32 [height, width] with the short side at 256, rounded half to even in float32."""
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    return tf.cast(tf.rint(size * (SHORT_SIDE / tf.reduce_min(size))), tf.int32)


def _resize(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """TensorFlow 1's bilinear resize; the public functions of today differ or warn."""
    images = tf.cast(image[tf.newaxis], tf.float32)
    return tf.raw_ops.ResizeBilinear(images=images, size=size, align_corners=False, half_pixel_centers=False)[0]
