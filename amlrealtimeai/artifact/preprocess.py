"""Image bytes -> network input, equal bit for bit to the TensorFlow graph that `preprocess_array` builds.

The arithmetic, all in float32:
  decode   JPEG, PNG or GIF of one frame to RGB uint8 (alpha dropped, 16 bits per channel cut to the upper 8, EXIF
           rotation ignored), as tf.image.decode_jpeg(channels=3, dct_method="INTEGER_ACCURATE") does;
  size     preserve_aspect_ratio: both sides times 256 / short side, rounded half to even (slim's VGG preprocessing);
           otherwise height and width become the output's;
  resize   TF1 bilinear: source = index * (input size / output size), floor, clamp, lerp along x, then along y;
  crop     the centre window, offsets (size - output) // 2: only this window is computed;
  finish   minus the means (123.68, 116.779, 103.939) of R, G, B; channel order; times scaling_factor.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from amlrealtimeai.artifact.images.pixels import Picture, open_picture
from amlrealtimeai.errors import InvalidInputError

SHORT_SIDE = 256
MAX_PIXELS = 89_478_485  # as many as Pillow warns of: a 24 bit image of a quarter gigabyte
MEANS = np.array([123.68, 116.779, 103.939], dtype=np.float32)

_MAX_OUTPUT_SIDE = 4096
_ROWS = 32
_Taps = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class PreprocessParameters:
    """What `preprocess_array` was called with. Raises InvalidInputError for values that it would not accept."""

    order: str = "RGB"
    scaling_factor: float = 1.0
    output_height: int = 224
    output_width: int = 224
    preserve_aspect_ratio: bool = True

    def __post_init__(self) -> None:
        if self.order not in ("RGB", "BGR"):
            raise InvalidInputError(f"preprocessing: order has to be 'RGB' or 'BGR', not {self.order!r}")
        if not isinstance(self.scaling_factor, int | float) or not math.isfinite(self.scaling_factor):
            raise InvalidInputError(f"preprocessing: scaling_factor has to be a number, not {self.scaling_factor!r}")
        if not isinstance(self.preserve_aspect_ratio, bool):
            raise InvalidInputError(
                f"preprocessing: preserve_aspect_ratio has to be true or false, not {self.preserve_aspect_ratio!r}"
            )
        largest = SHORT_SIDE if self.preserve_aspect_ratio else _MAX_OUTPUT_SIDE
        for name in ("output_height", "output_width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= largest:
                raise InvalidInputError(
                    f"preprocessing: {name} has to be a whole number from 1 to {largest}"
                    f"{' (the short side after resizing)' if self.preserve_aspect_ratio else ''}, not {value!r}"
                )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PreprocessParameters":
        """The parameters of a service_def.json stage; an unknown name is an error."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise InvalidInputError(
                f"preprocessing: unknown parameter {', '.join(map(str, unknown))}; "
                f"known are {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**values)


def preprocess_images(
    images: np.ndarray | Sequence[bytes],
    parameters: PreprocessParameters | dict[str, Any],
    max_pixels: int = MAX_PIXELS,
    check: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Decode and prepare a batch: n encoded images -> float32 [n, output_height, output_width, 3].

    `check` is called again and again: what it raises ends the work.

    Raises InvalidInputError naming the item of the batch that is not an image, is truncated or has more than
    `max_pixels` pixels.
    """
    if isinstance(parameters, dict):
        parameters = PreprocessParameters.from_dict(parameters)
    items = images.ravel() if isinstance(images, np.ndarray) else images
    shape = (len(items), parameters.output_height, parameters.output_width, 3)
    batch = np.empty(shape, dtype=np.float32)
    for index, data in enumerate(items):
        try:
            _prepare(open_picture(data, max_pixels, check), parameters, batch[index], check)
        except InvalidInputError as error:
            raise InvalidInputError(f"image {index} of {len(items)}: {error}") from None
    return batch


def _prepare(image: Picture, parameters: PreprocessParameters, out: np.ndarray, check: Callable[[], None]) -> None:
    """Write one image, float32 [output_height, output_width, 3], into `out`."""
    height, width = parameters.output_height, parameters.output_width
    if parameters.preserve_aspect_ratio:
        new_height, new_width = aspect_preserving_size(image.height, image.width)
    else:
        new_height, new_width = height, width
    top, bottom, y_lerp = _taps(image.height, new_height, (new_height - height) // 2, height)
    left, right, x_lerp = _taps(image.width, new_width, (new_width - width) // 2, width)
    pixels = image.rgb((int(left[0]), int(top[0]), int(right[-1]) + 1, int(bottom[-1]) + 1))

    channels = np.arange(3) if parameters.order == "RGB" else np.arange(3)[::-1]
    _resize(
        pixels.reshape(len(pixels), -1),
        (top - top[0], bottom - top[0], y_lerp),
        (_interleaved(left - left[0], channels), _interleaved(right - left[0], channels), x_lerp.repeat(3)),
        np.tile(MEANS[channels], width),
        out.reshape(height, -1),
        check,
    )
    if parameters.scaling_factor != 1.0:
        out *= np.float32(parameters.scaling_factor)


def _resize(
    pixels: np.ndarray,
    y_taps: _Taps,
    x_taps: _Taps,
    means: np.ndarray,
    out: np.ndarray,
    check: Callable[[], None],
) -> None:
    """Rows of uint8 values -> rows of float32 less the means; a few rows at a time, so that they stay in cache."""
    left, right, x_lerp = x_taps
    for start in range(0, len(out), _ROWS):
        check()
        block = slice(start, start + _ROWS)
        top, bottom, y_lerp = (taps[block] for taps in y_taps)
        if bottom[-1] - top[0] < 2 * len(top):
            rows, upper, lower = pixels[top[0] : bottom[-1] + 1], top - top[0], bottom - top[0]
        else:  # most rows in between are not used
            rows, upper, lower = pixels[np.concatenate([top, bottom])], slice(len(top)), slice(len(top), None)
        at_left = rows.take(left, axis=1).astype(np.float32)
        lines = rows.take(right, axis=1).astype(np.float32)
        lines -= at_left
        lines *= x_lerp
        lines += at_left
        result = lines[lower]
        result -= lines[upper]
        result *= y_lerp[:, None]
        result += lines[upper]
        np.subtract(result, means, out=out[block])


def _interleaved(columns: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """Places in a row of interleaved values: for every column its channels, in their order."""
    places: np.ndarray = (columns[:, None] * 3 + channels).ravel()
    return places


def aspect_preserving_size(height: int, width: int) -> tuple[int, int]:
    """Height and width with the short side at 256: float32 side * (256 / short side), rounded half to even."""
    scale = np.float32(SHORT_SIDE) / np.float32(min(height, width))
    return int(np.rint(np.float32(height) * scale)), int(np.rint(np.float32(width) * scale))


def _taps(size: int, new_size: int, first: int, count: int) -> _Taps:
    """For output positions first .. first + count: both source indices (int64) and the lerp (float32)."""
    scale = np.float32(size) / np.float32(new_size)
    source = np.arange(first, first + count).astype(np.float32) * scale
    floor = np.floor(source)
    lower = np.minimum(floor.astype(np.int64), size - 1)
    upper = np.minimum(floor.astype(np.int64) + 1, size - 1)
    return lower, upper, source - floor
