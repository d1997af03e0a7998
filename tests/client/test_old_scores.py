"""What the original clients took and gave back: casts of the first edition, batches of one, TensorProtos."""

from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import PredictionClient, accel
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, tensors
from amlrealtimeai.serving.server import Server
from tests.client.endpoints import echo, predicting


@pytest.fixture(scope="module")
def echoing():
    """A service whose answer is what it was sent, with its type."""
    with predicting(echo) as port, PredictionClient("127.0.0.1", port) as client:
        yield client


@pytest.mark.parametrize(
    "values",
    [
        np.arange(4, dtype=np.float64).reshape(1, 4),
        np.arange(4, dtype=np.int32).reshape(1, 4),
        np.arange(4, dtype=np.int64).reshape(1, 4),
        np.arange(4, dtype=np.uint8).reshape(1, 4),
        np.arange(4, dtype=np.float16).reshape(1, 4),
        np.arange(4, dtype=">f4").reshape(1, 4),
        np.arange(8, dtype=np.float32).reshape(1, 8)[:, ::2] / 2,
        np.array([[False, True]]) * np.array([[1.0, 1.0]]),
        [[0, 1, 2, 3]],
        [[0.0, 1, 2, 3]],
        ((0, 1.0, 2, 3),),
        [np.float64(0), 1, 2, 3],
        range(4),
        np.zeros((0, 4)),
        7,
    ],
)
def test_the_first_edition_sends_every_number_as_float32(echoing: PredictionClient, values: object) -> None:
    answer = echoing.score_numpy_array(values)
    assert answer.dtype == np.float32 and answer.shape == np.shape(values)
    np.testing.assert_array_equal(answer, np.array(values, np.float64))


def test_the_first_edition_refuses_what_are_no_numbers(echoing: PredictionClient) -> None:
    for values in ([[1, 2], [3]], [None], np.array([1j]), np.array(["2020"], "M8[Y]"), {"a": 1}, None):
        with pytest.raises(InvalidInputError, match=r"expected an array (of numbers|with equally long rows)"):
            echoing.score_numpy_array(values)


def test_the_first_edition_keeps_the_batch_of_arrays(echoing: PredictionClient) -> None:
    assert echoing.score_numpy_array(npdata=np.ones((1, 1, 1, 2048))).shape == (1, 1, 1, 2048)
    assert echoing.score_numpy_array(np.ones((2, 3)), 5).shape == (2, 3)


def test_an_image_loses_its_batch(plain: Server, means: ConvertedModel, image: Path) -> None:
    with (
        PredictionClient(plain.host, str(plain.port)) as first,
        accel.PredictionClient(plain.host, plain.port) as later,
    ):
        data = image.read_bytes()
        expected = means.predict({"images": np.array([data], object)}).outputs["output_alias"]
        assert expected.shape == (1, 3)
        for answer in (first.score_image(str(image)), later.score_file(str(image)), later.score_file(image, "images")):
            np.testing.assert_array_equal(answer, expected[0])
        kept = [
            first.score_numpy_array([data]),
            tensors.from_proto(first.score_tensor(data, [1], 7)),
            later.score_numpy_arrays({"images": [data]}),
            later.score_numpy_arrays({"images": np.array([data])}, "output_alias"),
            later.score_tensors({"images": (data, [1], 7)}),
            *later.score_tensors({"images": (data, (1,), "DT_STRING")}, ["output_alias"]),
            *later.score_numpy_arrays({"Placeholder:0": [data]}, outputs=["classifier/mean:0"]),
            *later.score_file(image, "Placeholder:0", ["classifier/mean:0"], 10.0),
        ]
        for answer in kept:
            np.testing.assert_array_equal(answer, expected)


def test_a_tensor_is_answered_by_a_tensorproto(echoing: PredictionClient) -> None:
    """Old programs make the array of it themselves, with TensorFlow's function."""
    import tensorflow as tf

    content = np.float32([[1, 2]]).tobytes()
    for shape, datatype in (([1, 2], 1), ((np.int64(1), np.int32(2)), tf.float32), ([1, 2], np.float32)):
        answer = echoing.score_tensor(content, shape, datatype, 5.0)
        assert isinstance(answer, protos.TensorProto)
        assert tf.make_ndarray(answer).tolist() == [[1, 2]]
    text = echoing.score_tensor("text", [1], tf.string)
    assert tf.make_ndarray(text).tolist() == [b"text"]
    with pytest.raises(InvalidInputError, match=r"expected the values of shape \[2, 2\], got 3 values"):
        echoing.score_tensor([1, 2, 3], [2, 2], 1)


def test_lists_of_the_later_edition_have_tensorflows_types() -> None:
    def answer(request: object, context: object) -> object:
        response = protos.PredictResponse()
        for name, proto in request.inputs.items():
            response.outputs[name].CopyFrom(proto)
        return response

    cases = {
        "a": ([[1, 2]], np.int32),
        "b": ([[1.5, 2]], np.float32),
        "c": (((1.0,), (2.0,)), np.float32),
        "d": (np.ones((1, 2)), np.float64),
        "e": (np.ones((1, 2), np.int64), np.int64),
        "f": ([1 << 40], np.int64),
        "g": ([True], np.bool_),
    }
    with predicting(answer) as port, accel.PredictionClient("127.0.0.1", port) as client:
        answers = client.score_numpy_arrays({name: values for name, (values, _) in cases.items()})
    for (values, dtype), found in zip(cases.values(), answers, strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("kind", [FileNotFoundError, LookupError, OSError])
def test_a_missing_file_is_what_open_says(kind: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(kind, match=r"no file '.*none\.jpg'"):
        PredictionClient("192.0.2.1", 1).score_image(tmp_path / "none.jpg")
    with pytest.raises(kind, match=r"no file '.*none\.jpg'"):
        accel.PredictionClient("192.0.2.1").score_file(str(tmp_path / "none.jpg"))
    with pytest.raises(kind, match=r"no file '.*none\.pem'"):
        accel.PredictionClient("host", use_ssl=True, root_certificates=tmp_path / "none.pem")


def test_outputs_may_be_empty_or_any_sequence() -> None:
    with predicting(echo) as port, accel.PredictionClient("127.0.0.1", port) as client:
        sent = {"images": np.ones((1, 1), np.float32)}
        assert client.score_numpy_arrays(sent, "").shape == (1, 1)
        for outputs in (["output_alias"], ("output_alias",), np.array(["output_alias"]), iter(["output_alias"])):
            assert [array.shape for array in client.score_numpy_arrays(sent, outputs)] == [(1, 1)]


def test_a_key_may_be_bytes_or_end_in_a_line_break_and_is_never_shown() -> None:
    seen = []

    def answer(request: object, context: object) -> object:
        seen.append(dict(context.invocation_metadata())["authorization"])
        return echo(request, context)

    with predicting(answer) as port:
        for key in ("secret", b"secret", "secret\r\n", " secret "):
            with PredictionClient("127.0.0.1", port, access_token=key) as client:
                client.score_numpy_array([[1]])
    assert seen == ["Bearer secret"] * 4
    for wrong in ("se\ncret", "schlüssel", "se\0cret"):
        with pytest.raises(InvalidInputError, match="access_token: expected one line of ASCII characters") as caught:
            PredictionClient("127.0.0.1", 1, access_token=wrong)
        assert "cret" not in str(caught.value)
    with pytest.raises(InvalidInputError, match="service_name: expected one line"):
        accel.PredictionClient("127.0.0.1", service_name="a\nb")
