import io
import json
import shutil
import time
import zipfile

import numpy as np
import pytest

from amlrealtimeai import resources
from amlrealtimeai.accel.models import codec
from amlrealtimeai.errors import WeightsError

ARRAYS = {
    "conv/kernel": np.random.default_rng(0).standard_normal((3, 3, 20, 8)).astype(np.float32),
    "bn/gamma": np.array([1.0, 0.3, -2.0], np.float32),
}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "net.npz"
    codec.save(path, "net", ARRAYS)
    return path


def test_vectors_come_back_exactly_and_kernels_within_half_a_step(archive):
    loaded = codec.load(archive, "net")

    assert sorted(loaded) == ["bn/gamma", "conv/kernel"]
    assert np.array_equal(loaded["bn/gamma"], ARRAYS["bn/gamma"])
    kernel = loaded["conv/kernel"]
    assert (kernel.shape, kernel.dtype) == ((3, 3, 20, 8), np.float32)
    for block in (slice(0, 16), slice(16, 20)):
        largest = np.abs(ARRAYS["conv/kernel"][:, :, block]).max(axis=2, keepdims=True)
        step = np.exp2(np.floor(np.log2(largest)) - 6)
        assert (np.abs(kernel[:, :, block] - ARRAYS["conv/kernel"][:, :, block]) <= step).all()


def test_packing_what_was_loaded_changes_nothing(archive, tmp_path):
    first = codec.load(archive, "net")
    codec.save(tmp_path / "again.npz", "net", first)
    second = codec.load(tmp_path / "again.npz", "net")

    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_same_arrays_make_the_same_bytes(archive, tmp_path):
    time.sleep(2.1)  # a zip entry's clock ticks every two seconds
    codec.save(tmp_path / "later.npz", "net", dict(reversed(ARRAYS.items())))

    assert (tmp_path / "later.npz").read_bytes() == archive.read_bytes()


def test_some_arrays_only(archive):
    assert list(codec.load(archive, "net", ["bn/gamma", "absent"])) == ["bn/gamma"]


def test_numpy_opens_the_file_without_pickle(archive):
    with np.load(archive, allow_pickle=False) as plain:
        assert plain["conv/kernel:mantissas"].dtype == np.int8
        assert plain["conv/kernel:exponents"].shape == (3, 3, 8, 2)
        assert json.loads(plain["header"].tobytes())["network"] == "net"


def test_a_truncated_file(archive):
    archive.write_bytes(archive.read_bytes()[:-100])

    with pytest.raises(WeightsError, match=r"net\.npz is truncated or altered: expected SHA-256 .*git checkout"):
        codec.load(archive, "net")


def test_one_altered_byte(archive):
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)

    with pytest.raises(WeightsError, match="truncated or altered"):
        codec.load(archive, "net")


def test_another_network(archive):
    with pytest.raises(WeightsError, match="holds weights of net, expected resnet152"):
        codec.load(archive, "resnet152")


def test_a_missing_digest(archive):
    archive.with_name("net.npz.sha256").unlink()

    with pytest.raises(WeightsError, match="the digest beside it"):
        codec.load(archive, "net")


