"""Cut-outs and photographs, made here: the packages that hold real ones need not be installed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from amlrealtimeai import resources
from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab import evaluate, images
from amlrealtimeai.lab.images import objects, photographs
from amlrealtimeai.lab.training.recipe import RECIPES, Batch, Kind, Material, pictures

LISTED = json.loads(resources.path("labels/photo_objects.json").read_text(encoding="utf-8"))["stamps"]
RED, BLUE = (220, 20, 20, 255), (20, 20, 220, 255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every cut-out that is listed: those for training are red discs, those for testing blue ones."""
    root = tmp_path_factory.mktemp("stamps")
    for entry in LISTED:
        path = root / entry["stamp"]
        path.parent.mkdir(parents=True, exist_ok=True)
        stamp = Image.new("RGBA", (60, 50))
        ImageDraw.Draw(stamp).ellipse((10, 5, 49, 44), fill=RED if entry["use"] == "train" else BLUE)
        stamp.save(path)
    return root


@pytest.fixture(scope="module")
def pictures_folder(tmp_path_factory):
    """Forty pictures of 30 x 20 pixels, each of one colour."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(40):
        Image.new("RGB", (30, 20), (6 * number, 200, 100)).save(root / f"{number}.png")
    return root


def test_a_class_that_is_tested_has_another_individual_to_learn_from(folder):
    train, test = images.Stamps(folder), images.Stamps(folder, "test")

    assert set(test.class_indices) < set(train.class_indices)
    assert test.class_indices == [8, 31, 97, 291, 292, 294, 330, 341, 345, 948, 949]
    assert len({entry["stamp"] for entry in LISTED}) == len(LISTED)
    assert all(images.labels()[entry["index"]] == entry["name"] for entry in LISTED)


def test_training_does_not_open_what_is_for_testing(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "stamps")
    for entry in LISTED:
        if entry["use"] == "test":
            (copy / entry["stamp"]).unlink()

    assert images.Stamps(copy).class_indices == images.Stamps(folder).class_indices
    with pytest.raises(NotFoundError, match=r"lacks 11 of the 11 photographic cut-outs, .*tuxpaint-stamps-default"):
        images.Stamps(copy, "test")


def test_a_cut_out_is_cropped_to_what_it_covers_and_no_larger_than_320_pixels(folder, tmp_path):
    stamp = images.Stamps(folder, "test").one_of(291, np.random.default_rng(0))
    assert stamp.size == (40, 40) and stamp.getpixel((20, 20)) == BLUE

    large = Image.new("RGBA", (900, 700))
    ImageDraw.Draw(large).rectangle((100, 100, 740, 420), fill=RED)
    large.save(tmp_path / "large.png")
    assert photographs._cut_out(tmp_path / "large.png").size == (320, 160)


def test_a_composed_cut_out_is_in_the_picture_and_follows_from_its_seed(folder):
    stamp = images.Stamps(folder, "test").one_of(8, np.random.default_rng(0))
    white = images.Photographs([Image.new("RGB", (64, 64), (255, 255, 255))])
    first, again, other = (
        images.compose_stamp(stamp, 96, np.random.default_rng(seed), background=white, variety=0) for seed in (1, 1, 2)
    )

    assert np.array_equal(first, again) and not np.array_equal(first, other)
    blue = (first[..., 2].astype(int) - first[..., 0]) > 60
    assert 0.04 < blue.mean() < 0.7


def test_a_set_of_cut_outs_has_every_class_once_a_round(folder):
    stamps = images.Stamps(folder, "test")
    pairs = list(images.stamps_dataset(22, stamps, size=32))

    assert sorted(label for _, label in pairs) == sorted(2 * stamps.class_indices)
    assert len({picture.tobytes() for picture, _ in pairs}) == 22
    assert list(images.stamps_dataset(0, stamps)) == []


def test_a_close_up_shows_the_thing_and_little_else():
    stamp = Image.new("RGBA", (200, 120))
    ImageDraw.Draw(stamp).ellipse((0, 0, 199, 119), fill=RED)
    for seed in range(20):
        part = objects.close_up(stamp, np.random.default_rng(seed))
        assert np.asarray(part.getchannel("A")).mean() > 0.5 * 255


def test_a_photograph_is_for_training_or_for_testing_and_its_copies_are_too(pictures_folder, tmp_path):
    def colours(folders, use):
        return sorted(p.getpixel((0, 0))[0] // 6 for p in images.Photographs.of_folders(folders, use).pictures)

    train, test = (colours([pictures_folder], use) for use in photographs.USES)
    assert sorted(train + test) == list(range(40))
    assert 3 <= len(test) <= 14
    shutil.copy(pictures_folder / f"{test[0]}.png", tmp_path / "under another name.png")
    assert colours([tmp_path], "test") == test[:1]
    with pytest.raises(NotFoundError, match=r"no photograph to train with in .*apt-get install .*mate-backgrounds"):
        images.Photographs.of_folders([tmp_path])


def test_pieces_of_photographs_have_their_colours():
    photograph = Image.new("RGB", (2000, 1200), (10, 200, 30))
    held = images.Photographs([photograph])
    piece = held.piece(48, np.random.default_rng(0))

    assert (piece.size, piece.getpixel((5, 5))) == ((48, 48), (10, 200, 30))
    assert held.pictures[0].size == (853, 512)


def test_what_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(InvalidInputError, match=r"torn\.jpg cannot be read as a picture"):
        for use in photographs.USES:
            images.Photographs.of_folders([tmp_path], use)
    with pytest.raises(InvalidInputError, match="use: expected one of train, test, got 'all'"):
        images.Stamps(folder, "all")
    with pytest.raises(InvalidInputError, match="there is no cut-out of class 3: expected one of"):
        images.Stamps(folder).one_of(3, np.random.default_rng(0))


def test_the_recipe_draws_cut_outs_and_emoji_before_photographs_and_paintings(folder):
    green = images.Photographs([Image.new("RGB", (64, 64), (0, 255, 0))])
    material = Material(images.Stamps(folder), green)
    batch = Batch(0, Kind(32, 200, (0.3, 0.5)), 0.1, 0.2)
    drawn = list(pictures(RECIPES["photographs"], batch, 1, material))
    again = list(pictures(RECIPES["photographs"], batch, 1, material))

    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(drawn, again, strict=True))
    only_stamps = set(material.stamps.class_indices) - set(images.emoji())
    assert 10 < sum(label in only_stamps for _, label in drawn) < 100
    on_green = sum(int(np.median(p[..., 1]) - np.median(p[..., 0]) > 120) for p, _ in drawn)
    assert 60 < on_green < 140


def test_the_recipe_says_what_it_needs(folder):
    with pytest.raises(InvalidInputError, match="the recipe 'photographs' needs photographs: give --stamps"):
        Material().check(RECIPES["photographs"])
    with pytest.raises(InvalidInputError, match="give --backgrounds"):
        Material(images.Stamps(folder)).check(RECIPES["photographs"])


def test_the_evaluation_leaves_out_what_is_not_installed_and_counts_what_is(folder, pictures_folder, tmp_path, capsys):
    """A network that answers hen whatever it sees is right on one test stamp in eleven."""
    arrays = {"predictions/kernel": np.zeros((2048, 1000), np.float32), "predictions/bias": np.eye(1000)[8]}
    chosen = next(one for one in evaluate.SETS if one.name == "test stamps, held-out photographs")
    here = evaluate.Folders(folder, (pictures_folder,))
    right = evaluate._right(
        here.pairs(chosen, 22), arrays, {"hens": lambda x: np.zeros((len(x), 1, 1, 2048), np.float32)}
    )

    assert right == {"hens": 2}
    with pytest.raises(NotFoundError, match="mate-backgrounds"):
        evaluate.Folders(folder, (Path(tmp_path),)).pairs(chosen, 22)
