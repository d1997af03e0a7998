import zlib

import numpy as np
import pytest
from PIL import Image

from amlrealtimeai.errors import InvalidInputError, NotFoundError
from amlrealtimeai.lab import images


def test_arrays_are_the_data_set_in_one_piece():
    pictures, labels = images.arrays(5, size=32, seed=4, designs=("twemoji",))

    assert (pictures.shape, pictures.dtype, labels.dtype) == ((5, 32, 32, 3), np.uint8, np.int64)
    pairs = list(images.dataset(5, size=32, seed=4, designs=("twemoji",)))
    assert all(np.array_equal(picture, pair[0]) for picture, pair in zip(pictures, pairs, strict=True))
    assert labels.tolist() == [label for _, label in pairs]
    assert images.arrays(0, size=32)[0].shape == (0, 32, 32, 3)


def test_a_folder_has_one_subfolder_a_class(tmp_path):
    images.write_folder(tmp_path / "set", 177, size=16)

    names = {path.name for path in (tmp_path / "set").iterdir()}
    assert len(names) == 177
    assert {"281_tabby", "386_African_elephant", "992_agaric"} <= names
    assert len(list((tmp_path / "set").glob("*/*.jpg"))) == 177


def test_cats_and_dogs_lie_as_kaggle_s_do(tmp_path):
    root = images.write_pets(tmp_path, 3, seed=1, design="twemoji")

    assert root == tmp_path / "PetImages"
    found = sorted(path.relative_to(tmp_path).as_posix() for path in root.rglob("*.jpg"))
    assert found == [f"PetImages/{kind}/{n}.jpg" for kind in ("Cat", "Dog") for n in range(3)]
    sizes = {Image.open(path).size for path in root.rglob("*.jpg")}
    assert len(sizes) > 1
    assert all(200 <= width == height <= 500 for width, height in sizes)


def test_reading_takes_cats_and_dogs_in_turn_and_leaves_damaged_files_out(tmp_path):
    root = images.write_pets(tmp_path, 11)
    (root / "Cat" / "1.jpg").write_bytes(b"")
    (root / "Dog" / "0.jpg").write_bytes((root / "Dog" / "0.jpg").read_bytes()[:500])
    (root / "Dog" / "Thumbs.db").write_bytes(b"x")

    found = images.pets(root)
    assert [pet.label for pet in found] == [0, 1] * 10
    assert [pet.path.name for pet in found[:4]] == ["0.jpg", "1.jpg", "2.jpg", "2.jpg"]
    assert found[-1].path.name == "10.jpg"
    assert [pet.path.name for pet in images.pets(root, limit=2)] == ["0.jpg", "1.jpg", "2.jpg", "2.jpg"]


def test_a_picture_that_says_it_is_larger_than_any_memory_is_left_out(tmp_path):
    root = images.write_pets(tmp_path, 1)
    claims = root / "Cat" / "huge.jpg"
    Image.new("L", (1, 1)).save(claims, "PNG")
    data = bytearray(claims.read_bytes())
    data[16:24] = (100_000).to_bytes(4) * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    claims.write_bytes(data)

    assert [pet.path.name for pet in images.pets(root)] == ["0.jpg", "0.jpg"]


def test_a_folder_that_is_not_one_of_pets(tmp_path):
    with pytest.raises(NotFoundError, match=r"no folder .*Cat: expected PetImages .*write_pets"):
        images.pets(tmp_path)
    (tmp_path / "Cat").mkdir()
    (tmp_path / "Dog").mkdir()
    with pytest.raises(InvalidInputError, match=r"Cat holds no \.jpg"):
        images.pets(tmp_path)
