"""TensorFlow Serving's own client stub, in this very process, gets the same answers as ours."""

import grpc
import numpy as np
import pytest

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.server import Server
from tests.serving.conftest import predict, request_of
from tests.serving.models import encode, picture

pytest.importorskip("tensorflow_serving.apis.predict_pb2")

IMAGES = [encode(picture(), "JPEG"), encode(picture(400, 200), "PNG")]


def test_predict(server: Server, channel: grpc.Channel, models: dict[str, ConvertedModel]) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "means"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(IMAGES, shape=[2]))
    theirs = tf.make_ndarray(stub.Predict(request, timeout=10).outputs["output_alias"])
    expected = models["means"].predict({"images": np.array(IMAGES, object)}).outputs["output_alias"]
    np.testing.assert_array_equal(theirs, expected)
    ours = predict(channel, request_of("means", images=np.array(IMAGES, object)))
    assert stub.Predict(request, timeout=10).SerializeToString(deterministic=True) == ours.SerializeToString(
        deterministic=True
    )


def test_float_inputs_either_way(channel: grpc.Channel) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    a, b = np.float32([[1, 2], [3, 4]]), np.float32([[10, 20], [30, 40]])
    request = predict_pb2.PredictRequest(output_filter=["sum:0"])
    request.model_spec.name = "arithmetic"
    request.inputs["a"].CopyFrom(tf.make_tensor_proto(a))  # tensor_content
    request.inputs["b"].CopyFrom(predict_pb2.PredictRequest().inputs["b"])
    request.inputs["b"].dtype = tf.float32.as_datatype_enum
    request.inputs["b"].tensor_shape.CopyFrom(tf.TensorShape(b.shape).as_proto())
    request.inputs["b"].float_val.extend(b.ravel().tolist())
    got = tf.make_ndarray(stub.Predict(request, timeout=10).outputs["sum:0"])
    assert got.tolist() == [[11, 22], [33, 44]]


def test_metadata_and_status(channel: grpc.Channel) -> None:
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
    )

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "means"
    response = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["images"].name == "Placeholder:0"

    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "means"
    (state,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(asked, timeout=10).model_version_status
    assert (state.version, state.state) == (3, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def test_unserved_methods(channel: grpc.Channel) -> None:
    from tensorflow_serving.apis import classification_pb2, prediction_service_pb2_grpc

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "means"
    with pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Classify(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
