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
_ANY = ("0.0.0.0", "::")


class Listener:
    """The listening sockets that this process opens inside `with listener:`, and what they accept.

    Sockets are told apart by inode: numbers of ports and descriptors are given to others once they are free.
    """

    def __init__(self) -> None:
        self._addresses: dict[int, tuple[str, int]] = {}

    def __enter__(self) -> "Listener":
        self._before = _listening()
        return self

    def __exit__(self, *_: object) -> None:
        self._addresses = {inode: where for inode, where in _listening().items() if inode not in self._before}

    def keep(self, port: int) -> None:
        """Only this port is meant; other threads may have opened theirs."""
        self._addresses = {inode: where for inode, where in self._addresses.items() if where[1] == port}

    def close(self) -> None:
        """Stop listening and half-close the connections; what was written to them still arrives.

        Nothing happens where the system does not list a process's files (Windows).
        """
        connections = []
        for descriptor in _descriptors():
            with _socket(descriptor) as found:
                if found is None:
                    continue
                if _inode(descriptor) in self._addresses:
                    _shutdown(found, socket.SHUT_RDWR)
                elif self._has_accepted(found):
                    connections.append((descriptor, _inode(descriptor)))
        for descriptor, inode in connections:
            with _socket(descriptor) as found:
                if found is not None and _inode(descriptor) == inode:
                    _shutdown(found, socket.SHUT_WR)
        self._addresses = {}

    def _has_accepted(self, found: socket.socket) -> bool:
        where = _address(found)
        if where is None or _listens(found):
            return False
        return any(where[1] == port and (where[0] == host or host in _ANY) for host, port in self._addresses.values())


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


def _listening() -> dict[int, tuple[str, int]]:
    """Address of every listening socket of this process, by inode."""
    found = {}
    for descriptor in _descriptors():
        with _socket(descriptor) as one:
            if one is not None and _listens(one) and (where := _address(one)) is not None:
                found[_inode(descriptor)] = where
    return found


def _inode(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0


def _address(found: socket.socket) -> tuple[str, int] | None:
    try:
        address = found.getsockname()
    except OSError:
        return None
    return address[:2] if found.family in (socket.AF_INET, socket.AF_INET6) else None


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
