"""Model, program and converted files that somebody damaged by chance or on purpose: a clear error or the right bits.

    python -m tests.hardening.mutated_files [--count 20000] [--seed 0]

A few hundred cases share a forked process, which may use 4 GiB beyond what it had. Prints the first case of each that
crashes it, runs for a minute or raises anything but this project's errors; the exit status says whether one did.
"""

import argparse
import copy
import faulthandler
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from amlrealtimeai import npu
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import AmlRealtimeAiError
from amlrealtimeai.npu import program_file
from tests.hardening.fuzz import mutated
from tests.npu.graphs import EXACT
from tests.npu.random_graphs import random_graph
from tests.npu.random_programs import random_case
from tests.serving.models import encode, image_model, picture

_NUMBERS = [-(2**63), -(2**31), -129, -2, -1, 0, 1, 2, 3, 5, 7, 64, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62]
_SECONDS, _MEMORY, _CASES_A_PROCESS, _SOURCES = 60, 4 * 2**30, 200, 40
_OTHERS: list[Any] = [None, "", "x", 1.5, -0.0, float("nan"), True, [], {}, [1], "mv_mul", "y", "ß" * 300]
_Source = random.Random


def damaged_model(seed: int) -> bytes:
    """An ONNX file: its bytes changed, or its nodes, attributes, constants and shapes."""
    source = random.Random(seed)
    document = _graph(seed % _SOURCES)[0]
    if source.random() < 0.5:
        return mutated(source, document.SerializeToString())
    document = copy.deepcopy(document)
    for _ in range(source.choice((1, 1, 2, 4))):
        source.choice(_CHANGES)(source, document)
    return document.SerializeToString()


