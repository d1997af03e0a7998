"""The clients: what both editions share, and the first edition's PredictionClient."""

import math
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from amlrealtimeai.client import address as addresses
from amlrealtimeai.client.arrays import (
    array_of,
    as_batch,
    float_array_of,
    names_of,
    read_file,
    tensor_of,
    without_batch,
)
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, tensors
from amlrealtimeai.serving.protocol.headers import KEY_HEADER, ROUTE_HEADER, ROUTE_PREFIX, TIMINGS_HEADER

_FOR_EVER = 1e8  # seconds, three years: gRPC takes longer deadlines for ones that have passed


class ServiceClient:
    """Calls Predict on one service, over one channel that is opened when it is first needed.

    address, port           of the service; an address may carry its port, a scheme and a path: client.address.resolve
    use_ssl                 TLS; the server's certificate is checked against `root_certificates` (PEM bytes or a path),
                            else against the file that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names, else the public ones
    access_token            the service's key, sent as "authorization: Bearer <key>"
    service_name            which service of the address, where it has several
    channel_shutdown_timeout   a connection that was idle for this long is opened anew

    A call is made again, with growing pauses and within its timeout, only where nobody could be reached. An HTTP proxy
    from the environment is used, never to this computer. Threads may share a client.
    """

    _usual_port = True

    def __init__(
        self,
        address: str,
        port: int | str | None = None,
        use_ssl: bool = False,
        access_token: str = "",
        service_name: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
        root_certificates: bytes | str | Path | None = None,
    ) -> None:
        from amlrealtimeai.client.channel import Channel  # brings gRPC, which importing this module need not

        self._where = addresses.resolve(address, port, use_ssl, self._usual_port)
        self.service_name = service_name
        self.last_timings: dict[str, float] = {}
        self._metadata = []
        if access_token:
            self._metadata.append((KEY_HEADER, f"Bearer {_header('access_token', access_token)}"))
        if service_name:
            self._metadata.append((ROUTE_HEADER, ROUTE_PREFIX + _header("service_name", service_name)))
        roots = _read_roots(root_certificates)
        self._channel = Channel(self._where, roots, _idle_seconds(channel_shutdown_timeout))

    @property
    def address(self) -> str:
        """Name or IP address of the service."""
        return self._where.host

    @property
    def port(self) -> int:
        """Port of the service."""
        return self._where.port

    @property
    def use_ssl(self) -> bool:
        """Whether TLS is used."""
        return self._where.use_ssl

    @property
    def target(self) -> str:
        """address:port"""
        return self._where.target

    def close(self) -> None:
        """Close the connection, once the calls of other threads have ended; the next call opens a new one."""
        self._channel.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        service = f", service_name={self.service_name!r}" if self.service_name else ""
        return f"{type(self).__name__}({self.target!r}, use_ssl={self.use_ssl}{service})"

    def predict(
        self, inputs: Mapping[str, np.ndarray], outputs: str | Sequence[str] = (), timeout: float | None = 10.0
    ) -> dict[str, np.ndarray]:
        """Send arrays by input name, get arrays by output name; `outputs` empty asks for all.

        timeout: seconds for everything, further attempts included; None waits for ever. `last_timings` then has the
        server's own measurements, in seconds. Raises ServiceError: .code() and .details() are the service's words.
        """
        answer = self._predict(inputs, outputs, timeout)
        return {name: tensors.from_proto(proto) for name, proto in answer.items()}

    def run(self, input_data: Any, timeout: float | None = 30.0) -> Any:
        """Ask with one picture (its path, its bytes, or an open file) or with a batch of arrays as `images`.

        One array, or a list in the order of the outputs' names; of a picture without the batch dimension.
        """
        if isinstance(input_data, str) and input_data.lstrip()[:1] in ("{", "["):
            raise InvalidInputError(
                "expected a picture or a batch of arrays, got JSON, which scoring scripts take: this service has none"
            )
        if isinstance(input_data, str | Path):
            input_data = read_file(input_data)
        elif hasattr(input_data, "read"):
            input_data = input_data.read()
        is_picture = isinstance(input_data, bytes | bytearray)
        images = as_batch(bytes(input_data)) if is_picture else array_of(input_data)
        answer = self.predict({"images": images}, timeout=timeout)
        arrays = [without_batch(answer[name]) if is_picture else answer[name] for name in sorted(answer)]
        return arrays[0] if len(arrays) == 1 else arrays

    def _predict(
        self, inputs: Mapping[str, np.ndarray], outputs: str | Sequence[str], timeout: float | None
    ) -> Mapping[str, Any]:
        """The answer's TensorProtos by output name."""
        end = time.monotonic() + _seconds(timeout)
        request = protos.PredictRequest(output_filter=names_of(inputs, outputs))
        for name, array in inputs.items():
            tensors.fill_proto(request.inputs[name], np.asarray(array))
        left = None if end == math.inf else max(0.0, end - time.monotonic())
        response, metadata = self._channel.predict(request, left, self._metadata)
        self.last_timings = _timings(metadata)
        return response.outputs


