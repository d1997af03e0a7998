"""The object: an emoji drawn in another style or a cut-out in another light, warped, turned, tilted, partly hidden."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from amlrealtimeai.lab.images.backgrounds import colour

_ATTEMPTS = 5  # to find a part
_COVERED = 0.55  # of a part's area
_GRID = 5  # cells of the warp along a side
_GREY = np.array([0.299, 0.587, 0.114])


class Placed(NamedTuple):
    """An RGBA picture and where its left upper corner goes on the canvas, which it may overhang."""

    image: Image.Image
    left: int
    top: int

    def onto(self, canvas: Image.Image) -> None:
        """Paste it."""
        canvas.paste(self.image, (self.left, self.top), self.image)


def styled(sprite: Image.Image, variety: float, rng: np.random.Generator, redrawn: float = 1.0) -> Image.Image:
    """RGBA: as it is, in flat colours, with outlines, or as a line drawing; recoloured and perhaps mirrored.

    redrawn: how much more often than usual it is not as it is, up to 2.5.
    """
    chance = rng.random() / redrawn
    if chance < 0.12 * variety:
        sprite = _line_drawing(sprite, rng)
    elif chance < 0.3 * variety:
        sprite = _outlined(_flat(sprite, rng) if rng.random() < 0.5 else sprite, rng)
    elif chance < 0.4 * variety:
        sprite = _flat(sprite, rng)
    sprite = _recoloured(sprite, variety, rng)
    return sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else sprite


def photographed(stamp: Image.Image, variety: float, rng: np.random.Generator) -> Image.Image:
    """RGBA: a cut-out recoloured, lit from one side, its edge worn, perhaps mirrored."""
    if rng.random() < 0.06 * variety:
        stamp = _flat(stamp, rng)
    stamp = _recoloured(stamp, variety, rng)
    if rng.random() < 0.5 * variety:
        stamp = _lit(stamp, rng)
    if rng.random() < 0.5 * variety:  # no network shall know a cut-out by its edge
        worn = stamp.getchannel("A").filter(ImageFilter.MinFilter(3)).filter(ImageFilter.BoxBlur(rng.uniform(0, 2)))
        stamp.putalpha(worn)
    return stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else stamp


def close_up(stamp: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A part of a cut-out that it covers well, such as a head."""
    alpha = np.asarray(stamp.getchannel("A"))
    for _ in range(_ATTEMPTS):
        width, height = (max(2, int(side * rng.uniform(0.4, 0.8))) for side in stamp.size)
        left, top = int(rng.integers(0, stamp.width - width + 1)), int(rng.integers(0, stamp.height - height + 1))
        if alpha[top : top + height, left : left + width].mean() > 255 * _COVERED:
            return stamp.crop((left, top, left + width, top + height))
    return stamp


def shrunk(sprite: Image.Image, longer: float) -> Image.Image:
    """Its longer side at most so many pixels."""
    if longer >= max(sprite.size):
        return sprite
    width, height = (max(2, round(side * longer / max(sprite.size))) for side in sprite.size)
    return sprite.resize((width, height), Image.Resampling.BOX)


def placed(sprite: Image.Image, longer: float, size: int, variety: float, rng: np.random.Generator) -> Placed:
    """The sprite scaled, turned, tilted, warped and put somewhere on a canvas of `size` pixels.

    longer: its longer side in pixels, before it is turned.
    """
    if longer < 0.6 * max(sprite.size):  # by area first: the warp samples four pixels
        sprite = shrunk(sprite, longer)
    extent = np.array(sprite.size, float)
    scale = longer / extent.max() * np.exp(rng.uniform(-0.2, 0.2, 2) * variety)
    angle = np.radians(rng.uniform(-25, 25) * (0.4 + variety))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    half = extent * scale / 2
    reach = np.ceil(np.abs(turn.T) @ half * (1 + 0.1 * variety)) + 1
    picture = _warped(sprite, reach.astype(int), turn.T / scale, variety, rng)
    overhang = reach * 0.2 * variety
    low, high = np.minimum(reach - overhang, size / 2), np.maximum(size - reach + overhang, size / 2)
    left, top = np.round(rng.uniform(low, high) - reach).astype(int).tolist()
    return Placed(picture, left, top)


def _warped(
    sprite: Image.Image, reach: np.ndarray, inverse: np.ndarray, variety: float, rng: np.random.Generator
) -> Image.Image:
    """RGBA of 2 x `reach` (x, y) pixels: rotation, perspective and warp in one pass over a grid of quadrilaterals.

    inverse: [2, 2], from (x, y) around the canvas's centre to (x, y) around the sprite's.
    """
    edges = [np.round(np.linspace(0, 2 * r, _GRID + 1)).astype(int) for r in reach]
    nodes = np.stack(np.meshgrid(*edges), axis=-1) - reach  # [row, column, (x, y)]
    tilt = rng.uniform(-0.25, 0.25, 2) * variety
    flat = nodes / (1 + (nodes / reach * tilt).sum(axis=-1, keepdims=True))
    bend = rng.normal(0, 0.05 * variety * rng.random(), nodes.shape) * max(sprite.size)
    source = flat @ inverse + bend + np.array(sprite.size) / 2
    x, y = (edge.tolist() for edge in edges)
    cells = []
    for row in range(_GRID):
        for column in range(_GRID):
            quad = source[[row, row + 1, row + 1, row], [column, column, column + 1, column + 1]]
            cells.append(((x[column], y[row], x[column + 1], y[row + 1]), tuple(quad.ravel().tolist())))
    shape = (2 * int(reach[0]), 2 * int(reach[1]))
    return sprite.transform(shape, Image.Transform.MESH, cells, Image.Resampling.BILINEAR)


