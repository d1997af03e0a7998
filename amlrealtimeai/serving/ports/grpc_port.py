"""The gRPC port: every method with as few changes of thread as gRPC allows, and the key before the message.

grpc.server hands every request from its polling thread to a pool's thread, back for the message, and to the pool again,
and it has received the message before any code of ours sees who sent it. Here a few threads poll one completion queue,
and the one that gets a request's message computes the answer, too.

The calls into grpc._cython are the ones that grpc/_server.py makes (grpcio is pinned). Measured with ResNet-50 on two
shared cores, both ways in turns: 0.3 ms less a request (2.2 -> 1.9 ms beyond decoding and computing).
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
from grpc._cython import cygrpc

from amlrealtimeai.serving.ports.address import address_of, bind_error
from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.protocol.headers import REQUEST_ID_HEADER, TIMINGS_HEADER
from amlrealtimeai.serving.request.answers import Answer, RequestError, log
from amlrealtimeai.serving.request.methods import respond, service_of
from amlrealtimeai.serving.request.request import Request
from amlrealtimeai.serving.request.servicer import Servicer

_SERVICES = {
    protos.PREDICTION_SERVICE: ("Predict", "GetModelMetadata", "Classify", "Regress", "MultiInference"),
    protos.MODEL_SERVICE: ("GetModelStatus", "HandleReloadConfigRequest"),
}
_SPARE_THREADS = 2  # beside one per worker: they refuse, queue and notice who has gone
_POLL_SECONDS = 0.1  # at most so late a request is told that it waited too long
_LAST_SECONDS = 10.0
_LINE = 1024  # strangers that wait for their refusal
_NO_FLAGS = 0
_PING_SECONDS = 10  # so often clients may ping, and so long an answer to ours may take


class GrpcPort:
    """Listens on one address. Make it, `bind`, `start`, `stop`; a port that was bound has to be started.

    more: other methods by full name, each a function that begins a call: see calls.py.
    """

    def __init__(self, servicer: Servicer, more: dict[str, Callable[["Call"], None]], shared: bool = False) -> None:
        self.servicer = servicer
        self._methods = dict(more)
        for service, names in _SERVICES.items():
            self._methods |= {f"/{service}/{name}": partial(_begin_unary, name) for name in names}
        self._core = cygrpc.Server(_options(servicer, shared), False)
        self._queue = cygrpc.CompletionQueue()
        self._core.register_completion_queue(self._queue)
        self.receiving: dict[Call, float] = {}  # calls whose message has not arrived, and when they are given up
        self._line: deque[tuple[float, Callable[[], None]]] = deque()  # strangers' answers, and when they are sent
        self._next_look = time.monotonic()
        self._open = 0
        self._stopping = False
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.on_look: Callable[[], None] = lambda: None
        self.on_admitted: Callable[[str], None] = lambda peer: None

    def bind(self, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
        """Take the address, and return its port; raises DeploymentError."""
        secret = () if credentials is None else (credentials._credentials,)
        bound: int = self._core.add_http2_port(address_of(host, port).encode(), *secret)
        if not bound:
            raise bind_error(host, port)
        return bound

    def start(self) -> None:
        """Begin to answer."""
        self._core.start()
        self.allow(self.servicer.admission.worker_count)
        for _ in self._threads:
            self._ask()

    def allow(self, workers: int) -> None:
        """Have a thread for each of so many workers: one that computes does not poll."""
        with self._lock:
            for i in range(len(self._threads), workers + _SPARE_THREADS):
                self._threads.append(threading.Thread(target=self._poll, name=f"grpc-{i}", daemon=True))
                self._threads[-1].start()

    def stop(self, grace: float) -> None:
        """End all calls, after `grace` seconds those that are still open, and the threads.

        gRPC aborts the process when something is begun on a queue that was shut down, so everything has to be over.
        """
        self._stopping = True
        self._let_through(everybody=True)
        ended = threading.Event()

        def over(event: Any) -> None:
            ended.set()
            self.closed()

        self.opened()
        self._core.shutdown(self._queue, over)
        if not ended.wait(grace):
            self._core.cancel_all_calls()  # streams that never end, such as health's Watch
        end = time.monotonic() + _LAST_SECONDS
        while self._open:
            if time.monotonic() > end:
                log.error("%d operations of gRPC did not end; their threads stay", self._open)
                return
            time.sleep(0.002)
        self._core.destroy()
        self._queue.shutdown()
        for thread in self._threads:
            thread.join()

    @property
    def silent_seconds(self) -> float:
        """How long ago a thread should have looked around, and did not."""
        return time.monotonic() - self._next_look

    def opened(self) -> None:
        """Something on the queue has begun, whose end `closed` tells."""
        with self._lock:
            self._open += 1

    def closed(self) -> None:
        """Something on the queue is over."""
        with self._lock:
            self._open -= 1

    def later(self, send: Callable[[], None]) -> None:
        """Answer a stranger when it is its turn."""
        delay = self.servicer.strangers.delay()
        if not delay or self._stopping:
            send()
            return
        with self._looking:
            self._line.append((time.monotonic() + delay, send))
            first = self._line.popleft()[1] if len(self._line) > _LINE else None
        if first is not None:
            first()

    def _ask(self) -> None:
        if self._stopping:
            return
        self.opened()
        try:
            self._core.request_call(self._queue, self._queue, self._arrived)
        except ValueError:  # the server is shutting down
            self.closed()

    def _arrived(self, event: Any) -> None:
        try:
            if event.success and event.call is not None:  # else it is shutting down
                self._ask()
                call = Call(self, event)
                self._methods.get(call.method, _unknown)(call)
        finally:
            self.closed()

    def _look(self) -> None:
        """Give up on requests that waited too long, and on messages that do not arrive."""
        now = time.monotonic()
        self._next_look = now + _POLL_SECONDS
        self.servicer.expire()
        for call, ends in list(self.receiving.items()):
            if now > ends:
                call.cancel()  # its `received` will say that there is none
        self.on_look()

    def _let_through(self, everybody: bool = False) -> None:
        now = time.monotonic()
        while self._line and (everybody or self._line[0][0] <= now):
            with self._looking:
                send = self._line.popleft()[1] if self._line else None
            if send is not None:
                send()

    def _poll(self) -> None:
        while True:
            event = self._queue.poll(time.time() + _POLL_SECONDS)
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            try:
                if event.completion_type != cygrpc.CompletionType.queue_timeout:
                    event.tag(event)
                self._let_through()
                if time.monotonic() > self._next_look:
                    self._look()
            except Exception:
                log.exception("answering a request failed; the server goes on")
            event = None  # it may hold the last reference to a call, which has to go before the next wait


class Call:
    """One call: what gRPC does with it, in batches of operations, each with a function for its end."""

    def __init__(self, port: GrpcPort, event: Any) -> None:
        self.port = port
        self.method: str = event.call_details.method.decode("latin-1")
        self.metadata = event.invocation_metadata
        self.deadline = time.monotonic() + event.call_details.deadline - time.time()
        self._rpc = event.call
        self._told = False  # the client has the initial metadata

    @property
    def peer(self) -> str:
        """Address of the other end, as gRPC spells it."""
        text: bytes = self._rpc.peer()
        return text.decode()

    def watch(self, then: Callable[[bool], None]) -> None:
        """Call then(cancelled) when the call is over."""
        close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        self._batch((close,), lambda event: then(event.batch_operations[0].cancelled()))

    def receive(self, then: Callable[[bytes | None], None], seconds: float) -> None:
        """Call then(message), or then(None) if none came in time, or one that is too large."""

        def received(event: Any) -> None:
            self.port.receiving.pop(self, None)
            then(event.batch_operations[0].message() if event.success else None)

        self.port.receiving[self] = time.monotonic() + seconds
        self._batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), received)

    def send(self, message: bytes, then: Callable[[bool], None]) -> None:
        """Send one message of several; then(sent)."""
        self._batch((*self._head(), cygrpc.SendMessageOperation(message, _NO_FLAGS)), lambda event: then(event.success))

    def finish(
        self,
        answer: Answer,
        trailers: tuple[tuple[str, str], ...] = (),
        then: Callable[[], None] = lambda: None,
        watched: bool = True,
    ) -> None:
        """Send the answer, which ends the call; `watched` False: in one batch with what `watch` would do."""
        operations = [*self._head()]
        if not watched:  # refusals have to be cheap when there are many
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        if answer.data is not None:
            operations.append(cygrpc.SendMessageOperation(answer.data, _NO_FLAGS))
        code = answer.code.value[0]
        operations.append(cygrpc.SendStatusFromServerOperation(trailers, code, answer.text.encode(), _NO_FLAGS))
        self._batch(operations, lambda event: then())

    def cancel(self) -> None:
        """End it without an answer of ours."""
        self._rpc.cancel()

    def _head(self) -> tuple[Any, ...]:
        if self._told:
            return ()
        self._told = True
        return (cygrpc.SendInitialMetadataOperation((), _NO_FLAGS),)

    def _batch(self, operations: Any, then: Callable[[Any], None]) -> None:
        port = self.port

        def over(event: Any) -> None:
            try:
                then(event)
            finally:
                port.closed()

        port.opened()
        try:
            self._rpc.start_server_batch(tuple(operations), over)
        except BaseException:
            port.closed()
            raise


def _begin_unary(name: str, call: Call) -> None:
    """admit -> message -> receive -> run -> reply; each in whichever thread got its event."""
    servicer = call.port.servicer
    admitted = False

    def send(answer: Answer) -> None:
        finish = partial(call.finish, answer, _trailers(request), request.close, admitted)
        if answer.code is grpc.StatusCode.UNAUTHENTICATED:
            call.port.later(finish)
        else:
            finish()

    def received(data: bytes | None) -> None:
        if data is None:  # too large, cancelled, or no message at all
            request.fail(RequestError(grpc.StatusCode.INVALID_ARGUMENT, "expected one message, got none"))
        elif request.receive(len(data)):
            request.run(partial(respond, request, data), service_of(request, data))

    request = Request(servicer, name, call.metadata, call.deadline, send)
    if request.admit():
        admitted = True
        call.port.on_admitted(call.peer)
        call.watch(lambda cancelled: request.cancel() if cancelled else None)
        call.receive(received, servicer.limits.max_seconds)


def _unknown(call: Call) -> None:
    answer = Answer(grpc.StatusCode.UNIMPLEMENTED, "this server has no such method")
    send = partial(call.finish, answer, watched=False)
    if call.port.servicer.is_stranger(call.metadata):
        call.port.later(send)
    else:
        send()


def _trailers(request: Request) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of every answer: the request's id, and the microseconds of its stages."""
    record = request.record
    return ((REQUEST_ID_HEADER, record.request_id), (TIMINGS_HEADER, record.timings_text()))


def _options(servicer: Servicer, shared: bool) -> tuple[tuple[str, int], ...]:
    limits = servicer.limits
    return (
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.max_concurrent_streams", limits.max_streams),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_metadata_size", limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", limits.max_header_bytes),
        ("grpc.server_handshake_timeout_ms", int(limits.max_header_seconds * 1000)),
        ("grpc.max_connection_idle_ms", int(limits.max_idle_seconds * 1000)),
        ("grpc.keepalive_time_ms", int(limits.max_idle_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", _PING_SECONDS * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", _PING_SECONDS * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.bdp_probe", 0),  # else megabytes of every message come before its key has been looked at
        ("grpc.so_reuseport", int(shared)),  # else a second server would share the port and take half the requests
    )
