"""The methods of PredictionService and ModelService over a ModelTable."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving import protos, tensors
from amlrealtimeai.serving.answers import Record, RequestError, answer_of, log
from amlrealtimeai.serving.auth import check_key
from amlrealtimeai.serving.definition import Signature, TensorSpec
from amlrealtimeai.serving.limits import Limits
from amlrealtimeai.serving.table import ModelTable, Served

TIMINGS_HEADER = "x-amlrealtimeai-timings"
REQUEST_ID_HEADER = "x-amlrealtimeai-request-id"
Observer = Callable[[Record], None]

_PREDICT_METHOD = "tensorflow/serving/predict"
_NOT_SERVED = {
    "Classify": "Classify is not served: models here have no classification signature; call Predict",
    "Regress": "Regress is not served: models here have no regression signature; call Predict",
    "MultiInference": "MultiInference is not served; call Predict, once for each model",
    "HandleReloadConfigRequest": "HandleReloadConfigRequest is not served: deploy or update the service instead",
}


class Servicer:
    """Answers requests; every one ends as a Record that the log and the observers get."""

    def __init__(self, table: ModelTable, limits: Limits, keys: Sequence[str] = ()) -> None:
        self.table = table
        self.limits = limits
        self.keys = tuple(keys)
        self.observers: list[Observer] = []
        self.draining = False
        self._unfinished = 0
        self._lock = threading.Lock()
        self._workers = threading.BoundedSemaphore(limits.worker_count)
        self._in_flight = threading.BoundedSemaphore(limits.max_in_flight)

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """gRPC's handlers. Requests arrive as bytes, so that a request that does not parse gets our answer, too."""
        services: dict[str, dict[str, Callable[[bytes, Any, Record], Any]]] = {
            protos.PREDICTION_SERVICE: {
                "Predict": self._predict,
                "GetModelMetadata": self._metadata,
                "Classify": self._not_served,
                "Regress": self._not_served,
                "MultiInference": self._not_served,
            },
            protos.MODEL_SERVICE: {"GetModelStatus": self._status, "HandleReloadConfigRequest": self._not_served},
        }
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    method: grpc.unary_unary_rpc_method_handler(
                        self._answering(method, work), response_serializer=lambda message: message.SerializeToString()
                    )
                    for method, work in methods.items()
                },
            )
            for service, methods in services.items()
        ]

    @property
    def unfinished(self) -> int:
        """Requests from before draining whose answer has not been sent completely."""
        return self._unfinished

    def _begin(self, context: Any) -> None:
        def end() -> None:
            with self._lock:
                self._unfinished -= 1

        if self.draining:
            return
        with self._lock:
            self._unfinished += 1
        if not context.add_callback(end):
            end()

    def _answering(self, method: str, work: Callable[[bytes, Any, Record], Any]) -> Callable[[bytes, Any], Any]:
        def handle(request: bytes, context: Any) -> Any:
            start = time.perf_counter()
            self._begin(context)
            record = Record(method)
            failure = None
            try:
                response = work(request, context, record)
            except Exception as error:
                failure = answer_of(error, record.request_id)
                record.code, record.text = failure.code.name, failure.text
            record.timings["total"] = time.perf_counter() - start
            self._observe(record)
            context.set_trailing_metadata(
                ((REQUEST_ID_HEADER, record.request_id), (TIMINGS_HEADER, record.timings_text()))
            )
            if failure is not None:
                context.abort(failure.code, failure.text)
            return response

        return handle

    def _observe(self, record: Record) -> None:
        log.info("%s", record)
        for observer in self.observers:
            observer(record)

    def _find(self, spec: Any, context: Any, record: Record) -> Served:
        metadata = context.invocation_metadata()
        served = self.table.find(spec, metadata)
        record.model = served.name
        check_key(served.keys or self.keys, metadata)
        return served

    def _predict(self, data: bytes, context: Any, record: Record) -> Any:
        if self.draining:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "this server is shutting down; try again, another one answers"
            )
        check_key(self.table.gate_keys(self.keys), context.invocation_metadata())
        if not self._in_flight.acquire(blocking=False):
            raise RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"too many requests at once (max_in_flight = {self.limits.max_in_flight}); try again a little later",
            )
        try:
            start = time.perf_counter()
            self._wait_for_worker(context)
            record.timings["queue"] = time.perf_counter() - start
            try:
                return self._predict_now(data, context, record)
            finally:
                self._workers.release()
        finally:
            self._in_flight.release()

    def _wait_for_worker(self, context: Any) -> None:
        """Take a worker, or say whose patience ended: the client's or ours."""
        left = context.time_remaining()
        patience = self.limits.max_wait_seconds
        if not self._workers.acquire(timeout=patience if left is None else max(0.0, min(patience, left))):
            whose = "the request's deadline passed" if left is not None and left <= patience else "waited too long"
            raise RequestError(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"{whose} before a worker was free (max_wait_seconds = {patience:g})"
            )
        if not context.is_active():
            self._workers.release()
            raise RequestError(grpc.StatusCode.CANCELLED, "the client did not wait for the answer")

    def _predict_now(self, data: bytes, context: Any, record: Record) -> Any:
        start = time.perf_counter()
        request = _parsed(protos.PredictRequest, data)
        served = self._find(request.model_spec, context, record)
        signature = served.model.signature
        _check_signature_name(request.model_spec, signature)
        outputs = list(request.output_filter)
        signature.select(outputs)
        inputs = self._inputs(request)
        record.timings["parse"] = time.perf_counter() - start

        prediction = served.model.predict(inputs, outputs)
        record.timings |= prediction.timings

        start = time.perf_counter()
        response = protos.PredictResponse()
        for name, array in prediction.outputs.items():
            tensors.fill_proto(response.outputs[name], array)
        _fill_spec(response.model_spec, served)
        record.timings["build"] = time.perf_counter() - start
        return response

    def _inputs(self, request: Any) -> dict[str, np.ndarray]:
        inputs = {}
        for alias, proto in request.inputs.items():
            dimensions = proto.tensor_shape.dim
            if dimensions and dimensions[0].size > self.limits.max_batch:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"input {alias!r:.100}: a batch of {dimensions[0].size} is too large (max_batch = "
                    f"{self.limits.max_batch}); send smaller batches",
                )
            try:
                inputs[alias] = tensors.from_proto(proto, self.limits.max_elements)
            except InvalidInputError as error:
                raise InvalidInputError(f"tensor parsing error: {alias:.100}: {error}") from error
        return inputs

    def _metadata(self, data: bytes, context: Any, record: Record) -> Any:
        request = _parsed(protos.GetModelMetadataRequest, data)
        served = self._find(request.model_spec, context, record)
        if not request.metadata_field:
            raise InvalidInputError("GetModelMetadataRequest must specify at least one metadata_field: signature_def")
        for name in request.metadata_field:
            if name != "signature_def":
                raise InvalidInputError(f"Metadata field {name:.100} is not supported; signature_def is")
        response = protos.GetModelMetadataResponse()
        _fill_spec(response.model_spec, served)
        response.model_spec.ClearField("signature_name")
        definitions = protos.SignatureDefMap()
        _fill_signature(definitions.signature_def[served.model.signature.name], served.model.signature)
        response.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        response.metadata["signature_def"].value = definitions.SerializeToString(deterministic=True)
        return response

    def _status(self, data: bytes, context: Any, record: Record) -> Any:
        request = _parsed(protos.GetModelStatusRequest, data)
        metadata = context.invocation_metadata()
        name = self.table.name_of(request.model_spec, metadata)
        record.model = name
        served = self.table.get(name)
        check_key((served.keys if served else ()) or self.keys, metadata)
        states = self.table.states(name)
        if request.model_spec.HasField("version"):
            wanted = request.model_spec.version.value
            states = {version: state for version, state in states.items() if version == wanted}
        if not states:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name:.100}")
        response = protos.GetModelStatusResponse()
        for version, (state, text) in states.items():
            status = response.model_version_status.add(version=version, state=state)
            status.status.error_message = text[:1000]
            status.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if text else 0
        return response

    def _not_served(self, data: bytes, context: Any, record: Record) -> Any:
        raise RequestError(grpc.StatusCode.UNIMPLEMENTED, _NOT_SERVED[record.method])


def _parsed(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidInputError(f"the request of {len(data)} bytes is not a {kind.DESCRIPTOR.full_name}") from None


def _check_signature_name(spec: Any, signature: Signature) -> None:
    if spec.signature_name and spec.signature_name != signature.name:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{spec.signature_name:.100}" not found. There is "{signature.name}".',
        )


def _fill_spec(spec: Any, served: Served) -> None:
    spec.name = served.name
    spec.version.value = served.version
    spec.signature_name = served.model.signature.name


def _fill_signature(proto: Any, signature: Signature) -> None:
    for side, specs in ((proto.inputs, signature.inputs), (proto.outputs, signature.outputs)):
        for alias, spec in specs.items():
            _fill_tensor(side[alias], spec)
    proto.method_name = _PREDICT_METHOD


def _fill_tensor(info: Any, spec: TensorSpec) -> None:
    info.name = spec.tensor
    info.dtype = tensors.DATA_TYPES[spec.dtype]
    info.tensor_shape.SetInParent()
    for size in spec.shape:
        info.tensor_shape.dim.add(size=-1 if size is None else size)
