"""The pieces below an image: layer tars, ELF files, whole-or-absent files, the cache."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from amlrealtimeai.containers import app, elf
from amlrealtimeai.containers.bytecode import compiled
from amlrealtimeai.containers.cache import LayerCache
from amlrealtimeai.containers.files import replacing
from amlrealtimeai.containers.layer import Entry, Packed, fingerprint, pack
from amlrealtimeai.errors import ContainerError

ENTRIES = [
    Entry("b/two.txt", b"two"),
    Entry("a", link="b/two.txt"),
    Entry("b/one.sh", b"one", 0o755),
    Entry("tmp", mode=0o1777),
]


def packed_bytes(entries: list[Entry], level: int = 4) -> tuple[Packed, bytes]:
    target = io.BytesIO()
    return pack(entries, target, level), target.getvalue()


def test_layer_is_sorted_complete_and_timeless() -> None:
    packed, data = packed_bytes(ENTRIES)
    assert data[:10] == bytes.fromhex("1f8b0800000000000003")  # gzip, deflate, no flags, time 0, Unix
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        rows = [(m.name, m.type, oct(m.mode), m.uid, m.gid, m.mtime, m.size) for m in tar]
    assert rows == [
        ("a", tarfile.SYMTYPE, "0o777", 0, 0, 0, 0),
        ("b", tarfile.DIRTYPE, "0o755", 0, 0, 0, 0),
        ("b/one.sh", tarfile.REGTYPE, "0o755", 0, 0, 0, 3),
        ("b/two.txt", tarfile.REGTYPE, "0o644", 0, 0, 0, 3),
        ("tmp", tarfile.DIRTYPE, "0o1777", 0, 0, 0, 0),
    ]
    assert (packed.size, packed.content_size) == (len(data), 6)


def test_layer_does_not_depend_on_the_order_of_its_entries() -> None:
    assert packed_bytes(ENTRIES) == packed_bytes(ENTRIES[::-1])
    assert fingerprint(ENTRIES, "x") == fingerprint(ENTRIES[::-1], "x")


@pytest.mark.parametrize(
    "changed",
    [
        Entry("b/two.txt", b"twO"),
        Entry("b/two.txt", b"two", 0o600),
        Entry("b/2.txt", b"two"),
        Entry("b/two.txt", link="c"),
        Entry("b/two.txt"),
    ],
)
def test_fingerprint_sees_every_change(changed: Entry) -> None:
    assert fingerprint([changed, *ENTRIES[1:]]) != fingerprint(ENTRIES)


def test_level_zero_is_still_gzip() -> None:
    _, data = packed_bytes([Entry("zeros", bytes(5000))], level=0)
    assert len(data) > 5000
    assert len(gzip.decompress(data)) == 10240  # one tar record


def test_closure_of_the_interpreter_holds_the_c_library_and_the_loader() -> None:
    found = elf.closure([Path(sys.executable)])
    assert "libc.so.6" in found
    assert [name for name in found if name.startswith("/lib") and "ld-linux" in name]
    listed = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=True).stdout
    names = {Path(line.split()[0]).name for line in listed.splitlines() if "vdso" not in line}
    assert {Path(name).name for name in found} == names


def test_trimmed_library_still_loads_and_a_missing_one_is_named(tmp_path: Path) -> None:
    import _struct  # an extension module that every Python has

    library = Path(_struct.__file__)
    (tmp_path / library.name).write_bytes(elf.trim(library.read_bytes()))
    assert (tmp_path / library.name).stat().st_size < library.stat().st_size
    code = "import _struct; print(_struct.__file__, _struct.calcsize('<ih'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(tmp_path / library.name), "6"]
    broken = tmp_path / "broken.so"
    broken.write_bytes(library.read_bytes().replace(b"libc.so.6\0", b"libq.so.6\0"))
    with pytest.raises(ContainerError, match=r"broken\.so needs the library libq\.so\.6"):
        elf.closure([broken])


def test_anonymise_keeps_positions_and_the_last_folder() -> None:
    data = b"\0/home/ada/.pyenv/versions/3.11.7\0/home/ada/.pyenv/versions/3.11.7/lib\0"
    changed = elf.anonymise(data, "/home/ada/.pyenv/versions/3.11.7")
    assert len(changed) == len(data)
    assert changed.split(b"\0") == [b"", b"/" * 26 + b"3.11.7", b"/" * 26 + b"3.11.7/lib", b""]


def test_byte_code_is_deterministic_and_carries_the_path_in_the_image(tmp_path: Path) -> None:
    source = tmp_path / "secret-place" / "good.py"
    source.parent.mkdir()
    source.write_text("NAMES = {'a', 'b', 'c', 'd'}\ndef f(x): return x in {'a', 'b', 'c', 'd'}\n")
    entries = [Entry("app/good.py", source), Entry("app/template.py", b"def {{name}}(:\n"), Entry("app/data.bin", b"1")]
    results = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        made = compiled(entries, tmp_path / run)
        results.append([(entry.name, entry.open().read()) for entry in made])
    assert results[0] == results[1]
    ((name, code),) = results[0]
    assert name == f"app/__pycache__/good.{sys.implementation.cache_tag}.pyc"
    assert code[4] == 1  # PEP 552: hash-based, not checked against the source
    assert b"/app/good.py" in code
    assert b"secret-place" not in code


def test_replaced_file_is_whole_or_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"second, unfinished")
        raise RuntimeError
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ContainerError, match="pipe is something else, and stays"), replacing(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo() and os.listdir(tmp_path) == ["pipe"]  # noqa: PTH208


def test_abandoned_file_is_removed_and_a_living_writers_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / ".file.0123456789ab.part").write_bytes(b"left by a killed process")
    (tmp_path / "other.part").write_bytes(b"not ours")
    with replacing(path) as slow:
        slow.write(b"slow")
        with replacing(path) as quick:
            quick.write(b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "other.part"]


def test_cache_returns_what_was_stored_and_refuses_what_was_damaged(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path)
    key = "ab" * 32
    assert cache.find("base", key) is None
    packed, file = cache.store("base", key, lambda target: pack(ENTRIES, target, 4))
    stored = file.read()
    file.close()
    found = cache.find("base", key)
    assert found is not None
    assert (found[0], found[1].read()) == (packed, stored)
    found[1].close()
    (blob,) = tmp_path.glob("*.tar.gz")
    for damage in (stored[:-1], stored[:50] + b"\0" + stored[51:], b""):
        blob.write_bytes(damage)
        assert cache.find("base", key) is None
    blob.write_bytes(stored)
    (note,) = tmp_path.glob("*.json")
    note.write_text(note.read_text()[:-5])
    assert cache.find("base", key) is None


def test_cache_keeps_the_four_latest_of_a_kind(tmp_path: Path) -> None:
    cache = LayerCache(tmp_path)
    for number in range(6):
        cache.store("app", f"{number}" * 64, lambda target: pack(ENTRIES, target, 1))[1].close()
        (note,) = tmp_path.glob(f"app-{number}*.json")
        os.utime(note, (1000 + number, 1000 + number))
    assert sorted(path.name[4] for path in tmp_path.glob("app-*.tar.gz")) == ["2", "3", "4", "5"]
    assert len(list(tmp_path.iterdir())) == 8


def test_our_part_of_an_image_is_enough_to_serve(tmp_path: Path) -> None:
    for entry in app.sources():
        target = tmp_path / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(entry.open().read())
    environment = {"PYTHONPATH": str(tmp_path / app.PLACE), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "amlrealtimeai.serving", "absent.accelonnx"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "absent.accelonnx" in done.stderr and "Traceback" not in done.stderr, done.stderr
