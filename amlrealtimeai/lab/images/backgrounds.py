"""What stands behind the object: colours, clouds, stripes, shapes, landscapes, leaves; or a piece of a photograph."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab.images.photographs import Photographs

BACKGROUNDS = ("procedural", "photo")

Background = str | Photographs


def background(kind: Background, size: int, variety: float, rng: np.random.Generator) -> Image.Image:
    """RGB [size, size]. kind: one of BACKGROUNDS, or photographs to take a piece of; InvalidInputError for another."""
    if isinstance(kind, Photographs):
        return kind.piece(size, rng)
    if kind not in BACKGROUNDS:
        raise InvalidInputError(f"there is no background {kind!r}: expected one of {', '.join(BACKGROUNDS)}")
    return _sample_photographs().piece(size, rng) if kind == "photo" else _procedural(size, variety, rng)


def field(cells: int, size: int, rng: np.random.Generator, spread: float = 1.0) -> Image.Image:
    """RGB [size, size]: random colours at `cells` x `cells` places and smooth between; spread 0..1 is the contrast."""
    centre = rng.uniform(0, 255, 3)
    colours = centre + (rng.uniform(0, 255, (cells, cells, 3)) - centre) * spread
    return Image.fromarray(colours.astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """A random colour."""
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def draw_shapes(canvas: Image.Image, count: int, extent: tuple[float, float], rng: np.random.Generator) -> None:
    """Polygons, ellipses and lines in random colours onto `canvas`; extent: their size as shares of the canvas."""
    draw, size = ImageDraw.Draw(canvas), canvas.width
    for _ in range(count):
        reach = rng.uniform(*extent) * size / 2
        x, y = rng.uniform(0, size, 2)
        kind = rng.integers(3)
        if kind == 0:
            aspect = rng.uniform(0.4, 1)
            draw.ellipse((x - reach, y - reach * aspect, x + reach, y + reach * aspect), fill=colour(rng))
        elif kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
            radii = reach * rng.uniform(0.6, 1, angles.size)
            corners = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
            draw.polygon([tuple(corner) for corner in corners.tolist()], fill=colour(rng))
        else:
            dx, dy = rng.uniform(-reach, reach, 2)
            draw.line(
                (x - dx, y - dy, x + dx, y + dy), fill=colour(rng), width=max(1, int(rng.uniform(0.004, 0.03) * size))
            )


def _procedural(size: int, variety: float, rng: np.random.Generator) -> Image.Image:
    base = field(2, size, rng)
    if rng.random() < 0.25:
        base = Image.new("RGB", (size, size), (255, 255, 255) if rng.random() < 0.3 else colour(rng))
    if rng.random() > 0.3 + 0.6 * variety:
        return base
    kinds = list(_TEXTURES)
    texture = kinds[rng.choice(len(kinds), p=list(_TEXTURES.values()))](size, rng)
    mixed = Image.blend(base, texture, float(rng.uniform(0.15, 0.35 + 0.65 * variety) if rng.random() < 0.5 else 1.0))
    if rng.random() < 0.4 * variety:
        draw_shapes(mixed, int(rng.integers(1, 9)), (0.05, 0.6), rng)
    return mixed


def _clouds(size: int, rng: np.random.Generator) -> Image.Image:
    return field(int(rng.integers(3, 12)), size, rng, float(rng.uniform(0.3, 1)))


def _grain(size: int, rng: np.random.Generator) -> Image.Image:
    """Two octaves: a coarse one and one of a few pixels."""
    fine = field(int(rng.integers(12, max(13, size // 3))), size, rng, float(rng.uniform(0.2, 0.8)))
    return Image.blend(_clouds(size, rng), fine, float(rng.uniform(0.2, 0.8)))


def _waves(size: int, rng: np.random.Generator) -> Image.Image:
    """Bent stripes or checks between two colours."""
    steps = np.linspace(0, 1, size, dtype=np.float32)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(0, 2)
    x, y = np.float32(np.cos(angle)) * steps[None, :], np.float32(np.sin(angle)) * steps[:, None]
    phase = 2 * np.pi * np.float32(rng.uniform(1.5, 20))
    wave = np.sin(phase * (x + y) + np.float32(bend) * np.sin(np.float32(rng.uniform(2, 9)) * steps[:, None]))
    if rng.random() < 0.4:
        wave = wave * np.sin(phase * (y[::-1] + x))
    mask = np.clip(wave * np.float32(rng.uniform(90, 600)) + 128, 0, 255).astype(np.uint8)
    return Image.composite(
        Image.new("RGB", (size, size), colour(rng)), Image.new("RGB", (size, size), colour(rng)), Image.fromarray(mask)
    )


def _shapes(size: int, rng: np.random.Generator) -> Image.Image:
    canvas = field(2, size, rng)
    draw_shapes(canvas, int(rng.integers(8, 40)), (0.05, 0.7), rng)
    return canvas


def _landscape(size: int, rng: np.random.Generator) -> Image.Image:
    """A few bands, each with its own colours and grain, with uneven borders."""
    canvas = field(2, size, rng, 0.4)
    for level in np.sort(rng.uniform(0.1, 0.95, rng.integers(1, 5))):
        crest = np.interp(np.arange(size), np.linspace(0, size, 6), rng.normal(0, 0.05, 6) + level) * size
        mask = (np.arange(size)[:, None] > crest[None, :]).astype(np.uint8) * np.uint8(255)
        canvas.paste(field(int(rng.integers(2, 24)), size, rng, 0.4), (0, 0), Image.fromarray(mask))
    return canvas


def _octaves(size: int, rng: np.random.Generator) -> Image.Image:
    """Noise whose amplitude falls with its frequency, as in photographs (Field 1987)."""
    canvas = field(2, size, rng)
    cells, share, chroma = 4, rng.uniform(0.35, 0.55), float(rng.uniform(0.1, 0.6))
    while cells < size:
        layer = field(cells, size, rng)
        canvas = Image.blend(canvas, Image.blend(layer.convert("L").convert("RGB"), layer, chroma), float(share))
        cells, share = 2 * cells, share * 0.8
    return canvas


def _leaves(size: int, rng: np.random.Generator) -> Image.Image:
    """Things of all sizes that hide each other, in a few kinds of colours: dead leaves (Lee, Mumford, Huang 2001)."""
    canvas = field(3, size, rng)
    draw = ImageDraw.Draw(canvas)
    count = int(rng.integers(60, 400))
    smallest = rng.uniform(0.006, 0.03)
    radii = smallest / np.sqrt(rng.uniform((smallest / 0.35) ** 2, 1, count)) * size
    centres = rng.uniform(0, size, (count, 2))
    palette = rng.uniform(0, 255, (int(rng.integers(2, 7)), 3))
    shades = palette[rng.integers(len(palette), size=count)] * rng.uniform(0.5, 1.3, (count, 1))
    colours = np.clip(shades + rng.normal(0, 12, (count, 3)), 0, 255).astype(int)
    aspects, corners = rng.uniform(0.3, 1, count), rng.integers(2, 7, count)
    turns = rng.uniform(0, 2 * np.pi, count)
    for (x, y), r, fill, aspect, sides, turn in zip(
        centres.tolist(),
        radii.tolist(),
        colours.tolist(),
        aspects.tolist(),
        corners.tolist(),
        turns.tolist(),
        strict=True,
    ):
        if sides == 2:
            draw.ellipse((x - r, y - r * aspect, x + r, y + r * aspect), fill=tuple(fill))
            continue
        angles = turn + 2 * np.pi * np.arange(sides) / sides
        points = np.stack([x + r * np.cos(angles), y + r * aspect * np.sin(angles)], axis=1)
        draw.polygon([tuple(point) for point in points.tolist()], fill=tuple(fill))
    return Image.blend(canvas, _octaves(size, rng), float(rng.uniform(0, 0.5)))


_Texture = Callable[[int, np.random.Generator], Image.Image]
# How often each is chosen: those with the statistics of photographs as often as all others together.
_TEXTURES: dict[_Texture, float] = {
    _clouds: 0.1,
    _grain: 0.1,
    _waves: 0.1,
    _shapes: 0.1,
    _landscape: 0.1,
    _octaves: 0.15,
    _leaves: 0.35,
}


@cache
def _sample_photographs() -> Photographs:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        raise NotFoundError(
            "background='photo' takes pieces of scikit-learn's two sample photographs, and scikit-learn is not "
            "installed: run 'pip install scikit-learn'"
        ) from None
    return Photographs([Image.fromarray(picture) for picture in load_sample_images().images])
