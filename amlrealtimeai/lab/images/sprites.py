"""Which classes have an emoji, and the emoji themselves, in several designs."""

import json
from functools import cache
from typing import Any

from PIL import Image

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError, NotFoundError

TRAINING_DESIGNS = ("noto", "twemoji", "fluent", "emojione", "blobs")
UNSEEN_DESIGN = "openmoji"  # no recipe trains on it: the honest test
DESIGNS = (*TRAINING_DESIGNS, UNSEEN_DESIGN)


@cache
def labels() -> tuple[str, ...]:
    """The 1000 ImageNet class names, by index."""
    return tuple(json.loads(resources.path("labels/imagenet_classes.json").read_text(encoding="utf-8")))


@cache
def voc_labels() -> tuple[str, ...]:
    """ "background", then the 20 PASCAL VOC class names: a position is SSD's class number."""
    return tuple(json.loads(resources.path("labels/voc_classes.json").read_text(encoding="utf-8")))


@cache
def _known() -> dict[str, Any]:
    return json.loads(resources.path("labels/emoji_classes.json").read_text(encoding="utf-8"))


@cache
def emoji() -> dict[int, tuple[str, ...]]:
    """The emoji of every ImageNet class that has one, by index, ascending."""
    return {entry["index"]: tuple(entry["emoji"]) for entry in _known()["imagenet"]}


@cache
def voc_emoji() -> dict[str, str]:
    """The emoji of each VOC class, by name."""
    return dict(_known()["voc"])


@cache
def pet_emoji() -> dict[str, tuple[str, ...]]:
    """The emoji of "Cat" and "Dog"."""
    return {name: tuple(symbols) for name, symbols in _known()["pets"].items()}


def class_indices(design: str = "noto") -> list[int]:
    """ImageNet indices of the classes that `design` can compose, ascending."""
    return list(_classes(design))


@cache
def _classes(design: str) -> tuple[int, ...]:
    return tuple(index for index, symbols in emoji().items() if drawn(design, symbols))


@cache
def drawn(design: str, symbols: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `symbols` that `design` has. Raises InvalidInputError for an unknown design."""
    return tuple(symbol for symbol in symbols if f"{ord(symbol):x}" in _stems(design))


@cache
def _stems(design: str) -> frozenset[str]:
    if design not in DESIGNS:
        raise InvalidInputError(f"there is no design {design!r} of emoji: expected one of {', '.join(DESIGNS)}")
    stems = frozenset(path.stem for path in resources.path(f"sprites/{design}").glob("*.png"))
    if not stems:
        raise NotFoundError(
            f"the emoji of the design {design!r} are missing: {resources.path(f'sprites/{design}')} has no .png. "
            "Restore it with 'git checkout -- data/sprites', or render it anew with data/render_sprites.py"
        )
    return stems


@cache
def sprite(design: str, symbol: str) -> Image.Image:
    """The emoji in a design, cropped to what it covers, RGBA. Shared: do not change it."""
    if not drawn(design, (symbol,)):
        raise InvalidInputError(f"the design {design!r} has no {symbol}; 'noto' has all emoji that are used here")
    with Image.open(resources.path(f"sprites/{design}/{ord(symbol):x}.png")) as image:
        whole = image.convert("RGBA")
    return whole.crop(whole.getchannel("A").getbbox())
