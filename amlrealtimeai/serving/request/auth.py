"""Service keys: read from the request's metadata and compared in constant time."""

import hmac
from collections.abc import Iterable, Sequence

import grpc

from amlrealtimeai.serving.request.answers import RequestError

KEY_HEADER = "authorization"


def check_key(keys: Sequence[str], metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """Raise RequestError (UNAUTHENTICATED) unless one of `keys` was sent; no keys: everyone may.

    The key comes raw (the first edition's C# client) or as "Bearer <key>" (azureml-accel). Every key is compared,
    whatever the first comparison gave, so that time tells nothing.
    """
    if not keys:
        return
    sent = [value for name, value in metadata if name == KEY_HEADER]
    if not sent:
        raise RequestError(
            grpc.StatusCode.UNAUTHENTICATED,
            "this service needs a key: send it as metadata 'authorization: Bearer <key>' "
            "(PredictionClient: access_token=..., client_from_service does it for you)",
        )
    text = sent[0] if isinstance(sent[0], str) else sent[0].decode("latin-1")
    if text[:7].lower() == "bearer ":
        text = text[7:]
    matches = [hmac.compare_digest(text.strip().encode(), key.encode()) for key in keys]
    if not any(matches):
        raise RequestError(
            grpc.StatusCode.UNAUTHENTICATED,
            "the key is not one of this service's keys; it may have been regenerated: ask get_keys() again",
        )
