"""The methods of PredictionService and ModelService over a ModelTable."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from amlrealtimeai.artifact.definition import Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, tensors, wire
from amlrealtimeai.serving.request.admission import Admission, Ticket
from amlrealtimeai.serving.request.answers import (
    REQUEST_ID_HEADER,
    TIMINGS_HEADER,
    Answer,
    Call,
    Record,
    RequestError,
    answer_of,
    log,
)
from amlrealtimeai.serving.request.auth import check_key
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.request.table import ModelTable, Served

Observer = Callable[[Record], None]

_PREDICT_METHOD = "tensorflow/serving/predict"
_NOT_SERVED = {
    "Classify": "Classify is not served: models here have no classification signature; call Predict",
    "Regress": "Regress is not served: models here have no regression signature; call Predict",
    "MultiInference": "MultiInference is not served; call Predict, once for each model",
    "HandleReloadConfigRequest": "HandleReloadConfigRequest is not served: deploy or update the service instead",
}


class Servicer:
    """Answers requests of any port; every one ends as a Record that the log and the observers get."""

    def __init__(self, table: ModelTable, limits: Limits, keys: Sequence[str] = ()) -> None:
        self.table = table
        self.limits = limits
        self.keys = tuple(keys)
        self.observers: list[Observer] = []
        self.draining = False
        self.admission = Admission(limits)
        self._unfinished = 0
        self._lock = threading.Lock()
        self._helpers = ThreadPoolExecutor(limits.worker_count, thread_name_prefix="amlrealtimeai-worker")
        self._methods: dict[str, Callable[[bytes, Call, Record], Any]] = {
            "GetModelMetadata": self._metadata,
            "GetModelStatus": self._status,
            **dict.fromkeys(_NOT_SERVED, self._not_served),
        }

    # --- life of a request -----------------------------------------------------------------------------------------

    @property
    def unfinished(self) -> int:
        """Requests from before draining whose answer has not been sent completely."""
        return self._unfinished

    def begin(self) -> bool:
        """Count a request as unfinished, unless it came during draining; `end` with the same value ends it."""
        if self.draining:
            return False
        with self._lock:
            self._unfinished += 1
        return True

    def end(self, counted: bool) -> None:
        """The answer has been sent, or nobody waits for it."""
        if counted:
            with self._lock:
                self._unfinished -= 1

    def respond(self, method: str, data: bytes, call: Call) -> tuple[Answer, Record]:
        """Answer any method in this thread, waiting for a worker if it needs one."""
        record = Record(method, size=len(data))
        if method == "Predict":
            answer = self._predict(data, call, record)
        else:
            try:
                answer = Answer(data=self._methods[method](data, call, record).SerializeToString())
                record.finish("OK", "")
            except Exception as error:
                answer = self.failed(error, record)
        self.note(record)
        return answer, record

    def failed(self, error: Exception, record: Record) -> Answer:
        """The answer for an error."""
        failure = answer_of(error, record.request_id)
        record.finish(failure.code.name, failure.text)
        return Answer(failure.code, failure.text)

    def note(self, record: Record) -> None:
        """Tell the log and the observers about an answered request; nobody should have to wait for this."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s", record, extra={"record": record})
        for observer in self.observers:
            observer(record)

    # --- Predict: enter, wait for a worker, work -----------------------------------------------------------------

    def enter(self, call: Call) -> None:
        """Take a place among the requests in flight; raises RequestError for whoever may not."""
        if self.draining:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE, "this server is shutting down; try again, another one answers"
            )
        check_key(self.table.gate_keys(self.keys), call.metadata)
        self.admission.enter()

    def predicted(self, data: bytes, call: Call, record: Record) -> Answer:
        """Compute the answer; the caller has a worker."""
        record.size = len(data)
        try:
            record.timings["queue"] = time.perf_counter() - record.started
            call.check()
            answer = Answer(data=self._predict_now(data, call, record))
        except Exception as error:
            return self.failed(error, record)
        record.finish("OK", "")
        return answer

    def work_off(self, ticket: Ticket | None) -> None:
        """Do the work of a ticket that has a worker, then that of those who waited for this worker."""
        while ticket is not None:
            try:
                ticket.start()
            except Exception:
                log.exception("a request failed unexpectedly; its worker goes on")
            if not ticket.inline:
                return  # its own thread has the worker now
            ticket = self.admission.done()

    def expire(self) -> None:
        """Answer those who waited too long."""
        for ticket in self.admission.expired():
            ticket.fail(self.admission.too_late(ticket))

    def check(self, served: Served, call: Call) -> None:
        """Raise UNAUTHENTICATED unless the call has a key of this model."""
        check_key(served.keys or self.keys, call.metadata)

    def close(self) -> None:
        """End the helpers; no request may be in flight."""
        self._helpers.shutdown()

    def _predict(self, data: bytes, call: Call, record: Record) -> Answer:
        try:
            self.enter(call)
        except RequestError as error:
            return self.failed(error, record)
        size = 0
        try:
            self.admission.hold(len(data))
            size = len(data)
            self._wait_for_worker(call)
        except RequestError as error:
            self.admission.leave(size)
            return self.failed(error, record)
        try:
            return self.predicted(data, call, record)
        finally:
            self.admission.leave(size)
            following = self.admission.done()
            if following is not None:
                self._helpers.submit(self.work_off, following)

    def _wait_for_worker(self, call: Call) -> None:
        """Take a worker, or say whose patience ended: the client's or ours."""
        decided = threading.Event()
        errors: list[RequestError] = []

        def fail(error: RequestError) -> None:
            errors.append(error)
            decided.set()

        ticket = Ticket(call, decided.set, fail, inline=False, patience=self.limits.max_wait_seconds)
        if self.admission.take(ticket):
            return
        if not decided.wait(max(0.0, ticket.expires - time.monotonic())) and self.admission.withdraw(ticket):
            raise self.admission.too_late(ticket)
        decided.wait()
        if errors:
            raise errors[0]

    def _predict_now(self, data: bytes, call: Call, record: Record) -> bytes:
        start = time.perf_counter()
        request = wire.parse(protos.PredictRequest, data, self.limits.max_parts)
        served = self._find(request.model_spec, call, record)
        signature = served.model.signature
        _check_signature_name(request.model_spec, signature)
        outputs = list(request.output_filter)
        signature.select(outputs)
        inputs = self._inputs(request, signature)
        record.timings["parse"] = time.perf_counter() - start

        prediction = served.model.predict(inputs, outputs, call.check)
        record.timings |= prediction.timings

        start = time.perf_counter()
        response = protos.PredictResponse()
        for name, array in prediction.outputs.items():
            tensors.fill_proto(response.outputs[name], array)
        _fill_spec(response.model_spec, served)
        serialized: bytes = response.SerializeToString()
        record.timings["build"] = time.perf_counter() - start
        return serialized

    def _find(self, spec: Any, call: Call, record: Record) -> Served:
        served = self.table.find(spec, call.metadata)
        record.model = served.name
        self.check(served, call)
        return served

    def _inputs(self, request: Any, signature: Signature) -> dict[str, np.ndarray]:
        inputs = {}
        for name, alias in signature.aliases(request.inputs.keys()).items():
            proto = request.inputs[name]
            if proto.tensor_shape.dim:
                self.limits.check_batch(name, proto.tensor_shape.dim[0].size)
            with _named(name):
                declared = tensors.declared(proto, self.limits.max_elements, self.limits.max_strings)
            signature.inputs[alias].check(name, *declared)  # before there is memory for them
            with _named(name):
                inputs[name] = tensors.values_of(proto, *declared)
        return inputs

    def _metadata(self, data: bytes, call: Call, record: Record) -> Any:
        request = wire.parse(protos.GetModelMetadataRequest, data, self.limits.max_parts)
        served = self._find(request.model_spec, call, record)
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

    def _status(self, data: bytes, call: Call, record: Record) -> Any:
        request = wire.parse(protos.GetModelStatusRequest, data, self.limits.max_parts)
        metadata = call.metadata
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

    def _not_served(self, data: bytes, call: Call, record: Record) -> Any:
        raise RequestError(grpc.StatusCode.UNIMPLEMENTED, _NOT_SERVED[record.method])


def trailers(record: Record) -> tuple[tuple[str, str], ...]:
    """Trailing metadata of every answer: the request's id, and the microseconds of its stages."""
    return ((REQUEST_ID_HEADER, record.request_id), (TIMINGS_HEADER, record.timings_text()))


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidInputError as error:
        raise InvalidInputError(f"tensor parsing error: {name:.100}: {error}") from error


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
