"""An HTTP/1.1 port by asyncio and h11, with limits on everything that a caller can make last or grow.

Each connection is a task: header, answer, header, answer. A connection from which no request has been accepted may be
closed at any time to make room for a new one, the one that has been so for longest first; so nobody is shut out by
connections that do nothing.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import h11

from amlrealtimeai.serving.ports.address import bind_error
from amlrealtimeai.serving.ports.wire import Wire
from amlrealtimeai.serving.request.answers import log
from amlrealtimeai.serving.request.limits import Limits

_BACKLOG = 256
_ABSOLUTE = re.compile(r"^https?://[^/]*", re.IGNORECASE)  # RFC 9112, 3.2.2: a target may name the server, too
_LINGER_BYTES = 4 << 20  # of a refused body: read and forgotten, so that its sender gets to read the answer
_LINGER_SECONDS = 2.0
_STOP_SECONDS = 2.0


async def _no_pause() -> None:
    pass


@dataclass(frozen=True)
class Response:
    """What goes back."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Exchange:
    """One request and its answer. `headers`: names in lower case."""

    def __init__(self, connection: "_Connection", request: h11.Request) -> None:
        self._connection = connection
        self.method = request.method.decode("latin-1")
        target = request.target.decode("latin-1").partition("?")[0]
        self.path = _ABSOLUTE.sub("", target, count=1)
        self.headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]

    def header(self, name: str) -> str:
        """The first header of this name, or nothing."""
        return next((value for key, value in self.headers if key == name), "")

    def accept(self) -> None:
        """From here on its connection is not closed to make room."""
        self._connection.port.idle.pop(self._connection, None)

    def body(self) -> AsyncIterator[bytes]:
        """The parts of the body; raises ValueError for what is no HTTP, or ends early."""
        return self._connection.body()

    async def answer(self, response: Response, close: bool = False) -> None:
        """Send the answer, once; close: it is the last one of its connection."""
        self._connection.port.idle[self._connection] = None  # who does not read it may be closed
        await self._connection.send(response, close)


class HttpPort:
    """Listens on one address from its construction on (raises DeploymentError); answers from `start` to `stop`.

    handle: a coroutine that answers each exchange. tls: None for plain text; a new one holds for new connections.
    pause: is waited for before what is no HTTP is refused: who sends that may come again and again.
    """

    def __init__(
        self,
        handle: Callable[[Exchange], Awaitable[None]],
        limits: Limits,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        pause: Callable[[], Awaitable[None]] = _no_pause,
    ) -> None:
        self.handle = handle
        self.pause = pause
        self.limits = limits
        self.tls = tls
        self.idle: dict[_Connection, None] = {}  # the one that has been idle for longest first
        self.stopping = False
        self._connections: set[_Connection] = set()
        try:
            self._listener = _listen(host, port)
        except OSError:
            raise bind_error(host, port) from None
        self.port: int = self._listener.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"http-{self.port}")

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port; who is being answered gets the answer and `Connection: close`."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._accepting.cancel)
            self._thread.join()
        else:
            self._listener.close()
            self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._accepting = self.loop.create_task(self._accept())
        try:
            self.loop.run_until_complete(self._accepting)
        except asyncio.CancelledError:
            self.loop.run_until_complete(self._finish())
        finally:
            self.loop.close()

    async def _finish(self) -> None:
        self.stopping = True
        self._listener.close()
        for connection in list(self.idle):
            connection.task.cancel()
        tasks = [connection.task for connection in self._connections]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.loop.shutdown_default_executor()

    async def _accept(self) -> None:
        while True:
            try:
                plain, _ = await self.loop.sock_accept(self._listener)
            except OSError as error:  # no more file descriptors
                log.error("cannot accept connections on port %d: %s", self.port, error)
                if not await self._make_room():
                    await asyncio.sleep(0.1)
                continue
            if len(self._connections) >= self.limits.max_rest_connections and not await self._make_room():
                self._turn_away(plain)
                continue
            connection = _Connection(self, plain)
            self._connections.add(connection)
            self.idle[connection] = None
            connection.task = self.loop.create_task(connection.run())
            connection.task.add_done_callback(partial(self._forget, connection))  # even if it never got to run
            await asyncio.sleep(0)

    def _turn_away(self, plain: socket.socket) -> None:
        """All connections are those of accepted requests."""
        text = f"too many connections (max_rest_connections = {self.limits.max_rest_connections}); try again later\n"
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        with plain, contextlib.suppress(OSError):
            plain.setblocking(False)
            if self.tls is None:
                plain.send((head + text).encode())
                plain.shutdown(socket.SHUT_WR)

    async def _make_room(self) -> bool:
        if not self.idle:
            return False
        oldest = next(iter(self.idle))
        oldest.task.cancel()
        await asyncio.wait([oldest.task])
        return True

    def _forget(self, connection: "_Connection", task: object) -> None:
        self.idle.pop(connection, None)
        self._connections.discard(connection)
        connection.wire.close()


