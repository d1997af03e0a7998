"""Imports go down only, never in a circle, and what a server or a client loads never loads TensorFlow."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "amlrealtimeai"
LEVELS = (
    ("__main__", "lab"),
    ("resnet50", "contrib"),
    ("accel", "pipeline", "deployment_client"),
    ("core",),
    ("convert", "containers", "targets"),
    ("serving", "client"),
    ("artifact",),
    ("npu", "store"),
    ("command_line", "errors", "exceptions", "lazy", "resources", "retired", "telemetry"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# authoring alone imports these; h5py and tf2onnx bring TensorFlow's weight or need it
AUTHORING = {"tensorflow", "tf_keras", "keras", "tf2onnx", "h5py"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path, nodes: Iterator[ast.AST] | None = None) -> set[str]:
    """Names that the file imports anywhere, or in `nodes` only; texts that name a module of ours count, too."""
    found = set()
    for node in nodes or ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= below if below <= set(MODULES) else below | {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
            found |= {node.value} & set(MODULES)
    return found


@cache
def our_rooms(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(path) if name.startswith("amlrealtimeai."))
    return {part[1] for part in parts if part[1] in LEVEL} - {room_of(path)}


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]
MODULES = {module_of(path): path for path in FILES}


def at_import(path: Path) -> set[str]:
    """Modules of ours that are run when this one is imported: not those in functions, nor those for type checking."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        yield node
        for child in ast.iter_child_nodes(node):
            checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            if (
                not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Constant)
                and not checking
            ):
                yield from walk(child)

    return imports(path, walk(tree_of(path))) & set(MODULES) - {module_of(path)}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of the graph, from a node back to itself; empty when there is none."""
    done: set[str] = set()

    def follow(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for after in sorted(graph.get(node, ())):
                if found := follow(after, [*way, node]):
                    return found
            done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := follow(node, []))), [])


def test_every_room_has_a_level() -> None:
    assert {room_of(path) for path in FILES} - set(LEVEL) == set()


def test_imports_go_down_only() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)} imports {room}"
        for path in FILES
        for room in our_rooms(path)
        if LEVEL[room] < LEVEL[room_of(path)]
    ]
    assert upward == []


def test_rooms_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        graph.setdefault(room_of(path), set()).update(our_rooms(path))
    assert circle(graph) == []


def test_files_do_not_import_each_other_in_a_circle() -> None:
    assert circle({module: at_import(path) for module, path in MODULES.items()}) == []


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
    ],
)
def test_a_circle_would_be_seen(graph: dict[str, set[str]], found: list[str]) -> None:
    assert circle(graph) == found


def test_the_npu_knows_nothing_of_the_rest() -> None:
    rooms = {room for path in FILES if room_of(path) == "npu" for room in our_rooms(path)}
    assert rooms <= {"errors"}


def test_serving_client_npu_and_store_never_import_tensorflow() -> None:
    low = [path for path in FILES if LEVEL[room_of(path)] >= LEVEL["serving"]]
    heavy = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in low
        for name in imports(path)
        if name.split(".")[0] in AUTHORING
    ]
    assert heavy == []
