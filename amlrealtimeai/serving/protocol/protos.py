"""Message classes of the TensorFlow Serving API, in a descriptor pool of their own.

`tensorflow` and `tensorflow-serving-api` register the same names in protobuf's default pool and may be in this process
too, so ours are built privately from descriptors.binpb (compiled from protos/). Messages of the two worlds are
different classes and meet only as bytes.
"""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_SET = descriptor_pb2.FileDescriptorSet.FromString((Path(__file__).parent / "descriptors.binpb").read_bytes())
FILES = [file.SerializeToString() for file in _SET.file]  # imported files come before those that import them
POOL = descriptor_pool.DescriptorPool()
for _data in FILES:
    POOL.AddSerializedFile(_data)


def message_class(name: str) -> Any:
    """The class of the message with this full name."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


TensorProto = message_class("tensorflow.TensorProto")
TensorShapeProto = message_class("tensorflow.TensorShapeProto")
SignatureDef = message_class("tensorflow.SignatureDef")
SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
ModelSpec = message_class("tensorflow.serving.ModelSpec")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
