"""The bytes of one accepted connection, with or without TLS, for asyncio.

asyncio's own TLS keeps 256 KiB for every connection, and drops the alert that tells a client why it was refused.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

_CHUNK = 1 << 16


class Wire:
    """Read, write, close; raises OSError (ssl.SSLError is one)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plain: socket.socket, context: ssl.SSLContext | None) -> None:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = loop
        self._plain = plain
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = None if context is None else context.wrap_bio(self._in, self._out, server_side=True)

    async def open(self) -> None:
        """The TLS handshake, if there has to be one."""
        if self._tls is not None:
            await self._step(self._tls.do_handshake)

    async def read(self) -> bytes:
        """Some bytes, at most 64 KiB; none at the end."""
        if self._tls is None:
            return await self._loop.sock_recv(self._plain, _CHUNK)
        try:
            data: bytes = await self._step(self._tls.read, _CHUNK)
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        return data

    async def write(self, data: bytes) -> None:
        """All of the bytes."""
        if self._tls is None:
            await self._loop.sock_sendall(self._plain, data)
        else:
            await self._step(self._tls.write, data)

    async def end(self) -> None:
        """Say that nothing more will come; what the peer sends can still be read."""
        if self._tls is not None:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # writes a close_notify, and would wait for the peer's
            await self._flush()
        self._plain.shutdown(socket.SHUT_WR)

    async def skip(self) -> int:
        """Read some bytes and forget them; their number."""
        return len(await self._loop.sock_recv(self._plain, _CHUNK))

    def close(self) -> None:
        """Free the socket."""
        self._plain.close()

    async def _step(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                result = operation(*arguments)
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._loop.sock_recv(self._plain, _CHUNK)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLError:
                await self._flush()  # the alert
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._out.read():
            await self._loop.sock_sendall(self._plain, data)
