"""What runs a stage: Pillow and NumPy decode images, the NPU emulator the featurizer, ONNX Runtime host graphs.

A stage reads arrays by its own input names and returns arrays by its own output names; all are safe to call from
several threads at once. `kind` is the column of the latency table that its time is counted in.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from amlrealtimeai.artifact.definition import StageDef
from amlrealtimeai.artifact.preprocess import preprocess_images
from amlrealtimeai.artifact.runtime import onnxruntime, session, settings
from amlrealtimeai.artifact.watch import CHECK, Watch
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.cpus import usable_cpus

_WATCH = Watch()


class Stage(Protocol):
    """One runnable stage."""

    kind: str
    definition: StageDef

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Compute at least the outputs that are asked for; watch.CHECK is called meanwhile."""
        ...


class PreprocessStage:
    """Encoded images, object array [n] -> float32 [n, height, width, 3]."""

    kind = "decode"

    def __init__(self, definition: StageDef, max_pixels: int) -> None:
        self.definition = definition
        self._max_pixels = max_pixels

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Decode and prepare every image."""
        assert self.definition.parameters is not None
        return {
            "output": preprocess_images(inputs["images"], self.definition.parameters, self._max_pixels, CHECK.get())
        }


class NpuStage:
    """The featurizer: float32 [n, h, w, c] in, named float32 features out."""

    kind = "npu"

    def __init__(self, definition: StageDef, data: bytes, threads: int | None) -> None:
        from amlrealtimeai import npu

        self.definition = definition
        with _as_file(data) as path:
            program = npu.load(path)
        _check_names(definition, [name for name, _ in program.inputs], [name for name, _ in program.outputs])
        self._native = npu.Native(program, threads=threads)

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Run the whole program. Block floating point has no code for NaN and infinity, so they stop here."""
        (value,) = inputs.values()
        if not np.isfinite(value).all():
            raise InvalidInputError(
                f"input of stage {self.definition.name}: expected finite numbers, got NaN or infinity"
            )
        parts = []
        for image in range(len(value)):  # the kernel, too, takes one image after the other
            CHECK.get()()
            parts.append(self._native.run(value[image : image + 1]))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class OnnxStage:
    """A host graph in ONNX Runtime."""

    kind = "classifier"

    def __init__(self, definition: StageDef, data: bytes, threads: int | None) -> None:
        self.definition = definition
        self._run_options = onnxruntime().RunOptions
        options = settings()
        options.intra_op_num_threads = threads or usable_cpus()
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # an arena never gives memory back; host stages are small
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores belong to the NPU threads
        try:
            self._session = session(data, options)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise InvalidInputError(
                f"stage {definition.name}: ONNX Runtime cannot load {definition.file}: {first_line(error)}; "
                "convert the model again"
            ) from error
        _check_names(
            definition,
            [value.name for value in self._session.get_inputs()],
            [value.name for value in self._session.get_outputs()],
        )

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> dict[str, np.ndarray]:
        """Compute the outputs that are asked for. Raises InvalidInputError for inputs that do not fit together."""
        check, options = CHECK.get(), self._run_options()

        def stop() -> None:
            options.terminate = True  # looked at between two nodes

        try:
            with _WATCH.over(check, stop):
                results = self._session.run(outputs, inputs, options)
        except Exception as error:  # ONNX Runtime's exceptions share no base class, and name its source files
            check()
            if "alloc" in str(error).lower():
                raise
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in inputs.items())
            raise InvalidInputError(
                f"stage {self.definition.name} cannot compute inputs of these shapes: {shapes}; do they fit together?"
            ) from error
        return dict(zip(outputs, results, strict=True))


def make_stage(definition: StageDef, data: bytes | None, threads: int | None, max_pixels: int) -> Stage:
    """Build the runnable stage; `data` is the content of its file."""
    if definition.type == "preprocess":
        return PreprocessStage(definition, max_pixels)
    assert data is not None
    makers: dict[str, Any] = {"npu": NpuStage, "onnx": OnnxStage}
    stage: Stage = makers[definition.type](definition, data, threads)
    return stage


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    """A path to read `data` from; in memory where possible, since a container's file system may be read-only."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("program.npu")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            yield Path(f"/proc/self/fd/{descriptor}")
        return
    with tempfile.TemporaryDirectory(prefix="amlrealtimeai-") as folder:
        path = Path(folder) / "program.npu"
        path.write_bytes(data)
        yield path


def _check_names(definition: StageDef, inputs: list[str], outputs: list[str]) -> None:
    if set(definition.inputs) != set(inputs) or not set(definition.outputs) <= set(outputs):
        raise InvalidInputError(
            f"stage {definition.name}: {definition.file} has inputs {inputs} and outputs {outputs}, service_def.json "
            f"expects {list(definition.inputs)} and {list(definition.outputs)}; convert the model again"
        )
