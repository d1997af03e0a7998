"""What is measured: the NPU kernel and its peers, each loaded from files, each a function of one float32 image.

    prepare(network, folder, formats)     writes <network>.onnx, <network>.int8.onnx and <network>.<format>.npu
    load(folder, network, engine, threads) -> run(image)

Engines: "onnxruntime fp32", "onnxruntime int8", "openvino f32", "openvino bf16", "openvino int8", "npu <format>".
int8 is ONNX Runtime's static quantisation: QDQ, one scale per output channel, calibrated on one random batch of 4.
OpenVINO is optional (pip install 'amlrealtimeai[bench]'). Only what an engine needs is imported.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from benchmarks.measuring import Run, resident

PEERS = ("onnxruntime fp32", "onnxruntime int8", "openvino f32", "openvino bf16", "openvino int8")


def prepare(network: str, folder: Path, formats: list[str], peers: bool = True) -> dict[str, float]:
    """Write the network's files into `folder`; seconds that npu.compile took, by format."""
    import onnx

    from amlrealtimeai import npu
    from benchmarks import networks

    document = networks.model(network)
    seconds = {}
    for fmt in formats:
        begin = time.perf_counter()
        program = npu.compile(document, fmt=fmt)
        seconds[fmt] = time.perf_counter() - begin
        program.save(folder / f"{network}.{fmt}.npu")
    np.save(folder / f"{network}.npy", networks.image(document))
    if peers:
        onnx.save(document, folder / f"{network}.onnx")
        _quantize(folder, network, [networks.image(document, seed=seed) for seed in range(4)])
    return seconds


def _quantize(folder: Path, network: str, batch: list[np.ndarray]) -> None:
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batch(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[np.ndarray] = iter(batch)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {_input_name(folder / f"{network}.onnx"): image}

    folded = folder / f"{network}.folded.onnx"
    quant_pre_process(folder / f"{network}.onnx", folded, skip_symbolic_shape=True)
    quantization.quantize_static(
        folded,
        folder / f"{network}.int8.onnx",
        Batch(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    folded.unlink()


def _input_name(path: Path) -> str:
    import onnx

    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


def load(folder: Path, network: str, engine: str, threads: int) -> Run:
    """`engine` made ready to run `network` on `threads` threads."""
    kind, variant = engine.split()
    if kind == "npu":
        from amlrealtimeai import npu

        native = npu.Native(npu.load(folder / f"{network}.{variant}.npu"), threads=threads)
        return native.run
    path = folder / (f"{network}.int8.onnx" if variant == "int8" else f"{network}.onnx")
    return _onnxruntime(path, threads) if kind == "onnxruntime" else _openvino(path, variant, threads)


def _onnxruntime(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})


def _openvino(path: Path, variant: str, threads: int) -> Run:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
    if variant != "int8":
        settings["INFERENCE_PRECISION_HINT"] = variant
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> object:
        return {port: value.copy() for port, value in request.infer({0: image}).items()}

    return run


def peers() -> list[str]:
    """The peers that are installed."""
    from importlib.util import find_spec

    return [name for name in PEERS if find_spec(name.split()[0])]


def _report_memory(folder: str, network: str, engine: str, threads: str) -> None:
    """The child's part of `measuring.memory`: seconds to load, MiB resident after two runs, MiB of Python and NumPy."""
    before = resident()
    image = np.load(Path(folder) / f"{network}.npy")
    begin = time.perf_counter()
    run = load(Path(folder), network, engine, int(threads))
    loaded = time.perf_counter() - begin
    run(image)
    run(image)
    print(loaded, resident(), before)


if __name__ == "__main__":
    _report_memory(*sys.argv[1:])
