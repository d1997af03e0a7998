"""Compile protos/ to serving/protocol/descriptors.binpb:  python protos/compile.py [OUT]  (needs grpcio-tools)."""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parent / "amlrealtimeai" / "serving" / "protocol" / "descriptors.binpb"


def compile_to(out: Path) -> None:
    """Write the descriptor set of every .proto file below this folder, google/protobuf's included."""
    sources = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
    arguments = ["protoc", f"-I{HERE}", f"-I{files('grpc_tools') / '_proto'}", "--include_imports"]
    if protoc.main([*arguments, f"--descriptor_set_out={out}", *sources]) != 0:
        raise SystemExit("protoc refused the files; its message is above")


if __name__ == "__main__":
    compile_to(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