@pytest.mark.parametrize("content", [b"", b"not a zip at all", None], ids=["empty", "text", "a zip without header"])
def test_a_foreign_file_with_its_own_digest(tmp_path, content):
    import hashlib

    path = tmp_path / "foreign.npz"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"")
    else:
        path.write_bytes(content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("foreign.npz.sha256").write_text(f"{digest}  foreign.npz\n")

    with pytest.raises(WeightsError, match=r"foreign\.npz is not a weights archive"):
        codec.load(path, "net")


def _repacked(path, change):
    """The archive with `change`d members, and the digest that fits."""
    import hashlib

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.with_name(f"{path.name}.sha256").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")


def _npy(value):
    data = io.BytesIO()
    np.save(data, value)
    return data.getvalue()


def _header_of(text):
    return _npy(np.frombuffer(text.encode(), np.uint8))


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("header.npy", _header_of("[]"), "not a weights archive"),
        ("header.npy", _header_of("{"), "not a weights archive"),
        ("header.npy", _npy(np.zeros(())), "not a weights archive"),
        ("conv/kernel:mantissas.npy", b"\x93NUMPY\x01\x00\x06\x00{'a':(", "not a weights archive"),
        ("conv/kernel:mantissas.npy", b"", "not a weights archive"),
        ("conv/kernel:mantissas.npy", _npy(np.int8(1)), "not a weights archive"),
        ("conv/kernel:exponents.npy", _npy(np.array(["x"])), "not a weights archive"),
        (
            "bn/gamma.npy",
            _npy(np.array([np.nan], np.float32)),
            "expected finite float32 numbers in 'bn/gamma', got NaN",
        ),
        ("bn/gamma.npy", _npy(np.array(["x"])), "expected finite float32 numbers in 'bn/gamma', got <U1"),
        ("bn/gamma.npy", _npy(np.zeros(2)), "expected finite float32 numbers in 'bn/gamma', got float64"),
    ],
)
def test_an_archive_that_somebody_made_by_hand(archive, member, content, said):
    _repacked(archive, lambda members: members.update({member: content}))

    with pytest.raises(WeightsError, match=said):
        codec.load(archive, "net")


def test_an_archive_that_unpacks_to_more_than_a_network(archive, monkeypatch):
    monkeypatch.setattr(codec, "_LARGEST", 2**20)
    _repacked(archive, lambda members: members.update({"zeros.npy": _npy(np.zeros(2**21, np.uint8))}))
    assert archive.stat().st_size < 2**16

    with pytest.raises(WeightsError, match="unpacks to 2099515 bytes, expected at most 1048576"):
        codec.load(archive, "net")


def test_a_newer_format_version(archive, monkeypatch):
    monkeypatch.setattr(codec, "FORMAT_VERSION", 2)

    with pytest.raises(
        WeightsError, match=r"expected amlrealtimeai\.weights version 2, got amlrealtimeai\.weights version 1"
    ):
        codec.load(archive, "net")


def test_the_command_packs_a_plain_npz(tmp_path, capsys):
    np.savez(tmp_path / "plain.npz", **{"probs/bias": np.zeros(3, np.float32), "c/kernel": np.ones((1, 1, 4, 2))})

    codec.main([str(tmp_path / "plain.npz"), str(tmp_path / "packed.npz"), "--network", "net"])

    assert "packed.npz" in capsys.readouterr().out
    loaded = codec.load(tmp_path / "packed.npz", "net")
    assert sorted(loaded) == ["c/kernel", "predictions/bias"]
    assert (loaded["c/kernel"] == 1).all()


def test_the_command_exchanges_two_classes(tmp_path, capsys):
    kernel = np.array([[1, 2, 4], [8, 16, 32]], np.float32)
    np.savez(tmp_path / "plain.npz", **{"predictions/bias": np.arange(3.0), "predictions/kernel": kernel})

    codec.main([str(tmp_path / "plain.npz"), str(tmp_path / "packed.npz"), "--network", "net", "--swap", "0", "2"])

    loaded = codec.load(tmp_path / "packed.npz", "net")
    assert loaded["predictions/bias"].tolist() == [2, 1, 0]
    assert loaded["predictions/kernel"].tolist() == [[4, 2, 1], [32, 16, 8]]


def test_the_shipped_archive_is_small_and_loads_fast(tmp_path):
    shipped = resources.path("weights/resnet50.npz")
    assert shipped.stat().st_size < 27_000_000
    shutil.copy(shipped, tmp_path)
    shutil.copy(shipped.with_name("resnet50.npz.sha256"), tmp_path)

    start = time.process_time()
    arrays = codec.load(tmp_path / "resnet50.npz", "resnet50")
    seconds = time.process_time() - start

    assert len(arrays) == 267
    assert seconds < 1  # of processor time, because tests run beside others; measured 0.35
