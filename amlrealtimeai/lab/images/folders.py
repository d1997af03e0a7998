"""Sets of pictures as arrays and as folders of JPEG files, the cats and dogs of the Kaggle set among them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab.images.compose import compose_emoji, dataset, save_jpeg
from amlrealtimeai.lab.images.sprites import drawn, labels, pet_emoji

PETS = ("Cat", "Dog")
SPLITS = ("taught", "looked at", "held out")
_QUARTERS = ("taught", "taught", "looked at", "held out")

_PET_SIDES = (200, 500)  # pixels, as the pictures of the Kaggle set vary


class Pet(NamedTuple):
    """A picture file of a cats-and-dogs folder. label: 0 is a cat, 1 is a dog."""

    path: Path
    label: int


def arrays(
    n: int, size: int = 224, seed: int = 0, *, designs: Sequence[str] = ("noto",), background: str = "procedural"
) -> tuple[np.ndarray, np.ndarray]:
    """`dataset` in one piece: pictures uint8 [n, size, size, 3], ImageNet indices int64 [n]."""
    pairs = list(dataset(n, size, seed, designs=designs, background=background))
    shape = (len(pairs), size, size, 3)
    pictures = np.stack([picture for picture, _ in pairs]) if pairs else np.zeros(shape, np.uint8)
    return pictures, np.array([label for _, label in pairs], np.int64)


def write_folder(
    folder: str | Path, n: int, size: int = 224, seed: int = 0, *, designs: Sequence[str] = ("noto",)
) -> Path:
    """`dataset` as <folder>/<index>_<class name>/<number>.jpg; returns the folder."""
    for number, (picture, label) in enumerate(dataset(n, size, seed, designs=designs)):
        name = labels()[label].replace(" ", "_").replace("/", "_")
        save_jpeg(Path(folder) / f"{label:03d}_{name}" / f"{number}.jpg", picture)
    return Path(folder)


def write_pets(folder: str | Path, n: int = 100, seed: int = 0, *, design: str = "noto", variety: float = 0.5) -> Path:
    """`n` cats and `n` dogs as <folder>/PetImages/Cat/0.jpg ... and Dog/0.jpg ..., as the Kaggle set has them.

    The pictures are squares of 200 to 500 pixels; variety: as in `compose`. Returns the path of PetImages, for `pets`.
    """
    root = Path(folder) / "PetImages"
    for kind, name in enumerate(PETS):
        for number in range(n):
            size = int(np.random.default_rng([seed, kind, number]).integers(*_PET_SIDES))
            picture = compose_pet(name, size, seed * 1_000_003 + number, design=design, variety=variety)
            save_jpeg(root / name / f"{number}.jpg", picture)
    return root


def compose_pet(name: str, size: int = 224, seed: int = 0, *, design: str = "noto", variety: float = 0.5) -> np.ndarray:
    """A "Cat" or a "Dog": uint8 [size, size, 3]. There are more dogs than ImageNet's classes of them have emoji."""
    symbols = drawn(design, pet_emoji()[name])
    rng = np.random.default_rng([seed, PETS.index(name)])
    return compose_emoji(symbols[rng.integers(len(symbols))], size, rng, design=design, variety=variety)


def pets(folder: str | Path, limit: int | None = None, split: str | None = None) -> list[Pet]:
    """The pictures of a PetImages folder, yours or Kaggle's: cats and dogs in turn, `limit` of each, by number.

    split: only those of one of three sets that share no picture, "taught" (half of them), "looked at" or "held out" (a
    quarter each). A picture's own bytes decide, so copies of it are in the same set, and a new one moves no other.
    Files that are no pictures are left out: the Kaggle set has some. Raises NotFoundError when a subfolder is missing
    and InvalidInputError when one has no picture.
    """
    if split is not None and split not in SPLITS:
        raise InvalidInputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    found = []
    for name in PETS:
        place = Path(folder) / name
        if not place.is_dir():
            raise NotFoundError(
                f"there is no folder {place}: expected PetImages with the subfolders Cat and Dog. Compose one with "
                "amlrealtimeai.lab.images.write_pets(folder), or unpack Kaggle's cats and dogs"
            )
        files = sorted(place.glob("*.jpg"), key=lambda path: (len(path.stem), path.stem))
        found.append(_readable(files, limit, split))
        if not found[-1]:
            of_it = f" and belongs to {split!r}" if split else ""
            raise InvalidInputError(f"{place} holds no .jpg that can be read{of_it}")
    pairs = [[Pet(path, label) for path in paths] for label, paths in enumerate(found)]
    longest = max(len(part) for part in pairs)
    return [part[i] for i in range(longest) for part in pairs if i < len(part)]


def _split_of(path: Path) -> str:
    """The set that a file's content belongs to."""
    return _QUARTERS[hashlib.sha256(path.read_bytes()).digest()[0] % len(_QUARTERS)]


def _readable(files: list[Path], limit: int | None, split: str | None) -> list[Path]:
    good: list[Path] = []
    for path in files:
        if limit is not None and len(good) >= limit:
            break
        try:
            if split is not None and _split_of(path) != split:
                continue
            with Image.open(path) as image:
                image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
        good.append(path)
    return good
