"""The methods besides TensorFlow Serving's: health and reflection, which need no thread while nothing happens.

Streams that stay open are counted; the oldest one ends when there are too many, so that nobody can shut others out.
"""

import threading
from collections.abc import Callable
from functools import partial

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from amlrealtimeai.serving.ports.grpc_port import Call
from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.request.answers import Answer, RequestError
from amlrealtimeai.serving.request.auth import check_key
from amlrealtimeai.serving.request.servicer import Servicer

HEALTH_SERVICE = "grpc.health.v1.Health"
_NAMES = ("", protos.PREDICTION_SERVICE, protos.MODEL_SERVICE)
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3
_MESSAGE_SECONDS = 5.0


class Standing:
    """The streams of one server that stay open, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._streams: dict[object, Callable[[Answer], None]] = {}
        self._lock = threading.Lock()

    def add(self, key: object, end: Callable[[Answer], None]) -> None:
        """One more; if there are too many, the oldest is ended."""
        with self._lock:
            self._streams[key] = end
            oldest = next(iter(self._streams)) if len(self._streams) > self._limit else None
            end_oldest = self._streams.pop(oldest) if oldest is not None else None
        if end_oldest is not None:
            text = f"a newer stream took the place of this one (max_standing_streams = {self._limit})"
            end_oldest(Answer(grpc.StatusCode.RESOURCE_EXHAUSTED, text))

    def remove(self, key: object) -> bool:
        """One less; False if it was ended already."""
        with self._lock:
            return self._streams.pop(key, None) is not None


class Health:
    """grpc.health.v1.Health. Who has no key where there are keys learns the state of the whole server, unasked:
    nothing that such a caller sends is received.
    """

    def __init__(self, servicer: Servicer, standing: Standing, serving: Callable[[], bool]) -> None:
        self._servicer = servicer
        self._standing = standing
        self._serving = serving
        self._watchers: dict[Call, _Watcher] = {}
        self._lock = threading.Lock()
        self.methods: dict[str, Callable[[Call], None]] = {
            f"/{HEALTH_SERVICE}/Check": partial(self._begin, self._check),
            f"/{HEALTH_SERVICE}/Watch": partial(self._begin, self._watch),
        }

    def tell(self) -> None:
        """Send the state to whoever watches and does not know it yet."""
        for watcher in list(self._watchers.values()):
            watcher.tell()

    def state(self, name: str) -> int:
        """A number of HealthCheckResponse.ServingStatus."""
        if name not in _NAMES:
            return _UNKNOWN
        return _SERVING if self._serving() else _NOT_SERVING

    def _begin(self, answer: Callable[[Call, str], None], call: Call) -> None:
        if self._servicer.is_stranger(call.metadata):
            call.watch(lambda cancelled: self._forget(call))
            call.port.later(partial(answer, call, ""))
            return

        def received(data: bytes | None) -> None:
            if not self._standing.remove(call):
                return
            try:
                name = health_pb2.HealthCheckRequest.FromString(data or b"").service
            except DecodeError:
                call.finish(Answer(grpc.StatusCode.INVALID_ARGUMENT, "expected a grpc.health.v1.HealthCheckRequest"))
            else:
                answer(call, name)

        call.watch(lambda cancelled: self._forget(call))
        self._standing.add(call, call.finish)
        call.receive(received, _MESSAGE_SECONDS)

    def _check(self, call: Call, name: str) -> None:
        state = self.state(name)
        if state == _UNKNOWN:
            call.finish(Answer(grpc.StatusCode.NOT_FOUND, f"there is no service {name:.100}"))
        else:
            call.finish(Answer(data=_response(state)))

    def _watch(self, call: Call, name: str) -> None:
        watcher = _Watcher(call, partial(self.state, name), partial(self._forget, call))
        with self._lock:
            self._watchers[call] = watcher
        self._standing.add(call, watcher.end)
        watcher.tell()

    def _forget(self, call: Call) -> None:
        self._standing.remove(call)
        with self._lock:
            self._watchers.pop(call, None)


class _Watcher:
    """One Watch: it is sent the state when that has changed, one message at a time."""

    def __init__(self, call: Call, state: Callable[[], int], forget: Callable[[], None]) -> None:
        self._call = call
        self._state = state
        self._forget = forget
        self._told = 0
        self._busy = False
        self._ended: Answer | None = None
        self._lock = threading.Lock()

    def tell(self) -> None:
        """Send the state, unless it is known or something is on its way."""
        with self._lock:
            state = self._state()
            if self._busy or self._ended or state == self._told:
                return
            self._busy, self._told = True, state
        self._call.send(_response(state), self._sent)

    def end(self, answer: Answer) -> None:
        """Send no more."""
        with self._lock:
            self._ended, busy = answer, self._busy
        self._forget()
        if not busy:
            self._call.finish(answer)

    def _sent(self, success: bool) -> None:
        with self._lock:
            self._busy = False
            ended = self._ended
        if ended is not None:
            self._call.finish(ended)
        elif success:
            self.tell()
        else:
            self._forget()


class Reflection:
    """grpc.reflection.v1alpha, which grpcurl and friends ask; with a key, where there are keys."""

    def __init__(self, servicer: Servicer, standing: Standing) -> None:
        self._servicer = servicer
        self._standing = standing
        names = (protos.PREDICTION_SERVICE, protos.MODEL_SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        self._answers = reflection.ReflectionServicer(names, _pool())
        self.methods: dict[str, Callable[[Call], None]] = {
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": self._begin
        }

    def _begin(self, call: Call) -> None:
        try:
            check_key(self._servicer.table.all_keys(self._servicer.keys), call.metadata)
        except RequestError as error:
            call.port.later(partial(call.finish, Answer(error.code, error.text), watched=False))
            return
        call.watch(lambda cancelled: None)
        self._standing.add(call, call.finish)
        self._next(call, True)

    def _next(self, call: Call, success: bool) -> None:
        if success:
            call.receive(partial(self._answer, call), self._servicer.limits.max_idle_seconds)
        else:
            self._standing.remove(call)

    def _answer(self, call: Call, data: bytes | None) -> None:
        if data is not None:
            try:
                question = reflection_pb2.ServerReflectionRequest.FromString(data)
                (answer,) = self._answers.ServerReflectionInfo(iter([question]), None)
            except DecodeError:
                pass
            else:
                call.send(answer.SerializeToString(), partial(self._next, call))
                return
        if self._standing.remove(call):
            call.finish(Answer() if data is None else Answer(grpc.StatusCode.INVALID_ARGUMENT, "not a request"))


def _response(state: int) -> bytes:
    data: bytes = health_pb2.HealthCheckResponse(status=state).SerializeToString()
    return data


def _pool() -> descriptor_pool.DescriptorPool:
    """Our private descriptors and, for whoever lists all services, those of health and reflection."""
    pool = descriptor_pool.DescriptorPool()
    for data in protos.FILES:
        pool.AddSerializedFile(data)
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