class _Connection:
    task: "asyncio.Task[None]"

    def __init__(self, port: HttpPort, plain: socket.socket) -> None:
        self.port = port
        limit = port.limits.max_header_bytes
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limit)
        self.wire = Wire(port.loop, plain, port.tls)
        self._head = False  # the answer is asked for without its body

    async def run(self) -> None:
        """From the handshake to the end."""
        try:
            async with asyncio.timeout(self.port.limits.max_header_seconds):
                await self.wire.open()
            await self._exchanges()
        except (OSError, TimeoutError, h11.ProtocolError, asyncio.CancelledError) as error:
            log.debug("a connection of port %d ended: %r", self.port.port, error)
        except Exception:
            log.exception("a connection of port %d failed; the others go on", self.port.port)

    async def _exchanges(self) -> None:
        limits = self.port.limits
        waiting = limits.max_header_seconds
        while True:
            try:
                request = await self._header(waiting)
            except TimeoutError:
                text = f"the header took too long (max_header_seconds = {limits.max_header_seconds:g})"
                await self._refuse(408, text)
                return
            except h11.RemoteProtocolError as error:
                await self._refuse(*_reason(error, limits.max_header_bytes))
                return
            if request is None:
                return
            if (refusal := _refusal(request, limits.max_header_bytes)) is not None:
                await self._refuse(*refusal)
                return
            await self.port.handle(Exchange(self, request))
            if not self._next():
                await self._linger()
                return
            waiting = limits.max_idle_seconds

    async def _header(self, first_byte: float) -> h11.Request | None:
        """The next request, or None when there is no more; raises TimeoutError when it does not come in time."""
        data = self._http.trailing_data[0]
        if not data:
            try:
                async with asyncio.timeout(first_byte):
                    data = await self.wire.read()
            except TimeoutError:
                if first_byte == self.port.limits.max_header_seconds:
                    raise
                return None
            if not data:
                return None
            self._http.receive_data(data)
        async with asyncio.timeout(self.port.limits.max_header_seconds):
            event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self._head = event.method == b"HEAD"
        return event

    async def _event(self) -> h11.Event | None:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self.wire.read()
            self._http.receive_data(data)
        return event if isinstance(event, h11.Event) else None

    async def body(self) -> AsyncIterator[bytes]:
        """See Exchange."""
        if self._http.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            while True:
                event = await self._event()
                if not isinstance(event, h11.Data):
                    return
                yield bytes(event.data)
        except (h11.RemoteProtocolError, OSError) as error:
            raise ValueError("the body ended early, or is no HTTP") from error

    async def send(self, response: Response, close: bool) -> None:
        """See Exchange."""
        headers = [
            ("Content-Type", response.kind),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        ]
        if close or self.port.stopping or self._unread():
            headers.append(("Connection", "close"))
        events = [h11.Response(status_code=response.status, headers=headers), h11.EndOfMessage()]
        if response.body and not self._head:
            events.insert(1, h11.Data(data=response.body))
        async with asyncio.timeout(self.port.limits.max_seconds):
            await self._write(*events)

    async def _write(self, *events: h11.Event) -> None:
        data = b"".join(part for event in events if (part := self._http.send(event)))
        await self.wire.write(data)

    def _unread(self) -> bool:
        """Whether some of the request's body is left; it would be taken for another request."""
        if self._http.their_state is not h11.SEND_BODY:
            return False
        try:
            return not isinstance(self._http.next_event(), h11.EndOfMessage)
        except h11.RemoteProtocolError:
            return True

    def _next(self) -> bool:
        """Whether another request may come: only when this one has been read to its end, and nobody said close."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self.port.stopping:
            self._http.start_next_cycle()
            return True
        return False

    async def _refuse(self, status: int, text: str) -> None:
        await self.port.pause()
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.send(Response(status, f'{{"error": "{text}"}}'.encode()), close=True)
            await self._linger()

    async def _linger(self) -> None:
        """Let the peer read the answer: a socket that is closed over unread bytes takes back what it has sent."""
        left = _LINGER_BYTES
        async with asyncio.timeout(_LINGER_SECONDS):
            await self.wire.end()
            while left > 0 and (size := await self.wire.skip()):
                left -= size


def _refusal(request: h11.Request, limit: int) -> tuple[int, str] | None:
    """Status and sentence for a header that is too large, or that two readers may read in two ways."""
    names = [name for name, _ in request.headers]
    size = len(request.target) + sum(len(name) + len(value) + len(b": \r\n") for name, value in request.headers)
    if size > limit:
        return 431, _header_too_large(limit)
    if request.http_version not in (b"1.0", b"1.1"):
        return 505, "expected an HTTP/1.1 request"
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
        return 400, "expected a Content-Length or, in HTTP/1.1, a Transfer-Encoding, got both"
    return None


def _reason(error: h11.RemoteProtocolError, limit: int) -> tuple[int, str]:
    if error.error_status_hint == 431:
        return 431, _header_too_large(limit)
    text = str(error).replace("\\", "").replace('"', "'")
    return error.error_status_hint, f"expected an HTTP/1.1 request: {text:.200}"


def _header_too_large(limit: int) -> str:
    return f"the header is too large (max_header_bytes = {limit})"


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
