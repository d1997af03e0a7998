"""Message classes of the TensorFlow Serving API, in a descriptor pool of their own.

`tensorflow` and `tensorflow-serving-api` register the same names in protobuf's default pool and may be in this process
too, so ours are built privately from descriptors.binpb (compiled from protos/). Messages of the two worlds are
different classes and meet only as bytes. protobuf is loaded with the first of them: importing a client need not wait.
"""

import threading
from pathlib import Path
from typing import Any

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"

_LOCK = threading.RLock()  # two pools would have two classes of one message
_MESSAGES = {
    "TensorProto": "tensorflow",
    "TensorShapeProto": "tensorflow",
    "SignatureDef": "tensorflow",
    **dict.fromkeys(
        (
            "SignatureDefMap",
            "ModelSpec",
            "PredictRequest",
            "PredictResponse",
            "GetModelMetadataRequest",
            "GetModelMetadataResponse",
            "GetModelStatusRequest",
            "GetModelStatusResponse",
        ),
        "tensorflow.serving",
    ),
}


def message_class(name: str) -> Any:
    """The class of the message with this full name."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(__getattr__("POOL").FindMessageTypeByName(name))


def __getattr__(name: str) -> Any:
    """A message class of _MESSAGES, the POOL that they are in, or its FILES, serialised; each is made once."""
    made = globals()
    with _LOCK:
        if name in made:
            pass
        elif name in ("POOL", "FILES"):
            made["FILES"], made["POOL"] = _pool()
        elif name in _MESSAGES:
            made[name] = message_class(f"{_MESSAGES[name]}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return made[name]


def _pool() -> tuple[list[bytes], Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool

    shipped = descriptor_pb2.FileDescriptorSet.FromString((Path(__file__).parent / "descriptors.binpb").read_bytes())
    files = [file.SerializeToString() for file in shipped.file]  # imported files come before those that import them
    pool = descriptor_pool.DescriptorPool()
    for data in files:
        pool.AddSerializedFile(data)
    return files, pool
