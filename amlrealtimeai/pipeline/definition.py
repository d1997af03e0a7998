"""ServiceDefinition: the stages, joined into one converted model."""

import json
import zipfile
from pathlib import Path
from typing import Any

from amlrealtimeai.artifact.converted import DEFINITION, write_converted
from amlrealtimeai.artifact.definition import document
from amlrealtimeai.convert.failures import own_errors
from amlrealtimeai.convert.folders import work_folder
from amlrealtimeai.core.arguments import check_path, writing
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.pipeline.stages import Stage


class ServiceDefinition:
    """A list of stages, `pipeline`; each reads what the one before it gives."""

    def __init__(self) -> None:
        self.pipeline: list[Stage] = []

    def save(self, path: str | Path) -> None:
        """Convert the stages and write them as the zip `path`, which register_model and the server take.

        The folder is made where it is missing. Clients send "images" and get "output_alias". Every stage is compared
        with TensorFlow on a sample before anything is written. Raises InvalidInputError for an empty pipeline or stages
        that do not fit together, else what a stage's conversion raises.
        """
        target = check_path("path", path)
        if not self.pipeline:
            raise InvalidInputError("the pipeline has no stages: append a TensorflowStage or BrainWaveStage first")
        for stage in self.pipeline:
            if not isinstance(stage, Stage):
                raise InvalidInputError(f"expected stages of amlrealtimeai.pipeline, got {type(stage).__name__}")
        with writing("path", target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(target) as folder:
            parts = []
            for number, stage in enumerate(self.pipeline):
                part = _Part(stage.name or f"stage{number}", folder / f"{number}.zip", folder / str(number))
                part.make(stage)
                parts.append(part)
            definition, files = _joined(target.stem, parts)
            write_converted(target, definition, files)


class _Part:
    """One stage as a converted model of its own."""

    def __init__(self, name: str, archive: Path, folder: Path) -> None:
        self.name, self.archive, self.folder = name, archive, folder
        self.definition: dict[str, Any] = {}

    def make(self, stage: Stage) -> None:
        """Convert the stage and read the result."""
        with own_errors(lambda: f"convert the stage {self.name}"):
            stage.convert(self.archive)
        with zipfile.ZipFile(self.archive) as archive:
            archive.extractall(self.folder)  # written by this process a moment ago
        self.definition = json.loads((self.folder / DEFINITION).read_text())

    def edge(self, side: str) -> dict[str, Any]:
        """The only input or output: tensor, dtype, shape."""
        return next(iter(self.definition["signature"][side].values()))


def _joined(name: str, parts: list[_Part]) -> tuple[dict[str, Any], dict[str, bytes | Path]]:
    """service_def.json of all parts in a row, and its files."""
    if len({part.name for part in parts}) < len(parts):
        raise InvalidInputError(f"stages need different names, got {[part.name for part in parts]}")
    stages: list[dict[str, Any]] = []
    files: dict[str, bytes | Path] = {}
    given = parts[0].edge("inputs")["tensor"]
    for number, part in enumerate(parts):
        if number:
            _require_fit(parts[number - 1], part)
        tensors = {part.edge("inputs")["tensor"]: given}
        if part is parts[-1]:
            tensors.setdefault(part.edge("outputs")["tensor"], part.edge("outputs")["tensor"])
        for stage in part.definition["pipeline"]:
            for side in ("inputs", "outputs"):
                stage[side] = {port: tensors.setdefault(t, f"{part.name}/{t}") for port, t in stage[side].items()}
            stage["name"] = f"{part.name}_{stage['name']}"
            if stage.get("file"):
                files[f"{part.name}_{stage['file']}"] = part.folder / stage["file"]
                stage["file"] = f"{part.name}_{stage['file']}"
            stages.append(stage)
        given = tensors[part.edge("outputs")["tensor"]]
    outputs = {"output_alias": {**parts[-1].edge("outputs"), "tensor": given}}
    return document(name, {"images": parts[0].edge("inputs")}, outputs, stages), files


def _require_fit(before: _Part, after: _Part) -> None:
    gives, takes = before.edge("outputs"), after.edge("inputs")
    first, second = gives["shape"], takes["shape"]
    fits = gives["dtype"] == takes["dtype"] and len(first) == len(second)
    fits = fits and all(a is None or b is None or a == b for a, b in zip(first, second, strict=False))
    if not fits:
        raise InvalidInputError(
            f"the stage {before.name!r} gives {gives['dtype']} {first} ({gives['tensor']}), but the next one, "
            f"{after.name!r}, expects {takes['dtype']} {second} ({takes['tensor']})"
        )
