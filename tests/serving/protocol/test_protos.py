"""The shipped descriptors: compiled from protos/, and wire compatible with TensorFlow Serving's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from amlrealtimeai.serving.protocol import protos

ROOT = Path(__file__).resolve().parents[3]


def test_the_shipped_file_is_what_the_protos_compile_to(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    out = tmp_path / "again.binpb"
    subprocess.run([sys.executable, ROOT / "protos" / "compile.py", out], check=True, timeout=60)
    compiled, shipped = descriptor_pb2.FileDescriptorSet(), descriptor_pb2.FileDescriptorSet()
    compiled.ParseFromString(out.read_bytes())
    shipped.ParseFromString((ROOT / "amlrealtimeai/serving/protocol/descriptors.binpb").read_bytes())
    assert compiled == shipped, "run: python protos/compile.py"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("predict_pb2", "PredictRequest"),
        ("predict_pb2", "PredictResponse"),
        ("model_pb2", "ModelSpec"),
        ("get_model_metadata_pb2", "GetModelMetadataRequest"),
        ("get_model_metadata_pb2", "GetModelMetadataResponse"),
        ("get_model_metadata_pb2", "SignatureDefMap"),
        ("get_model_status_pb2", "GetModelStatusRequest"),
        ("get_model_status_pb2", "GetModelStatusResponse"),
    ],
)
def test_every_field_is_tensorflow_servings(module: str, name: str) -> None:
    official = pytest.importorskip(f"tensorflow_serving.apis.{module}")
    compared: set[str] = set()
    compare(protos.message_class(f"tensorflow.serving.{name}").DESCRIPTOR, getattr(official, name).DESCRIPTOR, compared)


def compare(ours: object, theirs: object, compared: set[str]) -> None:
    if ours.full_name in compared:
        return
    compared.add(ours.full_name)
    for field in ours.fields:
        other = theirs.fields_by_number[field.number]
        assert (field.name, field.is_repeated) == (other.name, other.is_repeated), field.full_name
        if field.full_name == "tensorflow.serving.StatusProto.error_code":
            continue  # an enumeration there, its number here
        assert field.type == other.type, field.full_name
        if field.message_type:
            compare(field.message_type, other.message_type, compared)
        if field.enum_type:
            numbers = {value.name: value.number for value in field.enum_type.values}
            assert numbers.items() <= {value.name: value.number for value in other.enum_type.values}.items()


def test_messages_are_built_outside_the_default_pool() -> None:
    from google.protobuf import descriptor_pool

    assert protos.PredictRequest.DESCRIPTOR.file.pool is not descriptor_pool.Default()
