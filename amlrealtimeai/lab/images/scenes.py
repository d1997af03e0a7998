"""Scenes with several objects and their boxes, for detection: as arrays, or as a folder in PASCAL VOC's layout."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.images import backgrounds, objects
from amlrealtimeai.lab.images.compose import camera, save_jpeg
from amlrealtimeai.lab.images.sprites import drawn, sprite, voc_emoji, voc_labels

_ATTEMPTS = 20  # to find a free place for an object
_OVERLAP = 0.15  # of two boxes: intersection over union
_VISIBLE = 0.7  # of a box, inside the picture
SCALE = (0.2, 0.55, 0.8)


class Box(NamedTuple):
    """An object's class (1..20, position in voc_labels()) and box, in shares 0..1 of the picture's sides."""

    label: int
    y1: float
    x1: float
    y2: float
    x2: float


def scene(
    size: int = 300,
    seed: int = 0,
    *,
    most: int = 4,
    design: str = "noto",
    background: str = "procedural",
    variety: float = 0.5,
    scale: tuple[float, float, float] = SCALE,
) -> tuple[np.ndarray, list[Box]]:
    """A picture uint8 [size, size, 3] with 1 to `most` objects of VOC classes, and their boxes.

    scale: an object's longer side as a share of the picture's: the smallest, the largest of several, of a lone one.

    Boxes hug what is drawn of an object, clipped to the picture; objects hardly overlap. Raises InvalidInputError for a
    design or background that there is not, or a size under 64.
    """
    if size < 64:
        raise InvalidInputError(f"size must be at least 64 pixels, got {size}")
    rng = np.random.default_rng([seed, 20])
    known = [name for name, symbol in voc_emoji().items() if drawn(design, (symbol,))]
    canvas = backgrounds.background(background, size, variety, rng)
    boxes: list[Box] = []
    wanted = int(rng.integers(1, most + 1))
    for _ in range(_ATTEMPTS):
        name = known[rng.integers(len(known))]
        thing = objects.styled(sprite(design, voc_emoji()[name]), variety, rng)
        longer = rng.uniform(scale[0], scale[2] if wanted == 1 else scale[1]) * size
        placed = objects.placed(thing, longer, size, variety, rng)
        box = _box(placed, voc_labels().index(name), size)
        if box is not None and all(_shared(box, other) < _OVERLAP for other in boxes):
            placed.onto(canvas)
            boxes.append(box)
        if len(boxes) == wanted:
            break
    return camera(canvas, variety, rng), boxes


def write_voc(folder: str | Path, n: int, size: int = 300, seed: int = 0, *, design: str = "noto") -> Path:
    """`n` scenes as JPEGImages/, Annotations/ and ImageSets/Main/trainval.txt under `folder`; returns it."""
    root = Path(folder)
    names = [f"{seed:04d}_{number:06d}" for number in range(n)]
    for number, name in enumerate(names):
        picture, boxes = scene(size, seed * 1_000_003 + number, design=design)
        save_jpeg(root / "JPEGImages" / f"{name}.jpg", picture)
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        ElementTree.ElementTree(_annotation(name, size, boxes)).write(path, encoding="utf-8")
    listing = root / "ImageSets" / "Main" / "trainval.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return root


def read_voc(path: str | Path) -> list[Box]:
    """The boxes of a VOC annotation file. Raises InvalidInputError for a file that is none."""
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (float(_text(root, f"size/{side}")) for side in ("width", "height"))
        boxes = []
        for entry in root.iter("object"):
            x1, y1, x2, y2 = (float(_text(entry, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            label = _label(_text(entry, "name"))
            if not (np.isfinite([x1, y1, x2, y2, width, height]).all() and x1 <= x2 and y1 <= y2):
                raise ValueError(f"it has a box from x {x1:g} to {x2:g}, y {y1:g} to {y2:g} of {width:g} x {height:g}")
            # VOC counts pixels from 1, and a box includes its last one
            boxes.append(Box(label, (y1 - 1) / height, (x1 - 1) / width, y2 / height, x2 / width))
        return boxes
    except (OSError, ElementTree.ParseError, ValueError, ZeroDivisionError) as error:
        raise InvalidInputError(f"{path} is no annotation as PASCAL VOC has them: {error}") from None


class VocFolder:
    """Own pictures in PASCAL VOC's layout: those of ImageSets/Main/trainval.txt, or all that have an annotation.

    Raises InvalidInputError for a folder that holds none, or an annotation or picture that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listing = folder / "ImageSets" / "Main" / "trainval.txt"
        if listing.exists():
            self.names: Sequence[str] = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
        else:
            self.names = sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        if not self.names:
            raise InvalidInputError(
                f"{folder} holds no pictures in PASCAL VOC's layout: expected Annotations/NAME.xml and "
                "JPEGImages/NAME.jpg; amlrealtimeai.lab.images.write_voc writes such a folder"
            )

    def read(self, number: int) -> tuple[Image.Image, list[Box]]:
        """Picture `number`, RGB, and its boxes."""
        name = self.names[number]
        path = self.folder / "JPEGImages" / f"{name}.jpg"
        try:
            with Image.open(path) as stored:
                picture = stored.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidInputError(f"{path} cannot be read as a picture: {error}") from None
        return picture, read_voc(self.folder / "Annotations" / f"{name}.xml")


def _box(placed: objects.Placed, label: int, size: int) -> Box | None:
    """Around what is opaque and inside the picture; None when too much is outside or nothing is left."""
    opaque = placed.image.getchannel("A").point(lambda value: 255 if value > 64 else 0).getbbox()
    if opaque is None:
        return None
    whole = np.array(opaque, float) + np.array([placed.left, placed.top] * 2)
    x1, y1, x2, y2 = np.clip(whole, 0, size).tolist()
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    if (x2 - x1) * (y2 - y1) < _VISIBLE * area:
        return None
    return Box(label, y1 / size, x1 / size, y2 / size, x2 / size)


def _shared(a: Box, b: Box) -> float:
    """Intersection over union."""
    height = max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))
    width = max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1))
    areas = sum((box.y2 - box.y1) * (box.x2 - box.x1) for box in (a, b))
    return height * width / (areas - height * width)


def _annotation(name: str, size: int, boxes: list[Box]) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{name}.jpg"
    shape = ElementTree.SubElement(root, "size")
    for key, length in (("width", size), ("height", size), ("depth", 3)):
        ElementTree.SubElement(shape, key).text = str(length)
    for box in boxes:
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = voc_labels()[box.label]
        ElementTree.SubElement(entry, "difficult").text = "0"
        corners = ElementTree.SubElement(entry, "bndbox")
        values = (box.x1 * size + 1, box.y1 * size + 1, box.x2 * size, box.y2 * size)
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True):
            ElementTree.SubElement(corners, key).text = str(round(value))
    return root


def _label(name: str) -> int:
    if name not in voc_labels()[1:]:
        raise ValueError(f"it has a {name!r}, expected one of {', '.join(voc_labels()[1:])}")
    return voc_labels().index(name)


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"it has no {path}")
    return text
