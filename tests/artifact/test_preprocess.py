"""Preprocessing against TensorFlow to the last bit, against values worked out by hand, and against bad images."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.artifact.preprocess import PreprocessParameters, aspect_preserving_size, preprocess_images
from amlrealtimeai.errors import InvalidInputError
from tests.serving.models import encode, picture

SIZES = [
    (500, 400),
    (400, 500),
    (333, 257),
    (256, 256),
    (224, 224),
    (1, 1),
    (3, 600),
    (701, 643),
    (100, 61),
    (257, 255),
]


def images() -> dict[str, bytes]:
    made = {}
    for width, height in SIZES:
        made[f"jpeg {width}x{height}"] = encode(picture(width, height), "JPEG", quality=85)
        made[f"png {width}x{height}"] = encode(picture(width, height), "PNG")
    image = picture(301, 299, "RGBA")
    for mode in ("RGBA", "LA", "L", "1", "P"):
        made[f"png {mode}"] = encode(image.convert("RGB").convert(mode) if mode != "RGBA" else image, "PNG")
    made["png 16 bit"] = encode(
        Image.fromarray((np.arange(90_000, dtype=np.uint32) * 7919 % 65536).astype(np.uint16).reshape(300, 300)), "PNG"
    )
    made["jpeg grey"] = encode(image.convert("L"), "JPEG")
    made["jpeg CMYK"] = encode(image.convert("CMYK"), "JPEG")
    made["jpeg CMYK without Adobe marker"] = without_adobe_marker(made["jpeg CMYK"])
    made["jpeg progressive"] = encode(image.convert("RGB"), "JPEG", progressive=True)
    made["jpeg 4:4:4"] = encode(image.convert("RGB"), "JPEG", subsampling=0)
    made["jpeg rotated by EXIF"] = encode(
        image.convert("RGB"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    )
    return made


def without_adobe_marker(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xee")
    length = struct.unpack(">H", jpeg[start + 2 : start + 4])[0]
    return jpeg[:start] + jpeg[start + 2 + length :]


PARAMETERS = [
    {},
    {"order": "BGR", "scaling_factor": 0.017},
    {"output_height": 300, "output_width": 300, "preserve_aspect_ratio": False},
    {"output_height": 100, "output_width": 255},
]


@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_equals_the_tensorflow_graph_bit_for_bit(parameters: dict) -> None:
    tf = pytest.importorskip("tensorflow").compat.v1
    from amlrealtimeai.accel.models.utils import preprocess_array

    with tf.Graph().as_default(), tf.Session() as session:
        fed = tf.placeholder(tf.string, [None])
        prepared = preprocess_array(fed, **parameters)
        for name, data in images().items():
            expected = session.run(prepared, {fed: [data]})
            got = preprocess_images([data], parameters)
            assert got.dtype == np.float32 and got.shape == expected.shape, name
            different = np.flatnonzero(got.view(np.int32) != expected.view(np.int32))
            assert different.size == 0, f"{name}: {different.size} of {got.size} differ"


def test_values_worked_out_by_hand() -> None:
    pixels = np.zeros((2, 4, 3), np.uint8)
    pixels[0, :, 0] = [0, 100, 200, 40]
    pixels[1, :, 1] = 8
    got = preprocess_images(
        [encode(Image.fromarray(pixels), "PNG")],
        {"output_height": 4, "output_width": 4, "preserve_aspect_ratio": False, "scaling_factor": 2.0},
    )
    # rows 0, 0.5, 1, 1.5 of 2 rows; the lower edge repeats. (value - mean) * 2 in float32
    means = np.float32([123.68, 116.779, 103.939])
    red = [[0, 100, 200, 40], [0, 50, 100, 20], [0, 0, 0, 0], [0, 0, 0, 0]]
    green = [[0] * 4, [4] * 4, [8] * 4, [8] * 4]
    np.testing.assert_array_equal(got[0, :, :, 0], (np.float32(red) - means[0]) * np.float32(2))
    np.testing.assert_array_equal(got[0, :, :, 1], (np.float32(green) - means[1]) * np.float32(2))
    np.testing.assert_array_equal(got[0, :, :, 2], np.full((4, 4), -means[2] * np.float32(2)))


def test_stays_what_it_is() -> None:
    got = preprocess_images([encode(picture(500, 400), "PNG")], {})
    assert (
        hashlib.sha256(got.tobytes()).hexdigest() == "740040a37a0c44bf8f4e43814c0d4a80c2704e989aec70315c9600ddb1130f5c"
    )


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (400, 500, (256, 320)),
        (500, 400, (320, 256)),
        (1, 3, (256, 768)),
        (257, 333, (256, 332)),
        (512, 515, (256, 258)),
    ],
)
def test_short_side_becomes_256(height: int, width: int, expected: tuple[int, int]) -> None:
    assert aspect_preserving_size(height, width) == expected  # 515/2 = 257.5 goes to the even 258


def test_the_short_side_is_256_for_every_size() -> None:
    for side in range(1, 5000):
        assert min(aspect_preserving_size(side, side + 7)) == 256


def test_batch_keeps_order() -> None:
    batch = [encode(Image.new("RGB", (9, 9), (value, 0, 0)), "PNG") for value in (0, 100, 200)]
    got = preprocess_images(np.array(batch, dtype=object), {})
    np.testing.assert_allclose(got[:, 0, 0, 0], np.array([0, 100, 200]) - 123.68, rtol=1e-6)


GOOD = encode(picture(200, 150), "JPEG")
PNG = encode(picture(200, 150), "PNG")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "got none"),
        (b"hello, I am text", "not a JPEG or PNG"),
        (encode(picture(20, 20), "BMP"), "not a JPEG or PNG"),
        (GOOD[: len(GOOD) // 2], "damaged JPEG"),
        (GOOD[:100], "damaged JPEG"),
        (GOOD[:-2], "damaged JPEG"),
        (PNG[: len(PNG) // 2], "damaged PNG"),
        (PNG[:20], "damaged PNG"),
        ("text", "got str"),
    ],
)
def test_a_bad_image_is_named_with_its_place_and_reason(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInputError, match="image 1 of 3") as caught:
        preprocess_images([GOOD, data, GOOD], {})
    assert said in str(caught.value)
    assert "0x" not in str(caught.value), "an address of this process"


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(89_478_486, 1), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(InvalidInputError, match="more than 89478485 pixels"):
        preprocess_images([png_header(width, height)], {})


@pytest.mark.parametrize(("limit", "fine"), [(65, True), (64, True), (63, False)])
def test_pixel_limit_at_below_and_above_its_value(limit: int, fine: bool) -> None:
    data = encode(picture(8, 8), "PNG")
    if fine:
        assert preprocess_images([data], {}, max_pixels=limit).shape == (1, 224, 224, 3)
    else:
        with pytest.raises(InvalidInputError, match="8 x 8 has more than 63 pixels"):
            preprocess_images([data], {}, max_pixels=limit)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"order": "GBR"}, "'RGB' or 'BGR'"),
        ({"scaling_factor": float("nan")}, "scaling_factor"),
        ({"output_height": 257}, "from 1 to 256"),
        ({"output_width": 0}, "from 1 to 256"),
        ({"output_width": 5000, "preserve_aspect_ratio": False}, "from 1 to 4096"),
        ({"output_width": True}, "whole number"),
        ({"preserve_aspect_ratio": 1}, "true or false"),
        ({"size": 3}, "unknown parameter size"),
    ],
)
def test_bad_parameters(parameters: dict, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        PreprocessParameters.from_dict(parameters)
