import io
import os
import tarfile
from pathlib import Path

import pytest

from amlrealtimeai.errors import InvalidInputError, StoreError
from amlrealtimeai.store import Store, folders
from tests.store.helpers import register


def make(folder: Path, order: list[str]) -> Path:
    for name in order:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    (folder / "empty").mkdir()
    return folder


NAMES = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001", "ü/" + "long" * 40]


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def test_equal_folders_are_equal_bytes(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one", NAMES), make(tmp_path / "two", NAMES[::-1])
    os.utime(two / "saved_model.pb", (1, 1))
    (two / "saved_model.pb").chmod(0o755)
    assert folders.digest(one) == folders.digest(two)
    (two / "empty").rmdir()
    assert folders.digest(one) != folders.digest(two)


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    store, source = Store(tmp_path / "ws"), make(tmp_path / "model", NAMES)
    register(store, source, is_folder=1)
    digest = store.select("models")[0]["blob"]
    target = tmp_path / "out"
    store.export(digest, target, is_folder=True)
    assert tree(target) == tree(source)
    (target / "stale").write_text("")
    store.export(digest, target, is_folder=True)
    assert tree(target) == tree(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out", "ws"]

    kept = store.kept(digest, "model", is_folder=True)
    (kept / "saved_model.pb").write_text("altered")
    assert tree(store.kept(digest, "model", is_folder=True)) == tree(source)


def test_links_are_refused_with_the_fix(tmp_path: Path) -> None:
    source = make(tmp_path / "model", NAMES)
    (source / "link").symlink_to("saved_model.pb")
    with pytest.raises(InvalidInputError, match=r"link is a link or a device.*cp -rL"):
        register(Store(tmp_path / "ws"), source)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../evil", tarfile.REGTYPE),
        ("a/../../evil", tarfile.REGTYPE),
        ("/tmp/evil-absolute", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("link", tarfile.LNKTYPE),
        ("pipe", tarfile.FIFOTYPE),
        ("device", tarfile.CHRTYPE),
    ],
)
def test_a_hostile_archive_creates_nothing(tmp_path: Path, name: str, kind: bytes) -> None:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as archive:
        good = tarfile.TarInfo("good")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
        bad = tarfile.TarInfo(name)
        bad.type, bad.linkname = kind, "/etc/passwd"
        archive.addfile(bad)
    (tmp_path / "in").mkdir()
    with pytest.raises(StoreError, match="not a file or folder inside it"):
        folders.unpack(path, tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["hostile.tar", "in"]
    assert not Path("/tmp/evil-absolute").exists()
