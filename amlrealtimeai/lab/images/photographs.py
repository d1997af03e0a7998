"""Photographs out of Debian's packages: cut-outs of things of known classes, and pictures whose pieces are backgrounds.

Neither ships with the project: both are inputs of a training, and of tests that only its evaluation runs.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from amlrealtimeai import command_line, resources
from amlrealtimeai.errors import InvalidInputError, NotFoundError

STAMPS_FOLDER = Path("/usr/share/tuxpaint/stamps")
BACKGROUND_FOLDERS = (Path("/usr/share/backgrounds"), Path("/usr/share/backgrounds/mate/nature"))
STAMPS_COMMAND = "apt-get install --no-install-recommends tuxpaint-stamps-default"
BACKGROUNDS_COMMAND = (
    "apt-get install --no-install-recommends mate-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04"
)
USES = ("train", "test")

_STAMP_SIDE = 320  # pixels of the longer side that are kept of a cut-out
_PHOTOGRAPH_SIDE = 512  # and of the shorter side of a photograph
_SMALLEST_CROP = 0.35  # of a photograph's shorter side
_HELD_OUT = 5  # one photograph in so many


class Stamps:
    """Tux Paint's photographic cut-outs of ImageNet classes, RGBA, by index; labels/photo_objects.json lists them.

    folder: usr/share/tuxpaint/stamps of Debian's tuxpaint-stamps-default. use: "train", or "test" for the individuals
    that no training sees. Raises NotFoundError, with the command that gets them, for one that is not there.
    """

    def __init__(self, folder: Path = STAMPS_FOLDER, use: str = "train") -> None:
        if use not in USES:
            raise InvalidInputError(f"use: expected one of {', '.join(USES)}, got {use!r}")
        listed = json.loads(resources.path("labels/photo_objects.json").read_text(encoding="utf-8"))["stamps"]
        chosen = [entry for entry in listed if entry["use"] == use]
        missing = [entry["stamp"] for entry in chosen if not (folder / entry["stamp"]).is_file()]
        if missing:
            raise NotFoundError(
                f"{folder} lacks {len(missing)} of the {len(chosen)} photographic cut-outs, {missing[0]} for one: "
                f"run '{STAMPS_COMMAND}', or unpack that package with 'dpkg -x' and give its folder "
                "usr/share/tuxpaint/stamps"
            )
        self._of_class: dict[int, list[Image.Image]] = {}
        for entry in chosen:
            self._of_class.setdefault(entry["index"], []).append(_cut_out(folder / entry["stamp"]))
        self.class_indices = sorted(self._of_class)

    def one_of(self, label_index: int, rng: np.random.Generator) -> Image.Image:
        """A cut-out of a class. Shared: do not change it. Raises InvalidInputError for a class that has none."""
        known = self._of_class.get(label_index)
        if not known:
            raise InvalidInputError(f"there is no cut-out of class {label_index}: expected one of {self.class_indices}")
        return known[rng.integers(len(known))]


class Photographs:
    """Pictures whose pieces stand behind objects, kept at a modest size."""

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        self.pictures = tuple(_reduced(picture) for picture in pictures)

    @classmethod
    def of_folders(cls, folders: Sequence[Path], use: str = "train") -> "Photographs":
        """The .jpg and .png of `folders`, not of folders within.

        use: "train", or "test" for those that no training sees, about one in five; a file's own bytes decide, so that
        copies of it are on the same side. Raises NotFoundError, with the command that gets some, where there are none.
        """
        if use not in USES:
            raise InvalidInputError(f"use: expected one of {', '.join(USES)}, got {use!r}")
        paths = sorted({path for folder in folders for path in folder.glob("*") if path.suffix in (".jpg", ".png")})
        chosen = [path for path in paths if _use_of(path) == use]
        if not chosen:
            raise NotFoundError(
                f"there is no photograph to {use} with in {', '.join(map(str, folders))}: "
                f"run '{BACKGROUNDS_COMMAND}', or give folders with .jpg or .png files of your own"
            )
        return cls([_opened(path, "RGB") for path in chosen])

    def piece(self, size: int, rng: np.random.Generator) -> Image.Image:
        """RGB [size, size]: a square out of one of them, perhaps mirrored."""
        picture = self.pictures[rng.integers(len(self.pictures))]
        side = int(rng.uniform(_SMALLEST_CROP, 1) * min(picture.size))
        left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


def add_options(parser: command_line.Parser | argparse._ArgumentGroup) -> None:
    """Where a command finds photographs; default: where Debian's packages put them."""
    parser.add_argument(
        "--stamps", type=Path, metavar="FOLDER", default=STAMPS_FOLDER, help=f"cut-outs: {STAMPS_COMMAND}"
    )
    parser.add_argument(
        "--backgrounds",
        type=Path,
        metavar="FOLDER",
        nargs="+",
        default=BACKGROUND_FOLDERS,
        help=f"photographs: {BACKGROUNDS_COMMAND}",
    )


def _use_of(path: Path) -> str:
    return "test" if hashlib.sha256(path.read_bytes()).digest()[0] % _HELD_OUT == 0 else "train"


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as stored:
            stored.draft("RGB", (2 * _PHOTOGRAPH_SIDE, 2 * _PHOTOGRAPH_SIDE))  # JPEG is decoded no larger than needed
            return stored.convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InvalidInputError(f"{path} cannot be read as a picture: {error}") from None


def _reduced(picture: Image.Image) -> Image.Image:
    factor = _PHOTOGRAPH_SIDE / min(picture.size)
    if factor >= 1:
        return picture
    width, height = (round(side * factor) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def _cut_out(path: Path) -> Image.Image:
    """Cropped to what it covers, its longer side at most _STAMP_SIDE."""
    whole = _opened(path, "RGBA")
    cropped = whole.crop(whole.getchannel("A").point(lambda value: 255 if value > 16 else 0).getbbox())
    cropped.thumbnail((_STAMP_SIDE, _STAMP_SIDE), Image.Resampling.BOX)
    return cropped
