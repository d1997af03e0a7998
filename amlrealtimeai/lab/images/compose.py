"""One picture, or a stream of them: a thing of a known class before a background, seen through an imperfect camera."""

import io
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.images import backgrounds, objects
from amlrealtimeai.lab.images.backgrounds import Background
from amlrealtimeai.lab.images.photographs import Stamps
from amlrealtimeai.lab.images.sprites import class_indices, drawn, emoji, labels, sprite

SCALE = (0.3, 0.9)

_CLOSE = (0.8, 1.5)  # a part's scale: often it leaves the picture on all sides
_SMALLEST = 16
_NOISE_SIDE = 512


def compose(
    label_index: int,
    size: int = 224,
    seed: int = 0,
    *,
    design: str = "noto",
    background: Background = "procedural",
    variety: float = 0.5,
    scale: tuple[float, float] = SCALE,
) -> np.ndarray:
    """A picture of class `label_index`: uint8 [size, size, 3], RGB.

    Everything follows from `seed`: the same arguments give the same pixels with the same Pillow and NumPy.
    design: one of DESIGNS, who drew the emoji. background: "procedural", "photo" for a piece of scikit-learn's two
    sample photographs, or Photographs of your own. variety: 0 (plain) to 1 (what networks are trained on): how
    strongly the object is warped, turned, tilted, recoloured, redrawn and hidden, and how busy the background and how
    bad the camera are.
    scale: smallest and largest share of the picture's side that the object's longer side takes.
    Raises InvalidInputError for a class that the design has no emoji for, a size under 16, or another wrong argument.
    """
    _check(label_index, size, design, variety)
    rng = np.random.default_rng([seed, label_index])
    symbols = drawn(design, emoji()[label_index])
    symbol = symbols[rng.integers(len(symbols))]
    return compose_emoji(symbol, size, rng, design=design, background=background, variety=variety, scale=scale)


def compose_emoji(
    symbol: str,
    size: int,
    rng: np.random.Generator,
    *,
    design: str = "noto",
    background: Background = "procedural",
    variety: float = 0.5,
    scale: tuple[float, float] = SCALE,
    redrawn: float = 1.0,
) -> np.ndarray:
    """The same for any emoji that there is a sprite of, drawn from `rng`. redrawn: as in `objects.styled`."""
    canvas = backgrounds.background(background, size, variety, rng)
    thing = objects.styled(sprite(design, symbol), variety, rng, redrawn)
    return _in_front(thing, canvas, rng, variety, scale)


def compose_stamp(
    stamp: Image.Image,
    size: int,
    rng: np.random.Generator,
    *,
    background: Background = "procedural",
    variety: float = 0.5,
    scale: tuple[float, float] = SCALE,
) -> np.ndarray:
    """The same for a photographic cut-out, which may come so near that the picture shows a part of it."""
    canvas = backgrounds.background(background, size, variety, rng)
    if rng.random() < 0.3 * variety:
        stamp, scale = objects.close_up(stamp, rng), _CLOSE
    share = float(rng.uniform(*scale))
    stamp = objects.shrunk(stamp, 1.3 * share * size)  # what follows costs by the pixel
    return _in_front(objects.photographed(stamp, variety, rng), canvas, rng, variety, (share, share))


def _in_front(
    thing: Image.Image, canvas: Image.Image, rng: np.random.Generator, variety: float, scale: tuple[float, float]
) -> np.ndarray:
    """The RGBA `thing` somewhere on the square `canvas`, which changes, through the camera."""
    size = canvas.width
    if rng.random() < 0.3 * variety:
        thing = objects.hide_a_part(thing, rng)
    placed = objects.placed(thing, rng.uniform(*scale) * size, size, variety, rng)
    if rng.random() < 0.3 * variety:
        _shadow(placed, rng).onto(canvas)
    placed.onto(canvas)
    if rng.random() < 0.25 * variety:
        backgrounds.draw_shapes(canvas, int(rng.integers(1, 4)), (0.03, 0.15), rng)
    return camera(canvas, variety, rng)


def dataset(
    n: int,
    size: int = 224,
    seed: int = 0,
    *,
    designs: Sequence[str] = ("noto",),
    background: Background = "procedural",
    variety: float = 0.5,
) -> Iterator[tuple[np.ndarray, int]]:
    """`n` pairs of (picture uint8 [size, size, 3], label index), classes drawn evenly in random order.

    designs: each picture takes one of them that has its class.
    """
    rng = np.random.default_rng([seed, n])
    having = {design: frozenset(class_indices(design)) for design in designs}
    for i, label in enumerate(_evenly(sorted(set().union(*having.values())), n, rng)):
        choice = [design for design in designs if label in having[design]]
        design = choice[rng.integers(len(choice))]
        own_seed = seed * 1_000_003 + i
        yield compose(label, size, own_seed, design=design, background=background, variety=variety), label


