import io
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab import images
from amlrealtimeai.lab.images import sprites
from amlrealtimeai.lab.images.compose import compose_emoji

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
    """Two classes on the same background: only where the objects are do the pictures differ."""
    rng = [np.random.default_rng(5) for _ in range(2)]
    zebra, pizza = (compose_emoji(symbol, 224, own, variety=0) for symbol, own in zip("🦓🍕", rng, strict=True))
    changed = np.abs(zebra.astype(int) - pizza).max(axis=2) > 40

    assert 0.03 < changed.mean() < 0.6


def test_a_class_without_an_emoji_is_refused_by_name():
    with pytest.raises(InvalidInputError, match=r"class 0 \(tench\) has no emoji in the design 'noto'.*177"):
        images.compose(0)
    with pytest.raises(InvalidInputError, match=r"class 340 \(zebra\) has no emoji in the design 'blobs'"):
        images.compose(340, design="blobs")


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


def test_a_design_and_a_background_that_there_are_not():
    with pytest.raises(InvalidInputError, match="no design 'apple' of emoji: expected one of noto, twemoji"):
        images.compose(TABBY, design="apple")
    with pytest.raises(InvalidInputError, match="no background 'beach': expected one of procedural, photo"):
        images.compose(TABBY, background="beach")
    with pytest.raises(InvalidInputError, match=r"variety must lie in 0\.\.1, got 2"):
        images.compose(TABBY, variety=2)


def test_photographs_need_scikit_learn_or_say_so():
    try:
        import sklearn  # noqa: F401
    except ImportError:
        with pytest.raises(NotFoundError, match="pip install scikit-learn"):
            images.compose(TABBY, background="photo")
    else:
        first, second = (images.compose(TABBY, seed=3, background=kind) for kind in images.BACKGROUNDS)
        assert not np.array_equal(first, second)


def test_designs_draw_the_same_composition_differently():
    pictures = {images.compose(TABBY, size=96, seed=2, design=design).tobytes() for design in images.DESIGNS}

    assert len(pictures) == 6


def test_more_variety_changes_the_picture():
    assert not np.array_equal(images.compose(TABBY, 64, 1, variety=0), images.compose(TABBY, 64, 1, variety=1))


def test_scale_decides_how_much_of_the_picture_the_object_takes():
    """A black panda's share of dark pixels grows with it."""

    def dark(scale):
        pictures = [images.compose(430, 96, seed, variety=0, scale=scale) for seed in range(8)]
        backgrounds = [images.compose(430, 96, seed, variety=0, scale=(0.05, 0.05)) for seed in range(8)]
        changes = [np.abs(p.astype(int) - b).max(axis=2) > 50 for p, b in zip(pictures, backgrounds, strict=True)]
        return np.mean(changes)

    assert dark((0.9, 0.9)) > 3 * dark((0.3, 0.3)) > 0


def test_a_data_set_of_several_designs_takes_those_that_have_the_class():
    """Blobs ended before the zebra: every zebra is Noto's."""
    pairs = list(images.dataset(177, size=32, seed=0, designs=("blobs", "noto")))

    assert sorted(label for _, label in pairs) == images.class_indices()
    assert 340 not in images.class_indices("blobs")
    assert len(images.class_indices("blobs")) == 137
    assert images.class_indices("openmoji") == images.class_indices()


def test_thousands_of_pictures_a_minute():
    """Measured: about 400 a second at 128 px on one core; the bound leaves room for busy machines."""
    start = time.process_time()
    for _ in images.dataset(100, size=128, variety=1):
        pass

    assert 100 / (time.process_time() - start) > 50


def test_missing_sprites_are_named_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "sprites" / "noto").mkdir(parents=True)
    monkeypatch.setenv("AMLREALTIMEAI_DATA", str(tmp_path))
    caches = (sprites._stems, sprites.drawn, sprites._classes)
    for cached in caches:
        cached.cache_clear()
    with pytest.raises(NotFoundError, match=r"design 'noto' are missing.*data/render_sprites\.py"):
        images.compose(TABBY)
    for cached in caches:
        cached.cache_clear()


def test_rendering_without_the_font_says_what_to_install(tmp_path):
    script = resources.path("render_sprites.py")
    done = subprocess.run([sys.executable, script, tmp_path / "No.ttf", tmp_path], capture_output=True, text=True)

    assert done.returncode == 1
    assert "No.ttf" in done.stderr and "apt-get install fonts-noto-color-emoji" in done.stderr


def test_every_class_with_an_emoji_has_its_sprites_and_label():
    known = json.loads(resources.path("labels/emoji_classes.json").read_text(encoding="utf-8"))

    assert len(known["imagenet"]) == 177
    for entry in known["imagenet"]:
        assert images.labels()[entry["index"]] == entry["name"]
        for symbol in entry["emoji"]:
            with Image.open(resources.path(f"sprites/noto/{ord(symbol):x}.png")) as sprite:
                assert (sprite.mode, sprite.size) == ("RGBA", (136, 128))
                assert sprite.getbbox() is not None
    assert images.class_indices("twemoji") == images.class_indices("openmoji") == images.class_indices()
    assert set(images.class_indices()) - set(images.class_indices("fluent")) == {879}  # its umbrella is missing


@pytest.mark.parametrize("design", images.DESIGNS)
def test_every_sprite_shows_something(design):
    paths = sorted(resources.path(f"sprites/{design}").glob("*.png"))

    assert len(paths) >= 140
    assert resources.path(f"sprites/{design}").joinpath("OFL.txt" if design == "noto" else "LICENSE.txt").exists()
    for path in paths:
        with Image.open(path) as image:
            alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
        assert (alpha > 128).mean() > 0.02, path


def test_a_fly_agaric_is_an_agaric():
    assert images.emoji()[992] == ("🍄",)
    assert 947 not in images.class_indices()


def test_voc_classes_start_with_the_background():
    classes = json.loads(resources.path("labels/voc_classes.json").read_text(encoding="utf-8"))

    assert len(classes) == 21
    assert (classes[0], classes[1], classes[20]) == ("background", "aeroplane", "tvmonitor")


def test_three_sets_of_one_folder_share_no_picture(tmp_path):
    root = images.write_pets(tmp_path, 40, seed=5)
    sets = {name: {pet.path for pet in images.pets(root, split=name)} for name in ("taught", "looked at", "held out")}
    assert sum(map(len, sets.values())) == 80 == len(set().union(*sets.values()))
    assert 25 <= len(sets["taught"]) <= 55 and min(map(len, sets.values())) >= 8
    assert all({path.parent.name for path in paths} == {"Cat", "Dog"} for paths in sets.values())


def test_a_copy_of_a_picture_is_in_the_set_of_the_picture(tmp_path):
    root = images.write_pets(tmp_path, 12, seed=5)
    before = images.pets(root, split="taught")
    for pet in before:
        (pet.path.parent / f"{pet.path.stem}00.jpg").write_bytes(pet.path.read_bytes())
    assert len(images.pets(root, split="taught")) == 2 * len(before)
    assert [pet.path for pet in images.pets(root, limit=3, split="taught")] == [
        pet.path for pet in images.pets(root, split="taught")
    ][:6]


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="expected one of taught, looked at, held out, got 'test'"):
        images.pets(tmp_path, split="test")
