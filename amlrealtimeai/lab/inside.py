"""Looking into a converted model and a network: the stages, and every layer's result in 32-bit floats."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from amlrealtimeai.artifact.runtime import onnxruntime
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.blocks import programs_of
from amlrealtimeai.npu.program import Program


@dataclass(frozen=True)
class StageView:
    """One stage of a converted model. kind: preprocess, onnx or npu; reads, writes: tensors; content: in words."""

    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    content: str

    def __str__(self) -> str:
        return f"{self.kind:<11}{', '.join(self.reads)}\n{'':7}->  {', '.join(self.writes)}\n{'':11}{self.content}"


def stages_of(model: Any) -> list[StageView]:
    """The stages of a converted model (a core.model.Model, or a path to its file), in the order they run."""
    path = Path(model.kept_path() if hasattr(model, "kept_path") else model)
    try:
        with zipfile.ZipFile(path) as archive:
            pipeline = json.loads(archive.read("service_def.json"))["pipeline"]
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            nodes = {
                stage["file"]: len(onnx.load_from_string(archive.read(stage["file"])).graph.node)
                for stage in pipeline
                if stage["type"] == "onnx"
            }
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInputError(f"expected a converted model (.accelonnx): {path.name}: {error}") from error
    return [_view(stage, sizes, nodes, path) for stage in pipeline]


def _view(stage: Mapping[str, Any], sizes: Mapping[str, int], nodes: Mapping[str, int], path: Path) -> StageView:
    ends = tuple(stage["inputs"].values()), tuple(stage["outputs"].values())
    if stage["type"] == "preprocess":
        content = "decode, resize, crop, subtract the mean"
    elif stage["type"] == "npu":
        content = f"{len(programs_of(path)[stage['file']].chains)} chains, {sizes[stage['file']] / 1e6:.1f} MB"
    else:
        content = f"{nodes[stage['file']]} ONNX nodes, {sizes[stage['file']] / 1e6:.1f} MB"
    return StageView(stage["type"], stage["name"], *ends, content)


def float_tensors(network: onnx.ModelProto, program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    """What every chain of `program` would write if `network`, which it was compiled from, were run in float32.

    x: float32, as the network takes it. Returns arrays by tensor name, in the network's own layout.
    """
    asked = onnx.ModelProto()
    asked.CopyFrom(network)
    made = {name for node in network.graph.node for name in node.output}
    given = {output.name for output in network.graph.output}
    names = [chain.writes for chain in program.chains if chain.writes in made]
    asked.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in given)
    session = onnxruntime().InferenceSession(asked.SerializeToString())
    values = session.run(names, {session.get_inputs()[0].name: x})
    return dict(zip(names, values, strict=True))
