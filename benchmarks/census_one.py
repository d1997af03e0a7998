"""One model of the census: compiles it, compares it with ONNX Runtime, prints what it found as JSON (see census.py)."""

import json
import os
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_FEW_VALUES = 12e6  # more than these, and the reference takes minutes
_MANY_WEIGHTS = 400e6


def main() -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    name, path, picture = sys.argv[1], Path(sys.argv[2]), np.load(sys.argv[3])
    print(json.dumps({key: str(value) for key, value in examine(name, path, picture).items()}))


def examine(name: str, path: Path, picture: np.ndarray) -> dict[str, Any]:
    """Compile one model and compare it with ONNX Runtime."""
    from amlrealtimeai import npu

    model = _model(name, path)
    stopping = npu.blockers(model)
    row: dict[str, Any] = {"outcome": "whole", "nodes": len(model.graph.node)}
    outputs = None
    if stopping:
        ops = sorted({blocker.op for blocker in stopping})
        cuts = {blocker.cut for blocker in stopping}
        last = {node.op_type for node in model.graph.node[-3:]}
        ended = len(cuts) == 1 and None not in cuts and ops == ["Softmax"] and "Softmax" in last
        row["outcome"] = "up to its Softmax" if ended else f"{len(stopping)} nodes for the host: {', '.join(ops)}"
        outputs = [str(next(iter(cuts)))] if ended else None
    if not stopping or outputs:
        row |= _measured(model, outputs, picture)
    else:
        row |= _converted(model, path, picture)
    row["peak"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def _model(name: str, path: Path) -> Any:
    import onnx

    family, architecture = name.split(":", 1)
    if family != "onnx":
        return onnx.load(path)
    model = onnx.load(Path(onnx.__file__).parent / f"backend/test/data/light/light_{architecture}.onnx")
    _randomise(model)
    return model


def _measured(model: Any, outputs: list[str] | None, picture: np.ndarray) -> dict[str, Any]:
    from amlrealtimeai import npu
    from amlrealtimeai.npu import unrounded

    begin = time.perf_counter()
    program = npu.compile(model, fmt="msfp16", outputs=outputs)
    row: dict[str, Any] = {"seconds": f"{time.perf_counter() - begin:.1f}", "chains": len(program.chains)}
    ((name, shape),) = program.inputs
    x = picture if shape[1] == 3 else picture.transpose(0, 2, 3, 1)
    if x.shape != shape:  # the light models have a size of their own
        x = np.ascontiguousarray(np.resize(picture, shape))
    x = np.ascontiguousarray(x)
    wanted = [port.name for port in program.output_ports]
    expected = _floats(model, wanted, name, x)
    found = npu.Native(program, threads=1).run(x)
    row["m7"] = f"{_error(found, expected):.1e}"
    row["top"] = _same_top(found, expected)
    values = sum(np.prod(program.tensors[chain.writes]) for chain in program.chains)
    weights = sum(matrix.mantissas.size for matrix in program.matrices.values())
    if values < _FEW_VALUES and weights < _MANY_WEIGHTS:
        reference = npu.reference.run(program, x)
        row["bits"] = "equal" if all(reference[n].tobytes() == found[n].tobytes() for n in wanted) else "DIFFER"
    del program
    row["exact"] = f"{_error(unrounded.run(model, x, outputs), expected):.1e}"
    for bits in (5, 6):
        coarse = npu.compile(model, fmt=npu.BlockFormat(16, bits, 8), outputs=outputs)
        row[f"m{bits}"] = f"{_error(npu.Native(coarse, threads=1).run(x), expected):.1e}"
    return row


def _converted(model: Any, path: Path, picture: np.ndarray) -> dict[str, Any]:
    """The same for a model of which the host runs parts; "compile s" is the whole conversion, checks included."""
    from amlrealtimeai import npu
    from amlrealtimeai.artifact.converted import ConvertedModel
    from amlrealtimeai.convert import convert_onnx

    target = path.with_suffix(".accelonnx")
    begin = time.perf_counter()
    report = convert_onnx(model, target, name=path.stem, fmt="msfp16", require_fpga=False)
    row: dict[str, Any] = {"seconds": f"{time.perf_counter() - begin:.1f}"}
    parts = [stage.kind for stage in report.stages]
    left = sorted({node.op for node in report.blocked})
    row["outcome"] = f"{parts.count('npu')} NPU and {parts.count('onnx')} host parts: {', '.join(left)}"
    converted = ConvertedModel.load(target)
    ((name, spec),) = converted.signature.inputs.items()
    x = np.ascontiguousarray(picture if spec.shape[1] == 3 else picture.transpose(0, 2, 3, 1))
    expected = _floats(model, list(converted.signature.outputs), name, x)
    found = converted.predict({name: x}).outputs
    row |= {"m7": f"{_error(found, expected):.1e}", "top": _same_top(found, expected), "bits": "equal"}
    board, chains = {name: x}, 0
    for stage in converted.stages:
        wires = stage.definition
        results = stage.run({port: board[tensor] for port, tensor in wires.inputs.items()}, list(wires.outputs))
        board |= {tensor: results[port] for port, tensor in wires.outputs.items()}
        if stage.kind == "npu":
            with zipfile.ZipFile(target) as archive, tempfile.NamedTemporaryFile(suffix=".npu") as file:
                file.write(archive.read(str(wires.file)))
                file.flush()
                program = npu.load(file.name)
            chains += len(program.chains)
            reference = npu.reference.run(program, next(board[tensor] for tensor in wires.inputs.values()))
            if any(reference[port].tobytes() != results[port].tobytes() for port in wires.outputs):
                row["bits"] = "DIFFER"
    target.unlink()
    return row | {"chains": chains}


def _floats(model: Any, wanted: list[str], name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """What ONNX Runtime computes in float32."""
    import onnx
    import onnxruntime

    from amlrealtimeai.artifact.runtime import session

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_empty_tensor_value_info(output) for output in wanted)
    running = session(whole.SerializeToString(), onnxruntime.SessionOptions())
    return dict(zip(wanted, running.run(wanted, {name: x}), strict=True))


def _error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(found[name] - values).max() / np.abs(values).max()) for name, values in expected.items())


def _same_top(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    ((name, scores),) = expected.items()
    first, other = int(np.argmax(scores)), int(np.argmax(found[name]))
    if first == other:
        return "same"
    gap = scores.reshape(-1)[first] - scores.reshape(-1)[other]
    return "tie" if gap <= 2 * np.abs(found[name] - scores).max() else "OTHER"


def _randomise(model: Any) -> None:
    """The light models' weights are constants of one value: random ones in their place."""
    from onnx import numpy_helper

    rng, made = np.random.default_rng(0), dict[str, list[int]]()
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "ConstantOfShape":
            shape = [int(n) for n in shapes[node.input[0]]]
            made[node.output[0]] = shape
            model.graph.node.remove(node)
    variances = {node.input[4] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for name, shape in made.items():
        fan_in = max(1, int(np.prod(shape[1:])))
        values: np.ndarray = rng.normal(0, (2 / fan_in) ** 0.5 if len(shape) > 1 else 0.1, shape).astype(np.float32)
        values = np.abs(values) + 0.5 if name in variances else values
        model.graph.initializer.append(numpy_helper.from_array(values, name))


if __name__ == "__main__":
    main()
