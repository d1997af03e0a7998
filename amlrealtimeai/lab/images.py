"""Pictures for lessons and tests: an emoji of a known ImageNet class on a procedural background, from a seed.

The sprites are Noto Color Emoji (data/sprites, SIL OFL 1.1). The same arguments give the same pixels on every computer.
"""

import io
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError

_SCALE = (0.32, 0.9)  # object's longer side as a share of the picture
_ROTATION_DEGREES = 35.0
_JITTER = 0.3  # of each colour channel's gain, and of contrast
_BLUR_SHARE = 0.008  # largest blur radius as a share of the picture
_NOISE_LEVELS = 12.0
_OVERHANG = 0.1  # how much of the object may leave the picture


@cache
def labels() -> tuple[str, ...]:
    """The 1000 ImageNet class names, by index."""
    return tuple(json.loads(resources.path("labels/imagenet_classes.json").read_text(encoding="utf-8")))


@cache
def emoji() -> dict[int, tuple[str, ...]]:
    """The emoji of every class that has one, by ImageNet index, ascending."""
    known = json.loads(resources.path("labels/emoji_classes.json").read_text(encoding="utf-8"))
    return {entry["index"]: tuple(entry["emoji"]) for entry in known["imagenet"]}


def class_indices() -> list[int]:
    """ImageNet indices of the classes that can be composed, ascending."""
    return list(emoji())


def compose(label_index: int, size: int = 224, seed: int = 0) -> np.ndarray:
    """A picture of class `label_index`: uint8 [size, size, 3], RGB.

    Scale, rotation, place, colours, blur and background follow from `seed`. Raises InvalidInputError for a class
    without an emoji (class_indices() lists those that have one) or a size under 16.
    """
    _check(label_index, size)
    rng = np.random.default_rng([seed, label_index])
    symbols = emoji()[label_index]
    sprite = _transformed(_sprite(symbols[rng.integers(len(symbols))]), size, rng)
    canvas = Image.fromarray(_background(size, rng))
    canvas.paste(sprite, _place(sprite, size, rng), sprite)
    return _camera(canvas, rng)


def dataset(n: int, size: int = 224, seed: int = 0) -> Iterator[tuple[np.ndarray, int]]:
    """`n` pairs of (picture uint8 [size, size, 3], label index), classes drawn evenly in random order."""
    rng = np.random.default_rng([seed, n])
    classes = class_indices()
    rounds = [rng.permutation(classes) for _ in range(-(-n // len(classes)))]
    for i, label in enumerate(np.concatenate(rounds)[:n] if rounds else []):
        yield compose(int(label), size, seed=seed * 1_000_003 + i), int(label)


def jpeg_bytes(image: np.ndarray, quality: int = 92) -> bytes:
    """uint8 [h, w, 3] as the bytes of a JPEG file."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return data.getvalue()


def save_jpeg(path: str | Path, image: np.ndarray, quality: int = 92) -> Path:
    """Write uint8 [h, w, 3] as a JPEG file, making its folder; returns the path."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(jpeg_bytes(image, quality))
    return target


def _check(label_index: int, size: int) -> None:
    if label_index not in emoji():
        name = f" ({labels()[label_index]})" if 0 <= label_index < len(labels()) else ""
        raise InvalidInputError(
            f"class {label_index}{name} has no emoji; amlrealtimeai.lab.images.class_indices() lists the "
            f"{len(emoji())} that have one"
        )
    if size < 16:
        raise InvalidInputError(f"size must be at least 16 pixels, got {size}")


@cache
def _sprite(symbol: str) -> Image.Image:
    """The emoji cropped to what it covers, RGBA."""
    with Image.open(resources.path(f"sprites/{ord(symbol):x}.png")) as image:
        sprite = image.convert("RGBA")
    return sprite.crop(sprite.getchannel("A").getbbox())


def _transformed(sprite: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """Recoloured, mirrored, scaled and rotated."""
    pixels = np.asarray(sprite).astype(np.float32)
    gains = rng.uniform(1 - _JITTER, 1 + _JITTER, 3) * rng.uniform(1 - _JITTER, 1 + _JITTER)
    pixels[:, :, :3] = np.clip(pixels[:, :, :3] * gains, 0, 255)
    coloured = Image.fromarray(pixels.astype(np.uint8))
    if rng.random() < 0.5:
        coloured = coloured.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    factor = rng.uniform(*_SCALE) * size / max(coloured.size)
    width, height = (max(1, round(side * factor)) for side in coloured.size)
    # premultiplied, or the colour of transparent pixels bleeds into the edges
    scaled = coloured.convert("RGBa").resize((width, height), Image.Resampling.BICUBIC)
    angle = float(rng.uniform(-_ROTATION_DEGREES, _ROTATION_DEGREES))
    return scaled.rotate(angle, Image.Resampling.BICUBIC, expand=True).convert("RGBA")


def _place(sprite: Image.Image, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Left and top of the sprite."""
    corner = []
    for side in sprite.size:
        slack = size - side
        low, high = sorted((-_OVERHANG * side, slack + _OVERHANG * side))
        corner.append(round(float(rng.uniform(low, high))))
    return corner[0], corner[1]


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [size, size, 3]: a gradient between two colours, and one of several smooth textures over it."""
    first, second = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[0:size, 0:size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.7) / 1.4
    texture = _texture(size, rng) * rng.uniform(0, 60)
    picture = first + (second - first) * ramp[:, :, None] + texture[:, :, None] * rng.uniform(0.5, 1, 3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """float [size, size] of about -1..1: clouds of a random coarseness."""
    cells = int(rng.integers(2, 12))
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def _camera(canvas: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Blur, contrast and sensor noise: uint8 [h, w, 3]."""
    blurred = canvas.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, _BLUR_SHARE)) * canvas.width))
    contrast = rng.uniform(1 - _JITTER, 1 + _JITTER)
    exposed = (np.asarray(blurred).astype(np.float64) - 128) * contrast + 128
    exposed += rng.normal(0, rng.uniform(0, _NOISE_LEVELS), exposed.shape)
    return np.clip(exposed, 0, 255).astype(np.uint8)
