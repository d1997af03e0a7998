"""Clients of a service: what both editions share, and the first edition's PredictionClient.

They work against this package's server and against TensorFlow Serving, and import neither TensorFlow nor a model.
"""

import random
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from amlrealtimeai.errors import InvalidInputError, MissingFileError
from amlrealtimeai.serving.protocol import protos, tensors
from amlrealtimeai.serving.refusals import ServiceError, refusal, tls_sentence

PREDICT = f"/{protos.PREDICTION_SERVICE}/Predict"
TIMINGS_HEADER = "x-amlrealtimeai-timings"
MAX_MESSAGE_BYTES = 64 << 20

_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # seconds before each retry
_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class ServiceClient:
    """Calls Predict on one service, over one channel that is opened when it is first needed.

    address, port           of the service; neither may be None
    use_ssl                 TLS; the server's certificate is checked against `root_certificates` (PEM bytes or a path),
                            else against the file that GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names, else the public ones
    access_token            the service's key, sent as "authorization: Bearer <key>"
    service_name            which service of the address, where it has several
    channel_shutdown_timeout   a connection that was idle for this long is opened anew
    """

    def __init__(
        self,
        address: str,
        port: int,
        use_ssl: bool = False,
        access_token: str = "",
        service_name: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
        root_certificates: bytes | str | Path | None = None,
    ) -> None:
        if not address:
            raise ValueError("address is required: the name or IP address of the service")
        if port is None:
            raise ValueError("port is required: the port of the service")
        if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            raise InvalidInputError(f"expected a port from 1 to 65535, got {port!r}")
        self.address = address
        self.port = port
        self.use_ssl = use_ssl
        self.service_name = service_name
        self.last_timings: dict[str, float] = {}
        self._metadata = []
        if access_token:
            self._metadata.append(("authorization", f"Bearer {access_token}"))
        if service_name:
            self._metadata.append(("x-ms-aml-grpc-service-route", f"/api/v1/service/{service_name}"))
        self._roots = _read_roots(root_certificates)
        self._idle_limit = channel_shutdown_timeout.total_seconds()
        self._last_used = 0.0
        self._lock = threading.Lock()
        self._channel: Any = None
        self._method: Any = None

    @property
    def target(self) -> str:
        """address:port"""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

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
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = (), timeout: float = 10.0
    ) -> dict[str, np.ndarray]:
        """Send arrays by input name, get arrays by output name; `outputs` empty asks for all.

        timeout: seconds for everything, retries included. `last_timings` then has the server's own measurements, in
        seconds. Raises ServiceError: .code() and .details() say what the service answered.
        """
        request = protos.PredictRequest(output_filter=outputs)
        for name, array in inputs.items():
            tensors.fill_proto(request.inputs[name], np.asarray(array))
        response = self._call(request, float(timeout))
        return {name: tensors.from_proto(proto) for name, proto in response.outputs.items()}

    def _call(self, request: Any, timeout: float) -> Any:
        """Predict, again if nobody could be reached: only then is it sure that the fault may heal by itself."""
        end = time.monotonic() + timeout
        for pause in (*_PAUSES, None):
            try:
                response, call = self._connected().with_call(
                    request, timeout=max(0.0, end - time.monotonic()), metadata=self._metadata
                )
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    sentence = tls_sentence(error.details() or "", self.address, self.port, self.use_ssl)
                    if sentence:
                        raise ServiceError(error.code(), f"{self.target}: {sentence}") from None
                    if pause is not None and time.monotonic() + pause < end:
                        time.sleep(pause * random.uniform(0.8, 1.2))
                        continue
                raise refusal(error, self.target) from None
            self._last_used = time.monotonic()
            self.last_timings = _timings(call.trailing_metadata() or ())
            return response
        raise AssertionError("the last attempt returns or raises")

    def _connected(self) -> Any:
        with self._lock:
            if self._channel is not None and time.monotonic() - self._last_used > self._idle_limit:
                self.close()
            if self._channel is None:
                if self.use_ssl:
                    credentials = grpc.ssl_channel_credentials(root_certificates=self._roots)
                    self._channel = grpc.secure_channel(self.target, credentials, _OPTIONS)
                else:
                    self._channel = grpc.insecure_channel(self.target, _OPTIONS)
                self._method = self._channel.unary_unary(PREDICT, _serialized, protos.PredictResponse.FromString)
            self._last_used = time.monotonic()
            return self._method


