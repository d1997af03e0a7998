"""Logs of the servers of a cluster: a file for each, and in them what is about one service."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from amlrealtimeai.serving.process.logs import TEXT_FORMAT, TEXT_TIME
from amlrealtimeai.serving.process.watch import Watcher
from amlrealtimeai.serving.server import Server
from amlrealtimeai.store import Store
from amlrealtimeai.store.locks import is_held

_KEPT = 5
_REQUEST = re.compile(r"request=(\S+)")


def folder_of(store: Store, cluster: str) -> Path:
    """Logs of the servers of a cluster, one file each."""
    return store.logs / f"cluster-{cluster}"


def new(store: Store, cluster: str, id: str) -> Path:
    """The path of a new server's log; of those of earlier servers the last few stay."""
    folder = folder_of(store, cluster)
    folder.mkdir(exist_ok=True)
    ended = [path for path in folder.glob("*.log") if is_held(store.run / f"{path.stem}.lock") is False]
    for path in _by_age(ended)[:-_KEPT]:
        path.unlink(missing_ok=True)
        path.with_suffix(".log.1").unlink(missing_ok=True)
    return folder / f"{id}.log"


@contextmanager
def written_to(path: Path, server: Server, watcher: Watcher) -> Iterator[logging.Logger]:
    """Write what concerns this server alone into its own log, as a child would.

    Requests come from the server itself. Of what all servers of this process share, the log takes what its watcher
    says, and what failed unexpectedly: `read` tells whose request that was.
    """
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(TEXT_FORMAT, TEXT_TIME))
    handler.addFilter(lambda record: record.thread == watcher.ident or record.exc_info is not None)
    shared = logging.getLogger("amlrealtimeai.serving")
    if shared.level == logging.NOTSET:
        shared.setLevel(logging.INFO)
    shared.addHandler(handler)
    own = logging.Logger(f"amlrealtimeai.targets.{path.stem}")
    requests = logging.FileHandler(path)
    requests.setFormatter(handler.formatter)
    own.addHandler(requests)
    server.add_observer(lambda record: own.info("%s", record))
    try:
        yield own
    finally:
        shared.removeHandler(handler)
        handler.close()
        requests.close()


def end_of(log: Path) -> str:
    """The last ten lines of a log."""
    return "\n".join(_tail(log)[-10:])


def read(store: Store, cluster: str, service: str) -> list[str]:
    """The lines about a service, or about no service in particular, of all servers of its cluster."""
    paths = _by_age(folder_of(store, cluster).glob("*.log"))
    return [line for path in paths for line in _about(service, [*_tail(path.with_suffix(".log.1")), *_tail(path)])]


def _by_age(logs: Iterable[Path]) -> list[Path]:
    """The oldest first; others may remove them meanwhile."""
    found = []
    for path in logs:
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found)]


def _about(service: str, lines: list[str]) -> list[str]:
    """Without the lines of other services, and without failures of their requests."""
    own = {id.group(1) for line in lines if f"model={service!r}" in line and (id := _REQUEST.search(line))}
    kept, keep = [], True
    for line in lines:
        if line.startswith("time="):  # else it goes on with what is above it, a traceback for example
            request = _REQUEST.search(line)
            about = f"model={service!r}" in line or f"serve {service!r}" in line or f"serving {service!r}" in line
            general = "model=" not in line and "serve '" not in line and "serving '" not in line
            keep = about or (general and (request is None or request.group(1) in own))
        if keep:
            kept.append(line)
    return kept


def _tail(path: Path) -> list[str]:
    """The lines of the last megabyte of a log."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - (1 << 20)))
            return stream.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
