"""The converted model: a zip of service_def.json and one file per compiled stage. This module is the format's home.

Entries are stored, not compressed (weights do not shrink, and loading is faster), in a fixed order with fixed times, so
that the same model is the same file. A reader trusts nothing: names, sizes, digests and wiring are checked first.
"""

import hashlib
import io
import json
import os
import re
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from amlrealtimeai.artifact.definition import DTYPES, ServiceDefinition, Signature, TensorSpec
from amlrealtimeai.artifact.preprocess import MAX_PIXELS
from amlrealtimeai.artifact.stages import Stage, first_line, make_stage
from amlrealtimeai.artifact.watch import Check, checked_by, unchecked
from amlrealtimeai.errors import InvalidInputError, MissingFileError

DEFINITION = "service_def.json"
MAX_TOTAL_BYTES = 4 << 30  # the largest float network here (VGG-16) is 0.6 GiB
_MAX_DEFINITION_BYTES = 4 << 20
_MAX_ENTRIES = 256
_MAX_EXPANSION = 100  # our files expand 1:1
_SMALL = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Prediction:
    """One answer: arrays by the name they were asked by, and seconds by kind of stage (decode, npu, classifier)."""

    outputs: dict[str, np.ndarray]
    timings: dict[str, float]


def write_converted(path: str | Path, definition: Mapping[str, Any], files: Mapping[str, bytes | Path]) -> None:
    """Write a converted model: the same arguments give the same bytes, and the file appears whole or not at all.

    `definition` is the content of service_def.json (the sha256 of each stage's file is filled in here), `files` the
    content, or a path to it, of every file that a stage names. Raises InvalidInputError for a definition that
    ConvertedModel.load would refuse.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InvalidInputError(f"expected the path of a file, or of none yet; {path} is something else, and stays")
    named = {stage.get("file") for stage in definition["pipeline"]} - {None}
    if named != set(files):
        raise InvalidInputError(f"the stages name the files {sorted(named)}, but {sorted(files)} were given")
    for name in files:
        _check_name(name)
    digests = {name: _digest(content) for name, content in files.items()}
    stages = [dict(s, sha256=digests[s["file"]]) if s.get("file") else dict(s) for s in definition["pipeline"]]
    complete = {**definition, "pipeline": stages}
    ServiceDefinition.from_dict(complete)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as out:
            with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
                _add(archive, DEFINITION, json.dumps(complete, indent=1).encode())
                for name in sorted(files):
                    _add(archive, name, files[name])
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class ConvertedModel:
    """A converted model, loaded and ready to run; safe to call from several threads at once."""

    def __init__(self, definition: ServiceDefinition, stages: list[Stage]) -> None:
        self.definition = definition
        self.stages = stages

    @classmethod
    def load(cls, path: str | Path, threads: int | None = None, max_pixels: int = MAX_PIXELS) -> "ConvertedModel":
        """Read and check a converted model; `threads` per compute stage, default one per usable CPU.

        Images of more than `max_pixels` pixels will be refused.

        Raises NotFoundError for a missing file and InvalidInputError for one that is truncated, altered or foreign.
        """
        path = Path(path)
        if not path.is_file():
            raise _missing(path)
        try:
            definition, files = _read(path)
            stages = [
                make_stage(stage, files.get(stage.file or ""), threads, max_pixels) for stage in definition.stages
            ]
        except InvalidInputError as error:
            raise _unusable(path, error) from error
        return cls(definition, stages)

    @property
    def name(self) -> str:
        """The name given at conversion."""
        return self.definition.name

    @property
    def signature(self) -> Signature:
        """Inputs and outputs as clients see them."""
        return self.definition.signature

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        outputs: list[str] | None = None,
        check: Check = unchecked,
    ) -> Prediction:
        """Run the pipeline. `inputs` and `outputs` by alias or tensor name; strings are object arrays of bytes.

        Without `outputs` the answer has all of them, by tensor name if every input was, else by alias.
        Only the stages that the asked-for outputs need are run. Raises InvalidInputError, saying what was expected.
        `check` is called before every stage and again and again in it; what it raises ends the prediction.
        """
        wanted = self.signature.select(outputs, inputs)
        board = self.signature.bind(inputs)
        timings: dict[str, float] = {}
        with checked_by(check):
            for stage, needed in self._plan({spec.tensor for spec in wanted.values()}):
                check()
                start = time.perf_counter()
                wires = stage.definition
                results = stage.run({name: board[tensor] for name, tensor in wires.inputs.items()}, needed)
                board.update({wires.outputs[name]: results[name] for name in needed})
                timings[stage.kind] = timings.get(stage.kind, 0.0) + time.perf_counter() - start
        return Prediction({name: board[spec.tensor] for name, spec in wanted.items()}, timings)

    def warm_up(self) -> None:
        """Run once on a small made-up input, so that the first request is as fast as the others."""
        self.predict({alias: _sample(spec) for alias, spec in self.signature.inputs.items()})

    def __repr__(self) -> str:
        return f"ConvertedModel({self.name!r}, stages={[stage.definition.name for stage in self.stages]})"

    def _plan(self, tensors: set[str]) -> list[tuple[Stage, list[str]]]:
        """The stages to run, in order, each with its own names of the outputs that somebody needs."""
        plan: list[tuple[Stage, list[str]]] = []
        for stage in reversed(self.stages):
            needed = [name for name, tensor in stage.definition.outputs.items() if tensor in tensors]
            if needed:
                plan.append((stage, needed))
                tensors |= set(stage.definition.inputs.values())
        return plan[::-1]


def read_definition(path: str | Path) -> ServiceDefinition:
    """The definition of a converted model, without its weights; raises what ConvertedModel.load does."""
    path = Path(path)
    if not path.is_file():
        raise _missing(path)
    try:
        return _read(path, weights=False)[0]
    except InvalidInputError as error:
        raise _unusable(path, error) from error


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(f"no converted model at {path}; convert one with AccelOnnxConverter.convert_tf_model")


def _unusable(path: Path, error: InvalidInputError) -> InvalidInputError:
    return InvalidInputError(f"{path.name} is not a usable converted model: {error}")


def _sample(spec: TensorSpec) -> np.ndarray:
    free = 64 if len(spec.shape) == 4 else 2  # as conversion has tried it
    shape = [(free if axis else 1) if size is None else size for axis, size in enumerate(spec.shape)]
    if spec.dtype != "string":
        return np.zeros(shape, DTYPES[spec.dtype])
    png = io.BytesIO()
    Image.new("RGB", (256, 256), (124, 117, 104)).save(png, "PNG")
    return np.full(shape, png.getvalue(), dtype=object)


def _digest(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with Path(content).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, on every platform: the bytes must not depend on where they are written
    info.external_attr = 0o644 << 16
    size = len(content) if isinstance(content, bytes) else Path(content).stat().st_size
    with archive.open(info, "w", force_zip64=size >= 1 << 31) as out:
        if isinstance(content, bytes):
            out.write(content)
        else:
            with Path(content).open("rb") as source:
                while chunk := source.read(1 << 20):
                    out.write(chunk)


def _read(path: Path, weights: bool = True) -> tuple[ServiceDefinition, dict[str, bytes]]:
    """The checked definition and the checked content of its files; what zipfile raises becomes InvalidInputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(archive, path.stat().st_size)
            definition = _read_definition(archive)
            digests = {stage.file: stage.sha256 for stage in definition.stages if stage.file and weights}
            return definition, {name: _read_file(archive, name, sha256) for name, sha256 in digests.items()}
    except InvalidInputError:
        raise
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError) as error:
        raise InvalidInputError(f"not a whole zip file ({first_line(error)}); copy or convert it again") from error