class PredictionClient(ServiceClient):
    """The first edition's client: one input, `images`, and one answer; no model is named.

    It retries only when nobody could be reached, within the time-out. The original took a key and never sent it.
    """

    def __init__(
        self,
        address: str,
        port: int,
        use_ssl: bool = False,
        access_token: str = "",
        channel_shutdown_timeout: timedelta = timedelta(minutes=2),
        root_certificates: bytes | str | Path | None = None,
    ) -> None:
        super().__init__(address, port, use_ssl, access_token, "", channel_shutdown_timeout, root_certificates)

    def score_image(self, path: str | Path, timeout: float = 10.0) -> np.ndarray:
        """Send one image file; returns its answer, without the batch dimension."""
        return self._score(as_batch(read_file(path)), timeout)

    def score_numpy_array(self, array: np.ndarray, timeout: float = 10.0) -> np.ndarray:
        """Send an array as the whole batch of `images`; the batch dimension of the answer is removed if it is 1."""
        return self._score(np.asarray(array), timeout)

    def score_tensor(self, data: Any, shape: Sequence[int], datatype: Any, timeout: float = 10.0) -> np.ndarray:
        """Send a tensor given by its content (bytes), its shape and its TensorFlow data type."""
        return self._score(tensor_of(data, shape, datatype), timeout)

    def _score(self, images: np.ndarray, timeout: float) -> np.ndarray:
        answer = self.predict({"images": images}, timeout=timeout)
        if "output_alias" in answer:
            return without_batch(answer["output_alias"])
        if len(answer) != 1:
            raise InvalidInputError(
                f"this service answers with {sorted(answer)}; choose of them with amlrealtimeai.accel.PredictionClient"
            )
        return without_batch(next(iter(answer.values())))


def read_file(path: str | Path) -> bytes:
    """The file's content; NotFoundError for a missing one, before anything is sent."""
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"no file {str(path)!r} (looked from {str(Path.cwd())!r}); give the path of an image file"
        )
    return path.read_bytes()


def as_batch(data: bytes) -> np.ndarray:
    """One string as a batch: object array of shape [1]."""
    batch = np.empty(1, object)
    batch[0] = data
    return batch


def without_batch(array: np.ndarray) -> np.ndarray:
    """The only item of a batch of one; a larger batch stays as it is."""
    return array[0] if array.ndim and array.shape[0] == 1 else array


def tensor_of(data: Any, shape: Sequence[int], datatype: Any) -> np.ndarray:
    """An array from content, shape and TensorFlow data type (DT_ number, its name, or tf.DType).

    data: for strings bytes or a sequence of them, else bytes in memory order or anything NumPy makes an array of.
    """
    name = _type_name(datatype)
    proto = protos.TensorProto(dtype=tensors.DATA_TYPES[name])
    for size in shape:
        proto.tensor_shape.dim.add(size=int(size))
    if name == "string":
        proto.string_val.extend([data] if isinstance(data, bytes | str) else list(np.ravel(np.asarray(data, object))))
    elif isinstance(data, bytes):
        proto.tensor_content = data
    else:
        return np.asarray(data, name).reshape(tuple(shape))
    return tensors.from_proto(proto)


def _type_name(datatype: Any) -> str:
    number = getattr(datatype, "as_datatype_enum", datatype)  # tf.DType
    if isinstance(number, int):
        found = [name for name, known in tensors.DATA_TYPES.items() if known == number]
    else:
        text = str(number).lower().removeprefix("dt_")
        text = {"float": "float32", "double": "float64", "half": "float16"}.get(text, text)
        found = [name for name in tensors.DATA_TYPES if name == text]
    if not found:
        raise InvalidInputError(
            f"expected a TensorFlow data type such as 1 (DT_FLOAT) or 7 (DT_STRING), got {datatype!r}"
        )
    return found[0]


def _read_roots(roots: bytes | str | Path | None) -> bytes | None:
    if isinstance(roots, str) and "-----BEGIN" in roots:
        return roots.encode()
    return read_file(roots) if isinstance(roots, str | Path) else roots


def _serialized(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _timings(metadata: Sequence[tuple[str, Any]]) -> dict[str, float]:
    text = next((value for key, value in metadata if key == TIMINGS_HEADER), "")
    return {name: int(value) / 1e6 for name, _, value in (part.partition("=") for part in text.split(",") if part)}
