"""ONNX model -> converted model: the same stages and checks as for a SavedModel, compared with ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amlrealtimeai.convert.checks import sample_inputs
from amlrealtimeai.convert.convert import Progress, Steps, checked_target, convert_model
from amlrealtimeai.convert.failures import own_errors
from amlrealtimeai.convert.onnx_source import OnnxSource
from amlrealtimeai.convert.report import ConversionReport
from amlrealtimeai.convert.saved_model import split_names
from amlrealtimeai.convert.source import LoadedModel
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.formats import BlockFormat, as_format
from amlrealtimeai.npu.lowering.graph import load_model


def convert_onnx(
    model: Any,
    out_path: str | Path,
    *,
    name: str,
    outputs_nodes: str | Sequence[str] | None = None,
    config: str = "bw_a10",
    fmt: str | BlockFormat | None = None,
    require_fpga: bool = True,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert an ONNX model into the file `out_path`, which artifact.converted.ConvertedModel runs.

    model: an onnx.ModelProto, the path of a file, or of a folder that holds one .onnx file and its external data.
    Inputs and outputs keep their names, types and shapes; outputs_nodes: names of values to end with instead. The other
    parameters are those of convert_saved_model; require_fpga: True makes it an error when nothing can run on the NPU.

    Raises NotFoundError, InvalidInputError (no ONNX model, arguments) or ConversionError (a model that ONNX Runtime
    cannot run, a result that differs from its own).
    """
    steps = Steps(progress)
    chosen = None if fmt is None else as_format(fmt)
    target = checked_target(out_path)
    wanted = None if outputs_nodes is None else split_names(outputs_nodes)
    with own_errors(steps.current):
        steps.begin("load", 0.0)
        return convert_model(_loaded(model, wanted), target, name, config, chosen, require_fpga, steps)


def _loaded(model: Any, outputs: Sequence[str] | None) -> LoadedModel:
    path = Path(model) if isinstance(model, str | Path) else None
    source = OnnxSource(load_model(model if path is None else onnx_file(path)), outputs)
    found = LoadedModel(
        graph=source,
        inputs=source.given,
        outputs=source.wanted,
        input_aliases={name: name for name in source.given},
        output_aliases={name: name for name in source.wanted},
    )
    source.learn(sample_inputs(found))
    return found


def onnx_file(path: Path) -> Path:
    """The path itself, or the one .onnx file in that folder. Raises InvalidInputError."""
    if not path.is_dir():
        return path
    files = onnx_files(path)
    if len(files) != 1:
        held = ", ".join(file.name for file in files[:6] or sorted(path.iterdir())[:6]) or "nothing"
        raise InvalidInputError(f"expected one .onnx file in the folder {path.name}, got {held}")
    return files[0]


def onnx_files(folder: Path) -> list[Path]:
    """Those with .onnx in either case; hidden ones, as macOS leaves them beside others, are none."""
    found = (path for path in folder.iterdir() if path.suffix.lower() == ".onnx" and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())
