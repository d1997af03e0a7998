"""What the methods of PredictionService and ModelService answer, from the bytes of a request to those of its answer."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from amlrealtimeai.artifact.definition import Signature, TensorSpec
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.serving.protocol import protos, tensors, wire
from amlrealtimeai.serving.request.answers import RequestError
from amlrealtimeai.serving.request.auth import check_key
from amlrealtimeai.serving.request.request import Request
from amlrealtimeai.serving.request.table import Served, check_label

_PREDICT_METHOD = "tensorflow/serving/predict"
_NOT_SERVED = {
    "Classify": "Classify is not served: models here have no classification signature; call Predict",
    "Regress": "Regress is not served: models here have no regression signature; call Predict",
    "MultiInference": "MultiInference is not served; call Predict, once for each model",
    "HandleReloadConfigRequest": "HandleReloadConfigRequest is not served: deploy or update the service instead",
}
Arrays = dict[str, np.ndarray]


def respond(request: Request, data: bytes) -> bytes:
    """The serialised response to a serialised request of any method; raises RequestError or InvalidInputError."""
    response: bytes = _METHODS[request.record.method](request, data)
    return response


def service_of(request: Request, data: bytes) -> str:
    """Name of the model that a Predict is for; "" where it does not matter yet, or where answering will say why."""
    if request.record.method != "Predict" or not request.servicer.admission.has_lanes:
        return ""
    try:
        spec = protos.ModelSpec.FromString(wire.first(data, protos.PredictRequest.MODEL_SPEC_FIELD_NUMBER))
        return request.servicer.table.name_of(spec, request.metadata)
    except (RequestError, InvalidInputError, DecodeError):
        return ""


def predict(request: Request, message: Any) -> tuple[Served, Arrays]:
    """The outputs for a PredictRequest, by the names that its sender uses."""
    served = _find(request, message.model_spec)
    signature = served.model.signature
    _check_signature_name(message.model_spec, signature)
    outputs = list(message.output_filter)
    signature.select(outputs)
    inputs = _inputs(request, message, signature)
    timings = request.record.timings
    timings["parse"] = time.perf_counter() - request.record.started - timings["queue"]
    prediction = served.model.predict(inputs, outputs, request.check)
    timings.update(prediction.timings)
    return served, prediction.outputs


def metadata(request: Request, message: Any) -> Any:
    """The GetModelMetadataResponse."""
    served = _find(request, message.model_spec)
    if not message.metadata_field:
        raise InvalidInputError("GetModelMetadataRequest must specify at least one metadata_field: signature_def")
    for name in message.metadata_field:
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


def status(request: Request, message: Any) -> Any:
    """The GetModelStatusResponse: every version that is known."""
    table = request.servicer.table
    name = table.name_of(message.model_spec, request.metadata)
    request.record.model = name
    check_key(request.servicer.keys_of(name), request.metadata)
    check_label(message.model_spec)
    states = table.states(name)
    if message.model_spec.HasField("version"):
        wanted = message.model_spec.version.value
        states = {version: state for version, state in states.items() if version == wanted}
    if not states:
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name:.100}")
    response = protos.GetModelStatusResponse()
    for version, (state, text) in states.items():
        found = response.model_version_status.add(version=version, state=state)
        found.status.error_message = text[:1000]
        found.status.error_code = grpc.StatusCode.UNKNOWN.value[0] if text else 0
    return response


def _predict(request: Request, data: bytes) -> bytes:
    served, outputs = predict(request, _parsed(request, protos.PredictRequest, data))
    start = time.perf_counter()
    response = protos.PredictResponse()
    for name, array in outputs.items():
        tensors.fill_proto(response.outputs[name], array)
    _fill_spec(response.model_spec, served)
    serialized: bytes = response.SerializeToString()
    request.record.timings["build"] = time.perf_counter() - start
    return serialized


def _metadata(request: Request, data: bytes) -> bytes:
    serialized: bytes = metadata(request, _parsed(request, protos.GetModelMetadataRequest, data)).SerializeToString()
    return serialized


def _status(request: Request, data: bytes) -> bytes:
    serialized: bytes = status(request, _parsed(request, protos.GetModelStatusRequest, data)).SerializeToString()
    return serialized


def _not_served(request: Request, data: bytes) -> bytes:
    raise RequestError(grpc.StatusCode.UNIMPLEMENTED, _NOT_SERVED[request.record.method])


_METHODS: dict[str, Callable[[Request, bytes], bytes]] = {
    "Predict": _predict,
    "GetModelMetadata": _metadata,
    "GetModelStatus": _status,
    **dict.fromkeys(_NOT_SERVED, _not_served),
}


def _parsed(request: Request, kind: Any, data: bytes) -> Any:
    return wire.parse(kind, data, request.servicer.limits.max_parts)


def _find(request: Request, spec: Any) -> Served:
    """The model that is asked for, or RequestError; whoever has no key hears the same of every name."""
    servicer = request.servicer
    name = servicer.table.name_of(spec, request.metadata)
    check_key(servicer.keys_of(name), request.metadata)
    served = servicer.table.find(name, spec)
    request.record.model = served.name
    return served


def _inputs(request: Request, message: Any, signature: Signature) -> Arrays:
    limits = request.servicer.limits
    inputs = {}
    for name, alias in signature.aliases(message.inputs.keys()).items():
        proto = message.inputs[name]
        if proto.tensor_shape.dim:
            limits.check_batch(name, proto.tensor_shape.dim[0].size)
        with _named(name):
            declared = tensors.declared(proto, limits.max_elements, limits.max_strings)
        signature.inputs[alias].check(name, *declared)  # before there is memory for them
        with _named(name):
            inputs[name] = tensors.values_of(proto, *declared)
    return inputs


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
