"""Service keys: read from the request's metadata and compared in constant time; and patience with who has none."""

import hmac
import threading
import time
from collections.abc import Iterable, Sequence

import grpc

from amlrealtimeai.serving.protocol.headers import KEY_HEADER
from amlrealtimeai.serving.request.answers import RequestError

_LONGEST_SECONDS = 0.5  # well below the second that a Kubernetes probe waits


def check_key(keys: Sequence[str], metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Raise RequestError (UNAUTHENTICATED) unless one of `keys` was sent; no keys: everyone may."""
    if not keys or has_key(keys, metadata):
        return
    if any(name == KEY_HEADER for name, _ in metadata):
        raise RequestError(
            grpc.StatusCode.UNAUTHENTICATED,
            "the key is not one of this service's keys; it may have been regenerated: ask get_keys() again",
        )
    raise RequestError(
        grpc.StatusCode.UNAUTHENTICATED,
        "this service needs a key: send it as metadata 'authorization: Bearer <key>' "
        "(PredictionClient: access_token=..., client_from_service does it for you)",
    )


def has_key(keys: Sequence[str], metadata: Iterable[tuple[str, str | bytes]]) -> bool:
    """Whether one of `keys` was sent.

    The key comes raw (the first edition's C# client) or as "Bearer <key>" (azureml-accel). Every key is compared,
    whatever the first comparison gave, so that time tells nothing.
    """
    sent = next((value for name, value in metadata if name == KEY_HEADER), None)
    if sent is None:
        return False
    data = sent if isinstance(sent, bytes) else sent.encode("utf-8", "surrogateescape")
    if data[:7].lower() == b"bearer ":
        data = data[7:]
    matches = [hmac.compare_digest(data.strip(), key.encode()) for key in keys]
    return any(matches)


class StrangersLine:
    """Paces what is answered to callers without a key, so that a crowd of them leaves the computer to the others.

    The first ones of a quiet second are answered at once; the others wait, at most half a second.
    """

    def __init__(self, per_second: int) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Seconds that the next answer to a stranger has to wait."""
        now = time.monotonic()
        with self._lock:
            self._next = max(self._next, now - 0.5) + self._interval
            self._next = min(self._next, now + _LONGEST_SECONDS)
            return max(0.0, self._next - now)