def damaged_program(seed: int) -> bytes:
    """A program file: its bytes changed, or its content, with the digest that fits the new content."""
    source = random.Random(seed)
    whole = _program(seed % _SOURCES)[0]
    if source.random() < 0.3:
        return mutated(source, whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(contents.pop("program.json"))
    arrays = {name.removesuffix(".npy"): np.load(io.BytesIO(data)) for name, data in contents.items()}
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        if source.random() < 0.75 or not arrays:
            _change_json(source, document["program"])
        else:
            _change_array(source, arrays)
    document["digest"] = program_file._digest(document["program"], arrays)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        archive.writestr("program.json", json.dumps(document))
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    return result.getvalue()


def damaged_converted(seed: int) -> bytes:
    """A converted model: its bytes changed, or its definition."""
    source = random.Random(seed)
    if source.random() < 0.2:
        return mutated(source, _converted())
    with zipfile.ZipFile(io.BytesIO(_converted())) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    definition = json.loads(contents["service_def.json"])
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        _change_json(source, definition)
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        for name, data in (contents | {"service_def.json": json.dumps(definition).encode()}).items():
            archive.writestr(name, data)
    return result.getvalue()


@cache
def _converted() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return image_model(Path(folder, "m.accelonnx")).read_bytes()


@cache
def _graph(seed: int) -> tuple[onnx.ModelProto, np.ndarray]:
    return random_graph(seed)


@cache
def _program(seed: int) -> tuple[bytes, np.ndarray]:
    program, image, _ = random_case(seed)
    with tempfile.TemporaryDirectory() as folder:
        program.save(Path(folder, "p"))
        return Path(folder, "p").read_bytes(), image


def _change_json(source: _Source, value: Any) -> None:
    """One value somewhere within, of the same kind mostly."""
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        if not keys:
            return
        key = source.choice(keys)
        if not isinstance(value[key], (dict, list)) or source.random() < 0.05:
            break
        value = value[key]
    kind, old = source.random(), value[key]
    if kind < 0.15:
        del value[key]
    elif kind < 0.25 and isinstance(value, list):
        value.insert(key, copy.deepcopy(source.choice(value)))
    elif kind < 0.35:
        value[key] = source.choice(_OTHERS)
    elif isinstance(old, int) and not isinstance(old, bool):
        value[key] = source.choice([*_NUMBERS, old + 1, old - 1, old * 2, old // 2])
    else:
        others = list(value.values()) if isinstance(value, dict) else value
        value[key] = copy.deepcopy(source.choice(others))


def _change_array(source: _Source, arrays: dict[str, np.ndarray]) -> None:
    name = source.choice(list(arrays))
    array, kind = arrays[name].copy(), source.randrange(6)
    if kind == 0 and array.size:
        limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else np.finfo(array.dtype)
        array.flat[source.randrange(array.size)] = source.choice([limits.min, limits.max, 0])
    elif kind == 1:
        array = array[: source.randrange(len(array) + 1)] if array.ndim else array
    elif kind == 2:
        array = array.astype(source.choice([np.int8, np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64]))
    elif kind == 3:
        array = array.reshape(source.choice([(-1,), (1, *array.shape), (*array.shape, 1)]))
    elif kind == 4 and array.dtype.kind == "f" and array.size:
        array.flat[source.randrange(array.size)] = source.choice([np.nan, np.inf, -np.inf, 3e38, 1e-45])
    else:
        array = source.choice(list(arrays.values()))
    arrays[name] = array


def _of_a_node(change: Callable[[_Source, onnx.ModelProto, onnx.NodeProto], None]) -> Callable:
    def changed(source: _Source, document: onnx.ModelProto) -> None:
        if document.graph.node:
            change(source, document, source.choice(document.graph.node))

    return changed


def _other_operator(source: _Source, document: onnx.ModelProto, node: onnx.NodeProto) -> None:
    node.op_type = source.choice(["Conv", "Add", "MatMul", "Gemm", "Resize", "Slice", "LRN", "Loop", "If", "X", ""])
    node.domain = source.choice(["", "", "", "ai.onnx.ml", "x"])


def _other_inputs(source: _Source, document: onnx.ModelProto, node: onnx.NodeProto) -> None:
    known = [
        *(v for n in document.graph.node for v in n.output),
        *(k.name for k in document.graph.initializer),
        "",
        "?",
    ]
    kind = source.randrange(4)
    if kind == 0 and node.input:
        node.input[source.randrange(len(node.input))] = source.choice(known)
    elif kind == 1 and node.input:
        del node.input[source.randrange(len(node.input)) :]
    elif kind == 2:
        node.input.append(source.choice(known))
    elif node.output:
        node.output[source.randrange(len(node.output))] = source.choice(known)


def _other_attribute(source: _Source, document: onnx.ModelProto, node: onnx.NodeProto) -> None:
    if not node.attribute:
        node.attribute.append(
            onnx.helper.make_attribute(source.choice(["axis", "group", "to"]), source.choice(_NUMBERS))
        )
        return
    attribute = source.choice(node.attribute)
    kind = source.randrange(5)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = source.choice(list(onnx.AttributeProto.AttributeType.values()))
    elif kind == 2 and attribute.ints:
        attribute.ints.append(source.choice(_NUMBERS))
    elif attribute.ints:
        attribute.ints[source.randrange(len(attribute.ints))] = source.choice(_NUMBERS)
    else:
        attribute.i, attribute.f = source.choice(_NUMBERS), source.choice([0.0, -1.0, 1e38, float("nan")])
        attribute.s = source.choice([b"", b"SAME_UPPER", b"cubic", b"\xff\xfe"])


def _other_constant(source: _Source, document: onnx.ModelProto) -> None:
    if not document.graph.initializer:
        return
    constant, kind = source.choice(document.graph.initializer), source.randrange(5)
    if kind == 0:
        constant.data_type = source.choice(list(onnx.TensorProto.DataType.values()))
    elif kind == 1 and constant.dims:
        constant.dims[source.randrange(len(constant.dims))] = source.choice(_NUMBERS)
    elif kind == 2:
        constant.raw_data = mutated(source, constant.raw_data)
    elif kind == 3:
        constant.dims.append(source.choice((0, 1, 2)))
    else:
        constant.data_location = onnx.TensorProto.EXTERNAL
        constant.external_data.add(key="location", value=source.choice(["../x", "/etc/passwd", "", "nothing"]))


def _other_shape(source: _Source, document: onnx.ModelProto) -> None:
    value = source.choice([*document.graph.input, *document.graph.output])
    tensor, kind = value.type.tensor_type, source.randrange(4)
    if kind == 0:
        tensor.elem_type = source.choice(list(onnx.TensorProto.DataType.values()))
    elif kind == 1 and tensor.shape.dim:
        source.choice(tensor.shape.dim).dim_value = source.choice(_NUMBERS)
    elif kind == 2:
        tensor.shape.dim.add(dim_param="n")
    else:
        value.name = source.choice(["", "x", "v0", "ß"])


def _other_version(source: _Source, document: onnx.ModelProto) -> None:
    document.opset_import[0].version = source.choice([*_NUMBERS, 6, 9, 11, 13, 18, 23])
    document.ir_version = source.choice([0, 3, 8, 10, 2**31])


def _order(source: _Source, document: onnx.ModelProto) -> None:
    nodes = list(document.graph.node)
    source.shuffle(nodes)
    del document.graph.node[:]
    document.graph.node.extend(nodes[: source.randrange(len(nodes) + 1)] if source.random() < 0.3 else nodes)


_CHANGES: list[Callable[[_Source, onnx.ModelProto], None]] = [
    *(_of_a_node(_other_operator), _of_a_node(_other_inputs), _of_a_node(_other_attribute)),
    *(_of_a_node(_other_attribute), _other_constant, _other_constant, _other_shape, _other_version, _order),
]


def try_model(path: Path, seed: int) -> bool:
    """Whether the damaged model still compiles; what compiles must run, with the reference's bits."""
    path.write_bytes(damaged_model(seed))
    try:
        program = npu.compile(path, fmt=EXACT)
    except AmlRealtimeAiError:
        return False
    _run_both(program, _graph(seed % _SOURCES)[1])
    return True


def try_program(path: Path, seed: int) -> bool:
    """Whether the damaged program is still taken; what is taken must run, with the reference's bits."""
    path.write_bytes(damaged_program(seed))
    try:
        program = npu.load(path)
        npu.Native(program, threads=1)
    except AmlRealtimeAiError:
        return False
    assert repr(program) and program.listing() and str(npu.timing.estimate(program))
    _run_both(program, _program(seed % _SOURCES)[1])
    return True


def try_converted(path: Path, seed: int) -> bool:
    """Whether the damaged converted model is still taken; then it answers, or says why not."""
    path.write_bytes(damaged_converted(seed))
    try:
        model = ConvertedModel.load(path)
        assert repr(model)
        model.predict({next(iter(model.signature.inputs)): np.array([encode(picture(), "PNG")], object)})
    except AmlRealtimeAiError:
        return False
    return True


def _run_both(program: npu.Program, image: np.ndarray) -> None:
    try:
        found = npu.Native(program, threads=2).run(image)
        expected = npu.reference.run(program, image)
    except AmlRealtimeAiError:
        return
    for name, values in expected.items():
        assert found[name].tobytes() == values.tobytes(), f"{name}: other bits in the native kernel"


TRIALS = {"model": try_model, "program": try_program, "converted": try_converted}


def first_fault(kind: str, seeds: range) -> str | None:
    """What was wrong with the first of `seeds` that is neither refused in words nor right; None for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        reached, said = Path(folder, "seed"), Path(folder, "said")
        child = os.fork()
        if not child:
            _child(kind, seeds, reached, said)
        _, status = os.waitpid(child, 0)
        if status:
            return f"{kind}, seed {reached.read_text()}: exit status {status}\n{said.read_text()}"
    return None


def _child(kind: str, seeds: range, reached: Path, said: Path) -> None:
    with said.open("w") as report:
        faulthandler.enable(report)
        sys.stderr = report
        warnings.simplefilter("ignore")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.dump_traceback_later(_SECONDS * len(seeds), exit=True, file=report)
        status = 1
        try:
            for seed in seeds:
                reached.write_text(str(seed))
                signal.alarm(_SECONDS)
                TRIALS[kind](reached.parent / "damaged", seed)
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            report.flush()
            os._exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    faults = 0
    for begin in range(chosen.seed, chosen.seed + chosen.count // len(TRIALS), _CASES_A_PROCESS):
        seeds = range(begin, min(begin + _CASES_A_PROCESS, chosen.seed + chosen.count // len(TRIALS)))
        for kind in TRIALS:
            fault = first_fault(kind, seeds)
            faults += fault is not None
            print(fault or f"{len(seeds)} {kind} files from seed {begin}: refused in words, or right", flush=True)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
