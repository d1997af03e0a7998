"""The preprocessing graph on real files, against the Pillow version that replaces it in a converted model."""

import io
import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from amlrealtimeai.accel.models import utils
from amlrealtimeai.artifact.preprocess import preprocess_images
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import images


def run(pictures, **parameters):
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.string)
        return session.run(utils.preprocess_array(placeholder, **parameters), {placeholder: pictures})


def encoded(height, width, kind, mode="RGB"):
    picture = Image.fromarray(images.compose(281, size=max(height, width))[:height, :width]).convert(mode)
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


PICTURES = [
    encoded(375, 500, "JPEG"),
    encoded(333, 251, "JPEG"),
    encoded(97, 301, "PNG"),
    encoded(256, 256, "PNG", "RGBA"),
    encoded(60, 60, "JPEG", "L"),
]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"order": "BGR"},
        {"scaling_factor": 0.017},
        {"output_height": 300, "output_width": 300, "preserve_aspect_ratio": False},
        {"output_height": 256, "output_width": 128},
    ],
    ids=str,
)
def test_equals_the_server_s_preprocessing_to_the_bit(parameters):
    defaults = {"order": "RGB", "scaling_factor": 1.0, "output_height": 224, "output_width": 224}
    result = run(PICTURES, **parameters)

    expected = preprocess_images(PICTURES, {**defaults, "preserve_aspect_ratio": True, **parameters})
    assert result.shape == expected.shape
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [200 - np.float32(123.68), 100 - np.float32(116.779), 50 - np.float32(103.939)]),
        ({"order": "BGR"}, [50 - np.float32(103.939), 100 - np.float32(116.779), 200 - np.float32(123.68)]),
        ({"scaling_factor": 0.5}, [38.16, -8.3895, -26.9695]),
    ],
    ids=str,
)
def test_one_colour_by_hand(parameters, expected):
    data = io.BytesIO()
    Image.new("RGB", (300, 400), (200, 100, 50)).save(data, "PNG")

    result = run([data.getvalue()], **parameters)

    assert result.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(result[0, 17, 200], np.array(expected, np.float32), rtol=1e-6)
    assert (result == result[0, 0, 0]).all()


def test_the_graph_says_what_was_asked_for():
    with tf.Graph().as_default():
        placeholder = tf.placeholder(tf.string, name="images")
        result = utils.preprocess_array(placeholder, output_height=192)
        (record,) = tf.get_collection("amlrealtimeai_preprocess")

    assert result.shape.as_list() == [None, 192, 224, 3]
    assert json.loads(record) == {
        "input": "images:0",
        "output": result.name,
        "order": "RGB",
        "scaling_factor": 1.0,
        "output_height": 192,
        "output_width": 224,
        "preserve_aspect_ratio": True,
    }


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"order": "GBR"}, "order has to be 'RGB' or 'BGR', not 'GBR'"),
        ({"output_height": 257}, "output_height has to be a whole number from 1 to 256"),
        ({"scaling_factor": float("nan")}, "scaling_factor has to be a number"),
    ],
)
def test_parameters_out_of_range(parameters, message):
    with tf.Graph().as_default(), pytest.raises(InvalidInputError, match=message):
        utils.preprocess_array(tf.placeholder(tf.string), **parameters)
