"""One gRPC channel to a service: opened with the first call, opened anew after a pause, with gRPC's own retries."""

import json
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from amlrealtimeai.client import proxy
from amlrealtimeai.client.address import Address
from amlrealtimeai.client.errors import ServiceError, service_error, tls_trouble, trouble_error
from amlrealtimeai.serving.protocol import protos

PREDICT = f"/{protos.PREDICTION_SERVICE}/Predict"
MAX_MESSAGE_BYTES = 64 << 20
_SOON_SECONDS = 0.3  # in which a connection, and most first answers, are there
_LOOK_SECONDS = 0.5

# Only where nobody could be reached is it sure that the fault may heal by itself; about 2 s in all, never past a
# call's deadline.
_RETRIES = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "backoffMultiplier": 2.25,
    "maxBackoff": "2s",
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRIES}]})),
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),  # a request above gRPC's 256 KiB would not be sent again
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # else a channel opened anew may get the old one's connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class _Open:
    """A channel and the calls that are on it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.predict = channel.unary_unary(PREDICT, _serialized, protos.PredictResponse.FromString)
        self.calls = 0
        self.proven = False  # a call has been answered
        self.retired = False
        self.last_used = 0.0


class Channel:
    """roots: PEM of what the server's certificate is checked against. idle_limit: seconds without a call."""

    def __init__(self, address: Address, roots: bytes | None, idle_limit: float) -> None:
        self.address = address
        self.proxy = proxy.proxy_of(address)
        self._roots = roots
        self._idle_limit = idle_limit
        self._lock = threading.Lock()
        self._current: _Open | None = None

    @contextmanager
    def _held(self) -> Iterator[_Open]:
        """The open channel; it lives at least until the block is left, whoever closes or replaces it."""
        with self._lock:
            current = self._current
            if current and not current.calls and time.monotonic() - current.last_used > self._idle_limit:
                self._retire()
            current = self._current = self._current or _Open(self._opened())
            current.calls += 1
        try:
            yield current
        finally:
            with self._lock:
                current.calls -= 1
                current.last_used = time.monotonic()
                over = current.retired and not current.calls
            if over:
                current.channel.close()

    def predict(self, request: Any, timeout: float | None, metadata: Sequence[tuple[str, str]]) -> tuple[Any, Any]:
        """(response, trailing metadata) of Predict, within `timeout` seconds (None: for ever). Raises ServiceError."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        with self._held() as held:
            try:
                if held.proven:
                    response, call = held.predict.with_call(request, timeout=timeout, metadata=metadata)
                else:
                    response, call = self._first(held, request, timeout, metadata)
                    held.proven = True
            except ServiceError:
                raise
            except grpc.RpcError as error:
                reached = error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED or _is_ready(held.channel)
                raise self._explained(error, reached, end - time.monotonic()) from None
            return response, call.trailing_metadata() or ()

    def _first(
        self, held: _Open, request: Any, timeout: float | None, metadata: Sequence[tuple[str, str]]
    ) -> tuple[Any, Any]:
        """The answer to the first call of a channel; what is wrong with TLS lasts, so it is not waited out in retries.

        If there is no answer soon, the other end is looked at while gRPC goes on.
        """
        call = held.predict.future(request, timeout=timeout, metadata=metadata)
        try:
            try:
                return call.result(_SOON_SECONDS), call
            except grpc.FutureTimeoutError:
                if trouble := self._trouble("", _LOOK_SECONDS):
                    raise trouble_error(self.address.target, trouble) from None
            return call.result(), call
        except BaseException:
            call.cancel()
            raise

    def _explained(self, error: Any, reached: bool, seconds: float) -> ServiceError:
        """What is wrong, in words; looking at the other end may take `seconds`."""
        if error.code() is grpc.StatusCode.UNAVAILABLE and (trouble := self._trouble(error.details() or "", seconds)):
            return trouble_error(self.address.target, trouble)
        return service_error(error, self.address.target, self.proxy, reached)

    def _trouble(self, details: str, seconds: float) -> str | None:
        """What is wrong with TLS, if it is that; through a proxy nobody can look."""
        return tls_trouble(details, self.address, self._roots, seconds) if self.proxy is None else None

    def close(self) -> None:
        """Close the channel after its last call; the next call opens a new one."""
        with self._lock:
            self._retire()

    def _retire(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.retired = True
            if not current.calls:
                current.channel.close()

    def _opened(self) -> Any:
        options = [*_OPTIONS, *proxy.options(self.proxy)]
        if self.address.use_ssl:
            credentials = grpc.ssl_channel_credentials(root_certificates=self._roots)
            return grpc.secure_channel(self.address.target, credentials, options)
        return grpc.insecure_channel(self.address.target, options)


def _is_ready(channel: Any) -> bool:
    """Whether the channel is connected right now."""
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(states.put)
    try:
        return states.get(timeout=0.1) is grpc.ChannelConnectivity.READY
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(states.put)


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
