"""Fetching one published file: time-outs on connecting and reading, a hash, a progress bar, and whole or not at all."""

import hashlib
import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from tqdm.auto import tqdm

from amlrealtimeai.errors import WeightsError

_TIMEOUT_SECONDS = 10.0  # to connect, and for each read
_CHUNK = 1 << 20


def fetch(address: str, target: Path, md5: str) -> None:
    """Download `address` to `target`, making its folder.

    Raises OSError when the server cannot be reached, does not answer within ten seconds, or ends early, and
    WeightsError when what came has another MD5. Then there is no file at `target`, and none beside it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            found = _copy(address, file, target.name)
            file.flush()
            os.fsync(file.fileno())
        if found != md5:
            raise WeightsError(
                f"{address} is not what was expected: MD5 {md5}, got {found}. Try again; if it stays so, a proxy may "
                "have answered in its place"
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _copy(address: str, file: BinaryIO, label: str) -> str:
    """Write what `address` serves to `file`; returns its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:
            size = int(answer.headers.get("Content-Length", 0)) or None
            with tqdm(total=size, desc=label, unit="B", unit_scale=True) as bar:
                while chunk := answer.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
                if size is not None and bar.n < size:
                    raise ConnectionError(f"the server ended after {bar.n} of {size} bytes")
    except HTTPException as error:
        raise ConnectionError(f"the server's answer makes no sense: {error!r}") from None
    return digest.hexdigest()
