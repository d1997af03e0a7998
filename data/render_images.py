"""Render images/*.jpg: one emoji each in a small landscape, or on a table.

python data/render_images.py
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from amlrealtimeai.lab.images import save_jpeg

_DATA = Path(__file__).resolve().parent
_SIZE = (560, 420)
_HORIZON = 0.62

Colour = tuple[int, int, int]


class Scene(NamedTuple):
    """sprite: file name. height, x, ground: of the object, as shares of the picture. Colours from top to bottom."""

    sprite: str
    height: float
    x: float
    ground: float
    sky: tuple[Colour, Colour]
    floor: tuple[Colour, Colour]
    hills: bool = True


_DAY = ((118, 182, 232), (214, 236, 248))
_EVENING = ((92, 84, 150), (246, 178, 120))
_GRASS = ((128, 178, 92), (82, 134, 62))
_SNOW = ((238, 244, 250), (198, 214, 232))
_SAVANNA = ((214, 186, 116), (168, 132, 76))
_SEA = ((70, 142, 176), (30, 92, 138))
_WALL = ((226, 216, 200), (206, 192, 172))
_TABLE = ((160, 112, 72), (112, 74, 46))

_SCENES = {
    "tabby_cat": Scene("1f408", 0.62, 0.5, 0.9, _DAY, _GRASS),
    "red_fox": Scene("1f98a", 0.58, 0.52, 0.88, _EVENING, _GRASS),
    "african_elephant": Scene("1f418", 0.66, 0.5, 0.92, _DAY, _SAVANNA),
    "king_penguin": Scene("1f427", 0.66, 0.5, 0.92, _DAY, _SNOW),
    "zebra": Scene("1f993", 0.66, 0.48, 0.92, _EVENING, _SAVANNA),
    "sailing_boat": Scene("26f5", 0.66, 0.52, 0.86, _DAY, _SEA, hills=False),
    "electric_guitar": Scene("1f3b8", 0.72, 0.5, 0.9, _WALL, _TABLE, hills=False),
    "espresso": Scene("2615", 0.6, 0.5, 0.86, _WALL, _TABLE, hills=False),
}


def _gradient(size: tuple[int, int], colours: tuple[Colour, Colour]) -> Image.Image:
    ramp = np.linspace(0, 1, size[1])[:, None, None]
    column = np.array(colours[0]) * (1 - ramp) + np.array(colours[1]) * ramp
    return Image.fromarray(np.broadcast_to(column, (size[1], size[0], 3)).round().astype(np.uint8))


def _landscape(scene: Scene) -> Image.Image:
    width, height = _SIZE
    horizon = round(height * _HORIZON)
    picture = Image.new("RGB", _SIZE)
    picture.paste(_gradient((width, horizon), scene.sky), (0, 0))
    picture.paste(_gradient((width, height - horizon), scene.floor), (0, horizon))
    if scene.hills:
        x = np.arange(width + 1)
        crest = horizon - 26 - 16 * np.sin(x / 90) - 9 * np.sin(x / 37 + 1)
        colour = tuple(int(0.55 * a + 0.45 * b) for a, b in zip(scene.floor[0], scene.sky[1], strict=True))
        outline = [(0, horizon), *zip(x.tolist(), crest.tolist(), strict=True), (width, horizon)]
        ImageDraw.Draw(picture).polygon(outline, fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(1.5))


def render(scene: Scene) -> np.ndarray:
    """uint8 [420, 560, 3]."""
    picture = _landscape(scene)
    with Image.open(_DATA / "sprites" / "noto" / f"{scene.sprite}.png") as file:
        sprite = file.convert("RGBA")
    sprite = sprite.crop(sprite.getchannel("A").getbbox())
    height = round(scene.height * _SIZE[1])
    width = round(sprite.width * height / sprite.height)
    sprite = sprite.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    left, bottom = round(scene.x * _SIZE[0] - width / 2), round(scene.ground * _SIZE[1])
    shadow = Image.new("L", _SIZE)
    ImageDraw.Draw(shadow).ellipse((left + width // 10, bottom - 18, left + width * 9 // 10, bottom + 10), fill=110)
    picture.paste((20, 24, 30), mask=shadow.filter(ImageFilter.GaussianBlur(7)))
    picture.paste(sprite, (left, bottom - height), sprite)
    return np.asarray(picture)


if __name__ == "__main__":
    for name, chosen in _SCENES.items():
        save_jpeg(_DATA / "images" / f"{name}.jpg", render(chosen), quality=90)
