"""Ask a service with TensorFlow Serving's own client (pip install tensorflow-serving-api), nothing of ours."""

import argparse
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("service", metavar="HOST:PORT")
parser.add_argument("picture", type=Path)
parser.add_argument("--root", type=Path, help="PEM file of the certificates to trust; turns TLS on")
parser.add_argument("--key", help="the service's key")
options = parser.parse_args()

if options.root:
    channel = grpc.secure_channel(options.service, grpc.ssl_channel_credentials(options.root.read_bytes()))
else:
    channel = grpc.insecure_channel(options.service)
request = predict_pb2.PredictRequest()
request.inputs["images"].CopyFrom(tf.make_tensor_proto([options.picture.read_bytes()]))
metadata = [("authorization", f"Bearer {options.key}")] if options.key else []
answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10, metadata=metadata)
for name, tensor in answer.outputs.items():
    print(name, tf.make_ndarray(tensor))