def hide_a_part(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The sprite with a hole of up to a third of its length: what stands in front is the background's piece."""
    alpha = sprite.getchannel("A").copy()
    width, height = sprite.size
    reach = rng.uniform(0.08, 0.18) * np.array([width, height])
    x, y = rng.uniform(0, 1, 2) * [width, height]
    box = (x - reach[0], y - reach[1], x + reach[0], y + reach[1])
    draw = ImageDraw.Draw(alpha)
    (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(box, fill=0)
    hidden = sprite.copy()
    hidden.putalpha(alpha)
    return hidden


def _recoloured(sprite: Image.Image, variety: float, rng: np.random.Generator) -> Image.Image:
    """Hue, saturation and gains as one 3 x 4 matrix; sometimes inverted or grey."""
    saturation = np.exp(rng.uniform(-0.5, 0.3) * variety) if rng.random() > 0.05 * variety else 0.0
    widest = np.pi if rng.random() < 0.08 * variety else 0.35
    hue = rng.uniform(-widest, widest) * variety
    axis = np.cos(hue) + (1 - np.cos(hue)) / 3
    plus, minus = ((1 - np.cos(hue)) / 3 + s * np.sin(hue) / np.sqrt(3) for s in (1, -1))
    turn = np.array([[axis, minus, plus], [plus, axis, minus], [minus, plus, axis]])
    grey = np.broadcast_to(_GREY, (3, 3))
    gains = rng.uniform(0.75, 1.25, 3) * rng.uniform(0.7, 1.2)
    matrix = gains[:, None] * ((grey + (np.eye(3) - grey) * saturation) @ turn)
    offsets = rng.uniform(-25, 25, 3) * variety
    rows = np.concatenate([matrix, offsets[:, None]], axis=1)
    coloured = sprite.convert("RGB").convert("RGB", tuple(rows.ravel().tolist()))
    coloured.putalpha(sprite.getchannel("A"))
    return coloured


def _lit(stamp: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lighter and darker over its length."""
    gains = Image.fromarray(rng.uniform(40, 255, (2, 2)).astype(np.uint8)).resize(stamp.size, Image.Resampling.BICUBIC)
    shaded = ImageChops.multiply(stamp.convert("RGB"), Image.merge("RGB", [gains] * 3)).point(lambda value: value * 1.5)
    shaded.putalpha(stamp.getchannel("A"))
    return shaded


def _flat(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """In a few flat colours."""
    reduced = sprite.convert("RGB").quantize(int(rng.integers(3, 9)), Image.Quantize.MEDIANCUT).convert("RGB")
    reduced.putalpha(sprite.getchannel("A"))
    return reduced


def _contours(sprite: Image.Image, width: int) -> Image.Image:
    """L: edges between colours inside the sprite, dark on light parts of any colour, `width` pixels wide."""
    inside = Image.new("RGB", sprite.size, (255, 255, 255))
    inside.paste(sprite, mask=sprite.getchannel("A"))
    bands = inside.filter(ImageFilter.GaussianBlur(1)).filter(ImageFilter.FIND_EDGES).split()
    strongest = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    return strongest.filter(ImageFilter.MaxFilter(width)).point(lambda value: max(0, min(255, (value - 24) * 8)))


def _outlined(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With a dark contour around it and along its inner edges, as comics have it."""
    width = int(rng.choice([3, 5]))
    margin = width
    large = Image.new("RGBA", (sprite.width + 2 * margin, sprite.height + 2 * margin))
    large.paste(sprite, (margin, margin))
    ink = tuple(rng.integers(0, 60, 3).tolist())
    outline = Image.new("RGBA", large.size, ink)
    outline.putalpha(large.getchannel("A").filter(ImageFilter.MaxFilter(width)))
    outline.alpha_composite(large)
    inner = _contours(large, 3)
    outline.paste(ink, mask=ImageChops.multiply(inner, large.getchannel("A")))
    return outline


def _line_drawing(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Contours only, on a paper of one colour or on nothing."""
    drawn = _outlined(sprite, rng)
    lines = ImageChops.darker(drawn.getchannel("A"), _contours(drawn, 3))
    ink = Image.new("RGBA", drawn.size, tuple(rng.integers(0, 90, 3).tolist()))
    ink.putalpha(lines)
    if rng.random() < 0.5:
        return ink
    paper = Image.new("RGBA", drawn.size, (255, 255, 255) if rng.random() < 0.6 else colour(rng))
    paper.putalpha(drawn.getchannel("A"))
    paper.alpha_composite(ink)
    return paper
