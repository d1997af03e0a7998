"""Sample pictures, pictures with a text for those who cannot see them, a classifier's answer as a table with bars."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError, MissingFileError, NotFoundError
from amlrealtimeai.lab.images import labels
from amlrealtimeai.lab.style import HOST


@dataclass(frozen=True, repr=False)
class Picture:
    """An encoded picture that a notebook draws. alt: what it shows, in words; width: in pixels on the page."""

    data: bytes
    mime: str
    alt: str
    width: int

    @classmethod
    def of(cls, image: Image.Image, alt: str) -> "Picture":
        """An image as JPEG."""
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        return cls(buffer.getvalue(), "image/jpeg", alt, image.width)

    @property
    def image(self) -> Image.Image:
        """The pixels (not of an SVG)."""
        return Image.open(io.BytesIO(self.data))

    def __repr__(self) -> str:
        return self.alt

    def _repr_html_(self) -> str:
        coded = base64.b64encode(self.data).decode()
        return f'<img alt="{escape(self.alt)}" width="{self.width}" src="data:{self.mime};base64,{coded}">'


def sample(name: str = "red_fox") -> Path:
    """Path of the sample picture `name`; NotFoundError lists those that there are."""
    found = {path.stem: path for folder in ("images", "photographs") for path in resources.path(folder).glob("*.jpg")}
    if name not in found:
        raise NotFoundError(
            f"no sample picture {name!r}; there are {', '.join(sorted(found))}. A picture of yours is a path: "
            "Path('my.jpg')"
        )
    return found[name]


def rgb(image: Image.Image) -> Image.Image:
    """The picture in 8 bits of red, green and blue; of 16 bits the upper 8, as a service reads them."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def opened(source: Path | str | bytes) -> Image.Image:
    """The picture of a file, or of a file's bytes, as rgb() gives it.

    Raises NotFoundError for a file that is not there, InvalidInputError for one that is no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return rgb(image)
    except FileNotFoundError:
        raise MissingFileError(f"no picture at {source!s}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # whatever Pillow's readers raise
        named = f"{len(source)} bytes" if isinstance(source, bytes) else source
        raise InvalidInputError(f"{named} is not a picture that could be opened: {error}") from None


def show(path: Path | str, width: int = 280, alt: str | None = None) -> Picture:
    """The picture at `path`, made `width` pixels wide; alt: what it shows (default: the file's name)."""
    full = opened(path)
    small = full.resize((width, max(1, round(full.height * width / full.width))))
    return Picture.of(small, alt or f"The picture {Path(path).stem.replace('_', ' ')}.")


def sheet(
    pictures: Sequence[Path | str | bytes],
    columns: int = 8,
    side: int = 96,
    captions: Sequence[str] | None = None,
    alt: str | None = None,
) -> Picture:
    """Many pictures, paths or the bytes of files, in rows of `columns`, each fitted into `side` x `side` pixels.

    captions: a few words below each.
    """
    if not pictures:
        raise InvalidInputError("there is no picture to show: the list is empty")
    step = side + (14 if captions else 0)
    rows, columns = -(-len(pictures) // columns), min(columns, len(pictures))
    canvas = Image.new("RGB", (columns * side, rows * step), "white")
    draw = ImageDraw.Draw(canvas)
    for number, source in enumerate(pictures):
        small = ImageOps.pad(opened(source), (side - 2, side - 2), color="white")
        x, y = number % columns * side + 1, number // columns * step + 1
        canvas.paste(small, (x, y))
        if captions:
            draw.text((x + 2, y + side - 2), captions[number], fill="black")
    described = "; ".join(captions) if captions else f"{len(pictures)} pictures"
    return Picture.of(canvas, alt or f"A sheet of {described}.")


@dataclass(frozen=True)
class Top:
    """The most probable classes, best first: (probability 0..1, class index, name)."""

    rows: tuple[tuple[float, int, str], ...]

    @property
    def label(self) -> str:
        """Name of the best."""
        return self.rows[0][2]

    @property
    def probability(self) -> float:
        """Probability of the best, 0..1."""
        return self.rows[0][0]

    def __str__(self) -> str:
        return "\n".join(
            f"{100 * p:5.1f} %  {'#' * round(30 * p):<30}  {name} ({index})" for p, index, name in self.rows
        )

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td style='text-align:right'>{100 * p:.1f} %</td><td style='width:200px'>"
            f"<div style='background:{HOST};height:0.9em;width:{max(1, round(200 * p))}px'></div></td>"
            f"<td style='text-align:left'>{escape(name)}</td><td>{index}</td></tr>"
            for p, index, name in self.rows
        )
        return f"<table>{cells}</table>"


def top(probabilities: Any, count: int = 5) -> Top:
    """The `count` best classes of `probabilities`, float [1000] or [1, 1000]."""
    values = np.asarray(probabilities, np.float64).reshape(-1)
    if values.size != len(labels()):
        raise InvalidInputError(
            f"expected {len(labels())} probabilities of one picture, got shape {np.shape(probabilities)}"
        )
    best = np.argsort(-values, kind="stable")[:count]
    return Top(tuple((float(values[i]), int(i), labels()[i]) for i in best))