class PredictionClient(ServiceClient):
    """The first edition's client: one input, `images`, and one answer; no model is named.

    The original took a key and never sent it; this one sends it.
    """

    _usual_port = False

    def __init__(
        self,
        address: str,
        port: int | str | None,
        use_ssl: bool = False,
        access_token: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
        root_certificates: bytes | str | Path | None = None,
    ) -> None:
        super().__init__(address, port, use_ssl, access_token, "", channel_shutdown_timeout, root_certificates)

    def score_image(self, path: str | Path, timeout: float | None = 10.0) -> np.ndarray:
        """Send one image file; returns its answer, without the batch dimension."""
        return without_batch(tensors.from_proto(self._score(as_batch(read_file(path)), timeout)))

    def score_numpy_array(self, npdata: Any, timeout: float | None = 30.0) -> np.ndarray:
        """Send the whole batch of `images`: numbers of any type as float32, or encoded images. Returns a batch, too."""
        return tensors.from_proto(self._score(float_array_of(npdata), timeout))

    def score_tensor(self, data: Any, shape: Sequence[int], datatype: Any, timeout: float | None = 10.0) -> Any:
        """Send a tensor given by its content (bytes), its shape and its TensorFlow data type; returns a TensorProto.

        tf.make_ndarray makes an array of the answer.
        """
        return self._score(tensor_of(data, shape, datatype), timeout)

    def _score(self, images: np.ndarray, timeout: float | None) -> Any:
        """The TensorProto of the answer."""
        answer = self._predict({"images": images}, (), timeout)
        if "output_alias" in answer:
            return answer["output_alias"]
        if len(answer) != 1:
            raise InvalidInputError(
                f"this service answers with {sorted(answer)}; choose of them with amlrealtimeai.accel.PredictionClient"
            )
        return next(iter(answer.values()))


def _seconds(timeout: Any) -> float:
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, int | float | np.number) or not timeout > 0:
        raise InvalidInputError(f"expected a timeout in seconds, more than 0, got {timeout!r}")
    return float(timeout) if timeout < _FOR_EVER else math.inf


def _idle_seconds(time: Any) -> float:
    """A timedelta, or a number of seconds; None never closes."""
    seconds = time.total_seconds() if isinstance(time, timedelta) else math.inf if time is None else time
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | np.number):
        raise InvalidInputError(
            f"channel_shutdown_timeout: expected a timedelta such as timedelta(minutes=2), got {time!r}"
        )
    return float(seconds)


def _header(what: str, value: Any) -> str:
    """A text that can stand in a header; a key's bytes, and the line break behind one from a file, are no trouble."""
    text = (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip()
    if not (text.isascii() and text.isprintable()):
        raise InvalidInputError(f"{what}: expected one line of ASCII characters, got others, too")
    return text


def _read_roots(roots: bytes | str | Path | None) -> bytes | None:
    if isinstance(roots, str) and "-----BEGIN" in roots:
        return roots.encode()
    found = read_file(roots, "a PEM file") if isinstance(roots, str | Path) else roots
    if found is not None and (not isinstance(found, bytes) or b"-----BEGIN" not in found):
        raise InvalidInputError(
            "root_certificates: expected PEM text, which has -----BEGIN CERTIFICATE----- in it, or the path of a file "
            f"with it, got {'other bytes' if isinstance(found, bytes) else type(found).__name__}"
        )
    return found


def _timings(metadata: Sequence[tuple[str, Any]]) -> dict[str, float]:
    text = next((value for key, value in metadata if key == TIMINGS_HEADER), "")
    return {name: int(value) / 1e6 for name, _, value in (part.partition("=") for part in text.split(",") if part)}