def stamps_dataset(
    n: int,
    stamps: Stamps,
    size: int = 224,
    seed: int = 0,
    *,
    background: Background = "procedural",
    variety: float = 0.5,
) -> Iterator[tuple[np.ndarray, int]]:
    """As `dataset`, of photographic cut-outs."""
    rng = np.random.default_rng([seed, n])
    for i, label in enumerate(_evenly(stamps.class_indices, n, rng)):
        own = np.random.default_rng([seed * 1_000_003 + i, label])
        stamp = stamps.one_of(label, own)
        yield compose_stamp(stamp, size, own, background=background, variety=variety), label


def _evenly(classes: Sequence[int], n: int, rng: np.random.Generator) -> list[int]:
    """`n` of the classes in random order, each as often as the others."""
    rounds = [rng.permutation(classes) for _ in range(-(-n // len(classes)))] if classes else []
    return np.concatenate(rounds)[:n].tolist() if rounds else []


def camera(canvas: Image.Image, variety: float, rng: np.random.Generator) -> np.ndarray:
    """Blur, low resolution, exposure, noise, JPEG's artefacts: uint8 [h, w, 3]."""
    size = canvas.width
    if rng.random() < 0.5:
        canvas = canvas.filter(ImageFilter.BoxBlur(float(rng.uniform(0, 0.018)) * (0.3 + variety) * size))
    if rng.random() < 0.2 * variety:
        small = max(_SMALLEST, int(rng.uniform(0.3, 0.8) * size))
        canvas = canvas.resize((small, small), Image.Resampling.BILINEAR).resize((size, size), Image.Resampling.BICUBIC)
    contrast = rng.uniform(1 - 0.4 * (0.3 + variety), 1.2)
    brightness = rng.uniform(-35, 35) * (0.3 + variety)
    gamma = np.exp(rng.uniform(-0.4, 0.4) * variety)
    levels = 255 * (np.arange(256) / 255) ** gamma
    curve = np.clip((levels - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)
    canvas = canvas.point(curve.tolist() * 3)
    if rng.random() < 0.04 * variety:
        canvas = canvas.convert("L").convert("RGB")
    if rng.random() < 0.3 * variety:
        with Image.open(io.BytesIO(jpeg_bytes(np.asarray(canvas), int(rng.integers(20, 90))))) as stored:
            canvas = stored.convert("RGB")
    return (
        _noisy(np.asarray(canvas), rng.uniform(0, 16) * (0.3 + variety), rng)
        if rng.random() < 0.5
        else np.array(canvas)
    )


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


def _check(label_index: int, size: int, design: str, variety: float) -> None:
    known = class_indices(design)
    if label_index not in known:
        name = f" ({labels()[label_index]})" if 0 <= label_index < len(labels()) else ""
        raise InvalidInputError(
            f"class {label_index}{name} has no emoji in the design {design!r}; "
            f"amlrealtimeai.lab.images.class_indices({design!r}) lists the {len(known)} that have one"
        )
    if size < _SMALLEST:
        raise InvalidInputError(f"size must be at least {_SMALLEST} pixels, got {size}")
    if not 0 <= variety <= 1:
        raise InvalidInputError(f"variety must lie in 0..1, got {variety}")


def _shadow(thing: objects.Placed, rng: np.random.Generator) -> objects.Placed:
    """What the object would cast onto a wall behind it."""
    radius = max(thing.image.size) * rng.uniform(0.01, 0.04)
    dark = thing.image.getchannel("A").filter(ImageFilter.BoxBlur(radius)).point(lambda value: value * 0.6)
    image = Image.new("RGBA", thing.image.size, (0, 0, 0))
    image.putalpha(dark)
    dx, dy = np.round(rng.uniform(-0.06, 0.06, 2) * max(thing.image.size)).astype(int).tolist()
    return objects.Placed(image, thing.left + dx, thing.top + dy)


@cache
def _noise() -> np.ndarray:
    """int8 [512, 1536]: normal noise of deviation 32, drawn once because drawing it costs more than composing."""
    drawn_once = np.random.default_rng(0).normal(0, 32, (_NOISE_SIDE, 3 * _NOISE_SIDE))
    return np.clip(drawn_once, -127, 127).astype(np.int8)


def _noisy(picture: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    height, width = picture.shape[:2]
    bank = _noise()
    repeats = (-(-height // (_NOISE_SIDE // 2)), -(-width // (_NOISE_SIDE // 2)))
    bank = np.tile(bank, repeats) if max(repeats) > 1 else bank
    top = int(rng.integers(0, bank.shape[0] - height + 1))
    left = int(rng.integers(0, bank.shape[1] - 3 * width + 1))
    grain = bank[top : top + height, left : left + 3 * width].reshape(height, width, 3)
    level = round(deviation / 32 * 128)  # in 1/128: integers, so that every computer rounds alike
    return np.clip(picture + (grain.astype(np.int16) * level >> 7), 0, 255).astype(np.uint8)
