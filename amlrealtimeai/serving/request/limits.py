"""Every limit of a server, with a safe default. A refused request names the setting that refused it."""

from dataclasses import dataclass, fields
from typing import Any

import grpc

from amlrealtimeai.artifact.preprocess import MAX_PIXELS
from amlrealtimeai.errors import ConfigError
from amlrealtimeai.npu.cpus import usable_cpus
from amlrealtimeai.serving.protocol.tensors import MAX_ELEMENTS, MAX_STRINGS
from amlrealtimeai.serving.protocol.wire import MAX_PARTS
from amlrealtimeai.serving.request.answers import RequestError

_MOST = 2**31 - 1  # what gRPC can hold as a size or a number of streams


@dataclass(frozen=True)
class Limits:
    """What one server accepts. All are upper bounds: the value itself is still accepted."""

    max_message_bytes: int = 64 << 20  # one gRPC message, either way
    max_pixels: int = MAX_PIXELS  # of one image
    max_elements: int = MAX_ELEMENTS  # of one numeric tensor
    max_strings: int = MAX_STRINGS  # of one tensor of strings
    max_parts: int = MAX_PARTS  # of one gRPC message: strings, dimensions and inputs, numbers that are not packed
    max_batch: int = 64  # size of the first dimension of an input
    max_in_flight: int = 32  # requests that run or wait
    max_bytes_in_flight: int = 256 << 20  # of all requests that run or wait
    workers: int = 0  # requests that run at once; 0: as many as there are usable CPUs
    max_wait_seconds: float = 10.0  # for a worker
    max_seconds: float = 60.0  # for a whole request, if its client does not set less
    max_streams: int = 128  # HTTP/2 streams of one connection
    max_standing_streams: int = 256  # Health.Watch and reflection, of all connections; the oldest makes room
    max_connections: int = 1024  # of the gRPC port
    max_rest_connections: int = 128  # of the REST port; the one that has been idle for longest makes room
    max_header_bytes: int = 16 << 10  # of one request; of gRPC its metadata
    max_header_seconds: float = 10.0  # for the handshakes of a connection, and again for the header of a REST request
    max_idle_seconds: float = 60.0  # that a connection may stay open between requests
    max_strangers_per_second: int = 100  # answers to callers without a key; those beyond wait for up to 0.5 s
    max_json_depth: int = 100  # of a REST body
    max_rest_bytes: int = 64 << 20  # of a REST body, decompressed

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            smallest = 0 if field.name == "workers" else 1 if field.type is int else 0.001
            if not isinstance(value, field.type | int) or isinstance(value, bool) or not smallest <= value <= _MOST:
                raise ConfigError(f"limit {field.name}: expected a number from {smallest} to {_MOST}, got {value!r}")

    @property
    def worker_count(self) -> int:
        """The number of workers, with the default resolved."""
        return self.workers or usable_cpus()

    def check_batch(self, name: str, size: int) -> None:
        """Raise RequestError when an input has a batch of more than max_batch."""
        if size > self.max_batch:
            raise RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"input {name!r:.100}: a batch of {size} is too large (max_batch = {self.max_batch}); "
                "send smaller batches",
            )

    @classmethod
    def from_texts(cls, texts: list[str]) -> "Limits":
        """From command line arguments such as "max_batch=16"; raises ConfigError for what is not a limit."""
        values: dict[str, Any] = {}
        types = {field.name: float if field.type is float else int for field in fields(cls)}
        for text in texts:
            name, _, value = text.partition("=")
            try:
                values[name] = types[name](value)
            except (KeyError, ValueError):
                raise ConfigError(f"expected NAME=NUMBER with a name of {', '.join(types)}; got {text!r}") from None
        return cls(**values)
