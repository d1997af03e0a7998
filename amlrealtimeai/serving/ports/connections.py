"""The sockets below gRPC, which it does not show: closing a port, and making room on one that is full.

A port is closed so that nobody is left with an answer that nobody gave.

gRPC's own shutdown lets requests that reach it in that moment end as CANCELLED, as if their clients had given up. So
the listening socket is closed first and every connection is told that nothing more will come: clients then see
UNAVAILABLE for what was not answered, which says truly that another try may help.
"""

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = ("/proc/self/fd", "/dev/fd")
_CROWD_SECONDS = 1.0
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

    def accepted(self) -> Iterator[tuple[int, int, str]]:
        """Descriptor, inode and peer, in gRPC's spelling, of every open connection that it has accepted."""
        for descriptor in _descriptors():
            with _socket(descriptor) as found:
                if found is not None and self._has_accepted(found) and (peer := _peer(found)):
                    yield descriptor, _inode(descriptor), peer

    def _has_accepted(self, found: socket.socket) -> bool:
        where = _address(found)
        if where is None or _listens(found):
            return False
        return any(where[1] == port and (where[0] == host or host in _ANY) for host, port in self._addresses.values())


class Crowd:
    """Ends connections from which no request was admitted when they fill the port: the ones that have been open for
    longest first, and only after a while, so that who has a key gets the time to show it.
    """

    def __init__(self, listener: Listener, limit: int) -> None:
        self._listener = listener
        self._most = limit * 3 // 4  # the rest is for those who come while we are not looking
        self._known: set[str] = set()
        self._seen: dict[int, float] = {}  # strangers by inode, since when
        self._next = 0.0

    def know(self, peer: str) -> None:
        """A request of this peer was admitted."""
        self._known.add(peer)

    def look(self) -> None:
        """To be called often."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _CROWD_SECONDS
        if len(self._known) <= 4 * self._most and sum(1 for _ in _descriptors()) <= self._most:
            return
        open_now = list(self._listener.accepted())
        self._known.intersection_update([peer for _, _, peer in open_now])
        strangers = {inode: descriptor for descriptor, inode, peer in open_now if peer not in self._known}
        self._seen = {inode: self._seen.get(inode, now) for inode in strangers}
        patient = sorted((since, inode) for inode, since in self._seen.items() if now - since >= _CROWD_SECONDS)
        for _, inode in patient[: max(0, len(open_now) - self._most)]:
            with _socket(strangers[inode]) as found:
                if found is not None and _inode(strangers[inode]) == inode:
                    _shutdown(found, socket.SHUT_RDWR)


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


def _peer(found: socket.socket) -> str:
    try:
        host, port = found.getpeername()[:2]
    except OSError:
        return ""
    host = host.removeprefix("::ffff:")
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


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
