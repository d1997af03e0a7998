import io
import json

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import images

TABBY = 281


def test_a_picture_has_the_size_asked_for():
    picture = images.compose(TABBY, size=96, seed=3)

    assert picture.shape == (96, 96, 3)
    assert picture.dtype == np.uint8


def test_the_seed_decides_every_pixel():
    first = images.compose(TABBY, size=64, seed=1)

    assert np.array_equal(first, images.compose(TABBY, size=64, seed=1))
    assert not np.array_equal(first, images.compose(TABBY, size=64, seed=2))


def test_the_object_is_in_the_picture():
    """Without its sprite, what is left is smooth: the object's outline is the strongest edge."""
    edges = np.abs(np.diff(images.compose(340, size=224, seed=5).astype(int), axis=0)).max()

    assert edges > 60


def test_a_class_without_an_emoji_is_refused_by_name():
    with pytest.raises(InvalidInputError, match=r"class 0 \(tench\) has no emoji.*177"):
        images.compose(0)


def test_a_size_below_16_is_refused():
    assert images.compose(TABBY, size=16).shape == (16, 16, 3)
    with pytest.raises(InvalidInputError, match="at least 16 pixels, got 15"):
        images.compose(TABBY, size=15)


def test_a_data_set_draws_every_class_once_a_round():
    pairs = list(images.dataset(177, size=32, seed=0))

    assert sorted(label for _, label in pairs) == images.class_indices()
    assert all(picture.shape == (32, 32, 3) for picture, _ in pairs)


def test_data_sets_of_two_seeds_share_no_picture():
    first = {picture.tobytes() for picture, _ in images.dataset(40, size=32, seed=0)}
    second = {picture.tobytes() for picture, _ in images.dataset(40, size=32, seed=1)}

    assert len(first) == 40
    assert not first & second


def test_an_empty_data_set():
    assert list(images.dataset(0)) == []


def test_jpeg_files(tmp_path):
    picture = images.compose(TABBY, size=64)
    path = images.save_jpeg(tmp_path / "new" / "cat.jpg", picture)

    with Image.open(path) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
        assert np.abs(np.asarray(image).astype(int) - picture).mean() < 12
    assert Image.open(io.BytesIO(images.jpeg_bytes(picture))).format == "JPEG"


@pytest.mark.parametrize(
    ("index", "name"),
    [(0, "tench"), (281, "tabby"), (386, "African elephant"), (607, "jack-o'-lantern"), (999, "toilet tissue")],
)
def test_labels_stand_at_their_imagenet_index(index, name):
    assert len(images.labels()) == 1000
    assert images.labels()[index] == name


def test_every_class_with_an_emoji_has_its_sprites_and_label():
    known = json.loads(resources.path("labels/emoji_classes.json").read_text(encoding="utf-8"))

    assert len(known["imagenet"]) == 177
    for entry in known["imagenet"]:
        assert images.labels()[entry["index"]] == entry["name"]
        for symbol in entry["emoji"]:
            with Image.open(resources.path(f"sprites/{ord(symbol):x}.png")) as sprite:
                assert (sprite.mode, sprite.size) == ("RGBA", (136, 128))
                assert sprite.getbbox() is not None


def test_voc_classes_start_with_the_background():
    classes = json.loads(resources.path("labels/voc_classes.json").read_text(encoding="utf-8"))

    assert len(classes) == 21
    assert (classes[0], classes[1], classes[20]) == ("background", "aeroplane", "tvmonitor")
