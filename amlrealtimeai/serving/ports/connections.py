"""Closing a port so that nobody is left with an answer that nobody gave.

gRPC's own shutdown lets requests that reach it in that moment end as CANCELLED, as if their clients had given up. So
the listening socket is closed first and every connection is told that nothing more will come: clients then see
UNAVAILABLE for what was not answered, which says truly that another try may help.
"""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = ("/proc/self/fd", "/dev/fd")


def close_port(port: int) -> None:
    """Stop listening on the port and half-close its connections; what was written to them still arrives.

    Nothing happens where the system does not list a process's files (Windows).
    """
    connections = []
    for descriptor in _descriptors():
        with _socket(descriptor) as found:
            if found is None or _port(found) != port:
                continue
            if _listens(found):
                _shutdown(found, socket.SHUT_RDWR)
            else:
                connections.append(descriptor)
    for descriptor in connections:
        with _socket(descriptor) as found:
            if found is not None and _port(found) == port:
                _shutdown(found, socket.SHUT_WR)


class _socket:
    """A socket object for somebody else's descriptor, which stays open; None if it is no socket."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._found: socket.socket | None = None

    def __enter__(self) -> socket.socket | None:
        try:
            if stat.S_ISSOCK(os.fstat(self._descriptor).st_mode):
                self._found = socket.socket(fileno=self._descriptor)
        except OSError:
            self._found = None
        return self._found

    def __exit__(self, *_: object) -> None:
        if self._found is not None:
            self._found.detach()


def _descriptors() -> Iterator[int]:
    for folder in _FOLDERS:
        if Path(folder).is_dir():
            yield from sorted(int(path.name) for path in Path(folder).iterdir() if path.name.isdigit())
            return


def _port(found: socket.socket) -> int | None:
    try:
        address = found.getsockname()
    except OSError:
        return None
    return address[1] if found.family in (socket.AF_INET, socket.AF_INET6) else None


def _listens(found: socket.socket) -> bool:
    try:
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _shutdown(found: socket.socket, how: int) -> None:
    try:
        found.shutdown(how)
    except OSError:  # it was closed in the meantime
        return