def _check_directory(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(entries) > _MAX_ENTRIES or len(set(names)) != len(names):
        raise InvalidInputError(f"expected at most {_MAX_ENTRIES} entries with different names, got {len(entries)}")
    for name in names:
        _check_name(name)
    total = sum(entry.file_size for entry in entries)
    if total > MAX_TOTAL_BYTES or (total > _SMALL and total > _MAX_EXPANSION * size):
        raise InvalidInputError(f"its entries declare {total} bytes, more than a converted model of {size} bytes holds")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"expected entry names of letters, digits, '.', '_' and '-', got {name!r:.80}")


def _read_definition(archive: zipfile.ZipFile) -> ServiceDefinition:
    if DEFINITION not in archive.namelist():
        raise InvalidInputError(f"it holds no {DEFINITION}; convert the model with this package")
    if archive.getinfo(DEFINITION).file_size > _MAX_DEFINITION_BYTES:
        raise InvalidInputError(f"{DEFINITION} is larger than {_MAX_DEFINITION_BYTES} bytes")
    try:
        raw = json.loads(archive.read(DEFINITION))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{DEFINITION} is not JSON: {first_line(error)}") from error
    return ServiceDefinition.from_dict(raw)


def _read_file(archive: zipfile.ZipFile, name: str, sha256: str | None) -> bytes:
    if name not in archive.namelist():
        raise InvalidInputError(f"it holds no {name}, which a stage needs; convert the model again")
    data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidInputError(
            f"{name} was altered: its digest is not the one in {DEFINITION}; convert the model again"
        )
    return data
