"""Sample pictures, and the answer of a classifier as a small table with bars."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab.images import labels


def sample(name: str = "red_fox") -> Path:
    """Path of the sample picture `name`; NotFoundError lists those that there are."""
    folder = resources.path("images")
    path = folder / f"{name}.jpg"
    if not path.exists():
        names = ", ".join(sorted(entry.stem for entry in folder.glob("*.jpg")))
        raise NotFoundError(
            f"no sample picture {name!r}; there are {names}. A picture of yours is a path: Path('my.jpg')"
        )
    return path


def show(path: Path | str, width: int = 280) -> Image.Image:
    """The picture at `path`, made `width` pixels wide; a notebook draws it."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    return rgb.resize((width, round(rgb.height * width / rgb.width)))


def sheet(pictures: Sequence[Path | str | bytes], columns: int = 8, side: int = 96) -> Image.Image:
    """Many pictures, paths or the bytes of files, in rows of `columns`, each fitted into `side` x `side` pixels."""
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * side, rows * side), "white")
    for number, source in enumerate(pictures):
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            small = ImageOps.pad(image.convert("RGB"), (side - 2, side - 2), color="white")
        canvas.paste(small, (number % columns * side + 1, number // columns * side + 1))
    return canvas


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
            f"<div style='background:#4c78a8;height:0.9em;width:{max(1, round(200 * p))}px'></div></td>"
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
