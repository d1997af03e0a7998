"""Image files of every kind: what TensorFlow makes of them, or a clear refusal, and never more work than their size."""

import base64
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from amlrealtimeai.artifact.preprocess import preprocess_images
from amlrealtimeai.errors import InvalidInputError
from tests.artifact import files
from tests.serving.models import encode, picture

PARAMETERS = {"output_height": 40, "output_width": 40, "preserve_aspect_ratio": False}


def said_of(data: bytes, **options: object) -> str:
    with pytest.raises(InvalidInputError, match="image 0 of 1: ") as caught:
        preprocess_images([data], PARAMETERS, **options)
    assert "0x" not in str(caught.value), "an address of this process"
    return str(caught.value)


def test_every_file_is_taken_and_refused_as_tensorflow_does() -> None:
    tf = pytest.importorskip("tensorflow").compat.v1
    from amlrealtimeai.accel.models.utils import preprocess_array

    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.string, [None])
        prepared = preprocess_array(fed, **PARAMETERS)
        for name, data in files.accepted().items():
            expected = session.run(prepared, {fed: [data]})
            got = preprocess_images([data], PARAMETERS)
            assert np.array_equal(got.view(np.int32), expected.view(np.int32)), name
        for name, data in files.refused().items():
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(prepared, {fed: [data]})
                print(name)
            assert said_of(data), name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_a_file_cut_off_anywhere_in_its_headers_is_refused(kind: str) -> None:
    data = encode(files.SMALL, kind)
    for length in range(1, min(len(data) - 1, 700)):
        said_of(data[:length])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (files.animation("GIF"), "it moves, with several frames"),
        (files.gif()[:40], "a damaged GIF image: it is cut off"),
        (files.gif(colours=2), "colours that are not in its table"),
        (encode(files.SMALL, "WEBP"), "WebP"),
        (encode(files.SMALL, "BMP"), "BMP"),
        (encode(files.SMALL, "TIFF"), "TIFF"),
        (base64.b64encode(encode(files.SMALL, "JPEG")), "base64"),
        (base64.b64encode(encode(files.SMALL, "PNG")), "base64"),
        (base64.b64encode(files.gif()), 'in JSON as {"b64": "..."}'),
        (b"data:image/png;base64,iVBORw0KGgo", "data: URI"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "(HEIC, AVIF)"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "(HEIC, AVIF)"),
        (b"\0\0\1\0\1\0", "icon"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (encode(files.SMALL, "JPEG").decode("latin-1").encode(), "made into text"),
        (encode(files.SMALL, "PNG").decode("latin-1").encode(), "made into text"),
        (encode(files.SMALL, "JPEG").decode(errors="replace").encode(), "made into text"),
        (str(encode(files.SMALL, "JPEG")).encode(), "Python's way to print bytes"),
        (b"<!DOCTYPE html><html>404", "web page"),
        (b"%PDF-1.4", "PDF"),
        (files.png(8, 2, files.rows(24))[:-5], "a damaged PNG image: it is cut off"),
        (files.png(8, 2, files.rows(24), files.chunk(b"ABCD", b"")), "b'ABCD'"),
    ],
)
def test_the_refusal_says_what_was_sent(data: bytes, said: str) -> None:
    assert said in said_of(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_pixels_at_and_above_their_limit_in_every_format(kind: str) -> None:
    data = encode(picture(8, 8), kind)
    assert preprocess_images([data], PARAMETERS, max_pixels=64).shape == (1, 40, 40, 3)
    assert "8 x 8 has more than 63 pixels, the limit (max_pixels = 63)" in said_of(data, max_pixels=63)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
def test_pillows_own_limit_is_not_asked(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(picture(80, 60), kind)
    expected = preprocess_images([data], {})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(preprocess_images([data], {}), expected)


@pytest.mark.parametrize(("scans", "said"), [(480, ""), (500, "more than 500 times"), (5000, "more than 500 times")])
def test_scans_have_a_limit(scans: int, said: str) -> None:
    data = files.repeated_scans(scans, side=8)
    if said:
        assert said in said_of(data)
    else:
        preprocess_images([data], PARAMETERS)


def test_large_pictures_may_have_fewer_scans() -> None:
    data = files.repeated_scans(100, side=100)
    preprocess_images([data], PARAMETERS, max_pixels=100_000)
    assert "100 x 100 pixels 110 times, too often for its size (max_pixels = 50000)" in said_of(data, max_pixels=50_000)


def test_scans_hidden_behind_a_false_end_are_counted() -> None:
    whole = files.repeated_scans(0, side=8)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    hidden = whole[:-2] + b"\xff\xfe\0\6\xff\xd9\xff\xd9" + last * 600 + b"\xff\xd9"
    assert "more than 500 times" in said_of(hidden)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 500_000, "no picture in its first"),
        (b"\xff\xd8" + b"\xff\xe1\0\2" * 500_000, "no picture in its first"),
        (b"\xff\xd8" + b"\xff" * 2_000_000, "it is cut off"),
        (b"\xff\xd8\xff" + b"\0" * 2_000_000, "it is cut off"),
        (b"\xff\xd8" + b"\xff\xd0" * 1_000_000, "no picture in its first"),
        (b"\x89PNG\r\n\x1a\n" + files.chunk(b"IHDR", bytes(13)) + files.chunk(b"IDAT", b"") * 70_000, "65536 chunks"),
        (b"\x89PNG\r\n\x1a\n" + files.chunk(b"IHDR", bytes(13)) * 1000, "header is damaged"),
        (b"GIF89a" + bytes(7) + b"\x21\xfe" + b"\1a" * 300_000, "more than 262144 blocks"),
        (b"GIF89a" + bytes(7) + b"\x21\xfe\0" * 400_000, "more than 262144 blocks"),
    ],
    ids=range(9),
)
def test_many_small_parts_cost_little(data: bytes, said: str) -> None:
    tracemalloc.start()
    assert said in said_of(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(data) + (1 << 20)


class Passed(Exception):
    """What a check raises when the time is over."""


class Clock:
    """A check that passes so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Passed


LONG = [encode(picture(900, 700), "PNG"), encode(picture(900, 700), "JPEG"), files.repeated_scans(400, 200)]


@pytest.mark.parametrize("data", LONG, ids=range(3))
def test_a_deadline_ends_the_work_wherever_it_is(data: bytes) -> None:
    looks = Clock(10_000)
    preprocess_images([data] * 2, {}, check=looks)
    needed = 10_000 - looks.left
    assert needed >= 10
    for times in {0, 1, 2, needed // 2, needed - 1}:
        with pytest.raises(Passed):
            preprocess_images([data] * 2, {}, check=Clock(times))


def test_scans_leave_no_long_gap_between_two_looks() -> None:
    seen = [time.perf_counter()]
    preprocess_images([files.repeated_scans(400, 600)], {}, check=lambda: seen.append(time.perf_counter()))
    assert len(seen) > 10 and max(np.diff(seen)) < max(0.25, 0.5 * (seen[-1] - seen[0]))


WHOLE = [
    encode(picture(40, 30), "JPEG"),
    encode(picture(40, 30), "JPEG", progressive=True),
    encode(picture(40, 30), "PNG"),
    files.png(8, 3, files.rows(8), files.chunk(b"PLTE", bytes(range(256)) * 3)),
    encode(picture(40, 30).convert("P"), "GIF"),
    files.gif((10, 8), (3, 4), transparent=2),
]


@settings(max_examples=300)
@given(st.data())
def test_altered_files_are_decoded_or_refused(data: st.DataObject) -> None:
    altered = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(altered) - 1))
        altered[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        got = preprocess_images([bytes(altered)], PARAMETERS, max_pixels=1 << 20)
    except InvalidInputError as error:
        assert len(str(error)) < 500
    else:
        assert got.shape == (1, 40, 40, 3) and np.isfinite(got).all()


def test_what_stands_between_a_jpegs_segments_costs_its_size_and_no_more() -> None:
    whole = encode(picture(), "JPEG")
    expected = preprocess_images([whole], PARAMETERS)
    start = time.monotonic()
    tables = whole.index(b"\xff\xc4")
    for junk, place in ((b"\xff", 2), (b"\xff", tables), (b"\x00", tables), (b"\xff\x00", tables)):
        data = whole[:place] + junk * 8_000_000 + whole[place:]
        np.testing.assert_array_equal(preprocess_images([data], PARAMETERS), expected)
    assert time.monotonic() - start < 5.0  # byte by byte each of them took that
    progressive = encode(picture(), "JPEG", progressive=True)
    filled = progressive[:-2] + b"\xff" * 8_000_000 + b"\xff\xd9"
    assert "more than 4096 fill bytes in a row" in said_of(filled)
