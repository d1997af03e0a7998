"""One server with three small models for the whole room, and calls on it that show code and text."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.protocol import protos, tensors
from amlrealtimeai.serving.server import Server
from tests.serving.models import arithmetic_model, image_model, many_output_model

Call = Callable[..., Any]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ConvertedModel]:
    folder = tmp_path_factory.mktemp("models")
    made = {"means": image_model, "arithmetic": arithmetic_model, "heads": many_output_model}
    return {name: ConvertedModel.load(make(folder / f"{name}.accelonnx")) for name, make in made.items()}


@pytest.fixture(scope="session")
def server(models: dict[str, ConvertedModel]) -> Iterator[Server]:
    with Server() as running:
        for name, model in models.items():
            running.add_model(name, model, version=3)
        yield running


def channel_to(server: Server) -> grpc.Channel:
    return grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)])


def unary(channel: grpc.Channel, method: str, request: Any, response: Any, **options: Any) -> Any:
    """Call by full method name; `request` a message or raw bytes."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    call = channel.unary_unary(method, None, response.FromString)
    return call(data, timeout=options.pop("timeout", 20), **options)


def predict(channel: grpc.Channel, request: Any, **options: Any) -> Any:
    return unary(channel, f"/{protos.PREDICTION_SERVICE}/Predict", request, protos.PredictResponse, **options)


def request_of(model: str = "", outputs: tuple[str, ...] = (), **inputs: Any) -> Any:
    request = protos.PredictRequest(output_filter=outputs)
    if model:
        request.model_spec.name = model
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value if isinstance(value, protos.TensorProto) else tensors.to_proto(value))
    return request


def refused(call: Call) -> tuple[str, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.fixture(scope="session")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with channel_to(server) as open_channel:
        yield open_channel


@pytest.fixture
def pair() -> np.ndarray:
    return np.array([[1, 2]], np.float32)
