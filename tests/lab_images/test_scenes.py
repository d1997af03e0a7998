import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import images


def test_a_scene_has_objects_with_boxes_inside_the_picture():
    for seed in range(12):
        picture, boxes = images.scene(128, seed)
        assert (picture.shape, picture.dtype) == ((128, 128, 3), np.uint8)
        assert 1 <= len(boxes) <= 4
        for box in boxes:
            assert 1 <= box.label <= 20
            assert 0 <= box.y1 < box.y2 <= 1 and 0 <= box.x1 < box.x2 <= 1
            assert (box.y2 - box.y1) * (box.x2 - box.x1) > 0.005


def test_a_box_hugs_its_object():
    """A plain scene of one object: what differs from a scene without it lies in the box, and reaches its sides."""
    for seed in (1, 4, 6):
        picture, (box,) = images.scene(200, seed, most=1, variety=0)
        smooth = (
            np.abs(np.diff(picture.astype(int), axis=1)).max(axis=2)
            + np.pad(np.abs(np.diff(picture.astype(int), axis=0)).max(axis=2), ((0, 1), (0, 0)))[:, :-1]
        )
        edges = np.argwhere(smooth > 60)
        if len(edges) < 50:
            continue
        y1, x1 = np.quantile(edges, 0.02, axis=0) / 200
        y2, x2 = np.quantile(edges, 0.98, axis=0) / 200
        assert box.y1 - 0.03 < y1 < y2 < box.y2 + 0.03
        assert box.x1 - 0.03 < x1 < x2 < box.x2 + 0.03
        assert (y2 - y1) * (x2 - x1) > 0.4 * (box.y2 - box.y1) * (box.x2 - box.x1)


def test_all_voc_classes_appear():
    labels = {box.label for seed in range(120) for box in images.scene(64, seed)[1]}

    assert labels == set(range(1, 21))


def test_the_voc_layout(tmp_path):
    images.write_voc(tmp_path, 3, size=96, seed=2)

    names = (tmp_path / "ImageSets" / "Main" / "trainval.txt").read_text().split()
    assert names == ["0002_000000", "0002_000001", "0002_000002"]
    for number, name in enumerate(names):
        with Image.open(tmp_path / "JPEGImages" / f"{name}.jpg") as image:
            assert image.size == (96, 96)
        root = ElementTree.parse(tmp_path / "Annotations" / f"{name}.xml").getroot()
        assert (root.findtext("filename"), root.findtext("size/width")) == (f"{name}.jpg", "96")
        expected = images.scene(96, 2_000_006 + number)[1]
        assert [entry.findtext("name") for entry in root.iter("object")] == [
            images.voc_labels()[box.label] for box in expected
        ]
        read = images.read_voc(tmp_path / "Annotations" / f"{name}.xml")
        np.testing.assert_allclose(np.array(read), np.array(expected), atol=0.51 / 96)


def test_an_annotation_by_hand(tmp_path):
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>100</width><height>50</height></size><object><name>cat</name><bndbox>"
        "<xmin>11</xmin><ymin>6</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object></annotation>"
    )

    assert images.read_voc(tmp_path / "a.xml") == [images.Box(8, 0.1, 0.1, 1.0, 0.6)]


@pytest.mark.parametrize("text", ["", "<annotation/>", "<annotation><size><width>x</width></size></annotation>"])
def test_a_file_that_is_no_annotation(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)

    with pytest.raises(InvalidInputError, match=r"a\.xml is no annotation as PASCAL VOC has them"):
        images.read_voc(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("name", "corners", "said"),
    [
        ("unicorn", "11 6 60 50", "it has a 'unicorn', expected one of aeroplane, bicycle, bird, "),
        ("background", "11 6 60 50", "it has a 'background', expected one of aeroplane, "),
        ("cat", "60 6 11 50", "it has a box from x 60 to 11, y 6 to 50 of 100 x 50"),
        ("cat", "nan 6 60 50", "it has a box from x nan to 60"),
    ],
)
def test_an_object_that_cannot_be_is_said(tmp_path, name, corners, said):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>100</width><height>50</height></size>"
        f"<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>"
    )

    with pytest.raises(InvalidInputError, match=said):
        images.read_voc(tmp_path / "a.xml")


def test_a_scene_too_small():
    with pytest.raises(InvalidInputError, match="at least 64 pixels, got 63"):
        images.scene(63)
