"""Imports go down only, and what a server or a client loads never loads TensorFlow."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "amlrealtimeai"
LEVELS = (
    ("__main__", "lab"),
    ("core", "accel", "pipeline", "resnet50", "deployment_client", "exceptions"),
    ("convert", "containers", "targets"),
    ("serving", "client"),
    ("artifact",),
    ("npu", "store"),
    ("command_line", "errors", "lazy", "resources"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# authoring alone imports these; h5py and tf2onnx bring TensorFlow's weight or need it
AUTHORING = {"tensorflow", "tf_keras", "keras", "tf2onnx", "h5py"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "amlrealtimeai"}
    return found


def our_rooms(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path) if name.startswith("amlrealtimeai."))
    return {part[1] for part in parts if part[1] in LEVEL} - {room_of(path)}


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_room_has_a_level():
    assert {room_of(path) for path in FILES} - set(LEVEL) == set()


def test_imports_go_down_only():
    upward = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in FILES
        for room in our_rooms(path)
        if LEVEL[room] < LEVEL[room_of(path)]
    ]
    assert upward == []


def test_the_npu_knows_nothing_of_the_rest():
    rooms = {room for path in FILES if room_of(path) == "npu" for room in our_rooms(path)}
    assert rooms <= {"errors"}


def test_the_converted_model_knows_the_npu_alone():
    rooms = {room for path in FILES if room_of(path) == "artifact" for room in our_rooms(path)}
    assert rooms <= {"npu", "errors"}


def test_serving_client_artifact_npu_and_store_never_import_tensorflow():
    low = [path for path in FILES if LEVEL[room_of(path)] >= LEVEL["serving"]]
    heavy = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in low
        for name in imports(path)
        if name.split(".")[0] in AUTHORING
    ]
    assert heavy == []
