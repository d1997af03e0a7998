"""Folders to work in, beside the result: on its disk, out of sight, and gone after a conversion that was killed."""

import contextlib
import glob
import secrets
from collections.abc import Iterator
from pathlib import Path

from amlrealtimeai.store.locks import LifeLock, if_free
from amlrealtimeai.store.temporary import remove


@contextlib.contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target` for the time of a conversion; what killed conversions to it left there is removed."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.part.lock"):
        with if_free(path) as free:
            if free:
                remove(path.with_suffix(""))
                path.unlink(missing_ok=True)
    folder = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    lock = LifeLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.mkdir()
        yield folder
    finally:
        remove(folder)
        lock.path.unlink(missing_ok=True)
        lock.release()
