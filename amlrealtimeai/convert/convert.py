"""SavedModel -> converted model: load, cut, convert every stage, write, compare with the framework."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlrealtimeai import npu
from amlrealtimeai.artifact.converted import ConvertedModel, write_converted
from amlrealtimeai.artifact.definition import DTYPES, document
from amlrealtimeai.convert import partition
from amlrealtimeai.convert.checks import check_converted
from amlrealtimeai.convert.failures import own_errors
from amlrealtimeai.convert.folders import work_folder
from amlrealtimeai.convert.graph import is_quantiser
from amlrealtimeai.convert.partition import Cut
from amlrealtimeai.convert.quiet import quiet
from amlrealtimeai.convert.report import Check, ConversionReport, StageReport
from amlrealtimeai.convert.saved_model import load
from amlrealtimeai.convert.source import LoadedModel, Source
from amlrealtimeai.errors import AmlRealtimeAiError, ConversionError, InvalidInputError
from amlrealtimeai.npu.formats import BlockFormat, as_format
from amlrealtimeai.store.failures import disk

Progress = Callable[[str, float], None]


@dataclass
class _Stage:
    """A converted stage: its entry in service_def.json, its file, its line in the report."""

    definition: dict[str, Any]
    file: bytes | Path | None
    report: StageReport


_Made = tuple[dict[str, Any], bytes | Path | None, str]  # a stage's definition, its file, a word on it


@dataclass
class Steps:
    """Tells `progress` where the conversion is, and keeps the time of every step."""

    progress: Progress | None
    start: float = field(default_factory=time.perf_counter)
    reached: float = 0.0
    times: list[tuple[str, float]] = field(default_factory=list)

    def begin(self, step: str, fraction: float) -> None:
        """The step before ends here, with `fraction` of the whole done (0..1); it never falls."""
        self.times.append((step, time.perf_counter()))
        self.reached = max(self.reached, fraction)
        if self.progress is not None:
            self.progress(step, self.reached)

    def current(self) -> str:
        """The step that has begun last."""
        return self.times[-1][0] if self.times else "load"

    def finish(self) -> tuple[tuple[str, float], ...]:
        """The last step ends here; returns every step with its seconds."""
        self.begin("done", 1.0)
        ends = [when for _, when in self.times[1:]]
        return tuple((step, end - when) for (step, when), end in zip(self.times, ends, strict=False))


def convert_saved_model(
    model_dir: str | Path,
    input_node: str | Sequence[str],
    outputs_nodes: str | Sequence[str],
    out_path: str | Path,
    *,
    name: str,
    config: str = "bw_a10",
    fmt: str | BlockFormat | None = None,
    require_fpga: bool = True,
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a SavedModel into the file `out_path`, which artifact.converted.ConvertedModel runs without TensorFlow.

    model_dir: a SavedModel folder (tag "serve"). input_node: the image input, a tensor name or a signature alias.
    outputs_nodes: a name, a comma-separated string or a list. name: of the model, stored in the file.
    config: name of an NpuConfig. fmt: number format of the NPU; None takes the one that the graph was quantised with,
    else the config's. require_fpga: True makes it an error when a featurizer of accel.models cannot run whole on the
    NPU, or nothing can; False leaves to the host what the NPU cannot run, all of it if need be. The report names what
    was left and why; convert.parts says what makes a part for the NPU. progress: called as progress(step, fraction)
    with fraction rising from 0 to 1.

    The result is loaded and compared with TensorFlow on a sample before `out_path` appears. Raises NotFoundError,
    InvalidInputError (arguments) or ConversionError (an op that cannot be converted, a result that differs).
    The caller's default graph, sessions and Keras state are not touched.
    """
    steps = Steps(progress)
    chosen = None if fmt is None else as_format(fmt)
    target = checked_target(out_path)
    with quiet(), own_errors(steps.current):
        steps.begin("load", 0.0)
        return convert_model(
            load(model_dir, input_node, outputs_nodes), target, name, config, chosen, require_fpga, steps
        )


def convert_frozen(model: LoadedModel, out_path: str | Path, *, name: str, on_npu: bool) -> ConversionReport:
    """The same for a graph that is loaded already, such as saved_model.from_session gives it.

    on_npu: True for a featurizer, which has to run on the NPU; False for what is to run on the host whatever it is.
    """
    steps = Steps(None)
    with quiet(), own_errors(steps.current):
        return convert_model(model, checked_target(out_path), name, "bw_a10", None, on_npu, steps, host_only=not on_npu)


def convert_model(
    model: LoadedModel,
    target: Path,
    name: str,
    config: str,
    chosen: BlockFormat | None,
    require_fpga: bool,
    steps: Steps,
    host_only: bool = False,
) -> ConversionReport:
    """Cut, convert, write and compare a model that is loaded."""
    if not isinstance(config, str) or config not in npu.configs:
        raise InvalidInputError(f"unknown NPU configuration {config!r}; presets: {', '.join(npu.configs)}")
    for tensor in (*model.inputs, *model.outputs):
        _spec(model.graph, tensor)  # what no signature can say is told before anything is converted
    float_graph = model.graph.float_graph(model.outputs)
    with disk(target.parent), work_folder(target) as folder:
        job = _Job(model, float_graph, name, config, chosen, steps, folder / target.name)
        steps.begin("plan", 0.1)
        plan = partition.plan_host(model) if host_only else partition.plan_stages(model, float_graph, require_fpga)
        try:
            stages, checks = job.make(plan.cuts)
        except ConversionError as error:
            if require_fpga or not any(cut.kind == "npu" for cut in plan.cuts):
                raise
            plan = partition.plan_host(model, str(error))
            job.notes.clear()
            stages, checks = job.make(plan.cuts)
        (folder / target.name).replace(target)
    times = steps.finish()
    formats = [str(cut.details["format"]) for cut in plan.cuts if cut.kind == "npu"]
    return ConversionReport(
        name=name,
        path=target,
        stages=tuple(stage.report for stage in stages),
        checks=tuple(checks),
        seconds=time.perf_counter() - steps.start,
        size=target.stat().st_size,
        number_format=formats[0] if formats else "",
        listing_head=next((cut.details["listing"] for cut in plan.cuts if cut.kind == "npu"), ""),
        steps=times,
        blocked=tuple(plan.blocked),
        framework=model.graph.framework,
        notes=tuple(dict.fromkeys(job.notes)),
    )


@dataclass
class _Job:
    """One model on its way into the file `path`; other files are made beside it."""

    model: LoadedModel
    float_graph: Source
    name: str
    config: str
    chosen: BlockFormat | None
    steps: Steps
    path: Path
    notes: list[str] = field(default_factory=list)

    def make(self, cuts: list[Cut]) -> tuple[list[_Stage], list[Check]]:
        """Convert every stage, write the file, and compare it with the framework."""
        quantised = _choose_formats(cuts, self.config, self.chosen) and not _rounds_on_host(self.model.graph, cuts)
        stages = [self._convert(index, cuts) for index in range(len(cuts))]
        for cut in cuts if quantised else ():
            cut.details.pop("onnx", None)  # only the comparison of an unquantised graph needs it
        self.steps.begin("write", 0.75)
        files = {stage.definition["file"]: stage.file for stage in stages if stage.file is not None}
        write_converted(self.path, _definition(self.name, self.model, stages), files)
        self.steps.begin("compare", 0.8)
        reference = self.model.graph if quantised else self.float_graph
        return stages, check_converted(self.model, reference, cuts, self._loaded(), quantised)

    def _loaded(self) -> ConvertedModel:
        try:
            return ConvertedModel.load(self.path)
        except InvalidInputError as error:  # what ONNX Runtime refuses once its optimiser knows more
            raise ConversionError(f"the model was converted and cannot be loaded: {error}") from error

    def _convert(self, index: int, cuts: list[Cut]) -> _Stage:
        cut, start = cuts[index], time.perf_counter()
        self.steps.begin(f"convert {cut.name}", 0.15 + 0.6 * index / len(cuts))
        makers = {"preprocess": self._preprocess_stage, "onnx": self._host_stage, "npu": self._npu_stage}
        definition, file, detail = makers[cut.kind](cut)
        edges = [{tensor: _static(self.model.graph, tensor) for tensor in side} for side in (cut.inputs, cut.outputs)]
        seconds = time.perf_counter() - start
        size = file.stat().st_size if isinstance(file, Path) else len(file or b"")
        report = StageReport(cut.kind, cut.name, edges[0], edges[1], seconds, size, detail)
        return _Stage({"type": cut.kind, "name": cut.name, **definition}, file, report)

    def _preprocess_stage(self, cut: Cut) -> _Made:
        wires = {"inputs": {"images": cut.inputs[0]}, "outputs": {"output": cut.outputs[0]}}
        return {**wires, "parameters": dict(cut.details)}, None, "decode, resize, centre"

    def _host_stage(self, cut: Cut) -> _Made:
        data, inputs = self.float_graph.host_part(cut.name, cut.inputs, cut.outputs)
        outputs = {tensor: tensor for tensor in cut.outputs}
        return {"file": f"{cut.name}.onnx", "inputs": inputs, "outputs": outputs}, data, "ONNX, float32"

    def _npu_stage(self, cut: Cut) -> _Made:
        fmt, label = cut.details["format"], str(cut.details.get("model", cut.name))
        try:
            program = npu.compile(cut.details["onnx"], self.config, fmt, label, notes=self.notes)
        except ConversionError:
            raise
        except AmlRealtimeAiError as error:
            raise ConversionError(
                f"the NPU compiler refused the featurizer {', '.join(cut.outputs)}: {error}"
            ) from error
        cut.details["depth"] = sum(node.op_type == "Conv" for node in cut.details["onnx"].graph.node)
        cut.details["config"] = self.config
        cut.details["listing"] = "\n".join(program.listing().splitlines()[:12])
        definition = {
            "file": f"{cut.name}.npu",
            "inputs": {port: port for port, _ in program.inputs},
            "outputs": {port: port for port, _ in program.outputs},
        }
        path = self.path.with_name(f"{cut.name}.npu")
        program.save(path)
        return definition, path, f"{len(program.chains)} chains, {fmt.name or fmt}"


def checked_target(out_path: str | Path) -> Path:
    """The path of the file to be, whose folder has to exist."""
    target = Path(out_path)
    if not target.parent.is_dir():
        raise InvalidInputError(f"expected an existing folder for {target.name}, got {target.parent}; make it first")
    if target.is_dir():
        raise InvalidInputError(f"expected the path of a file to write, but {target} is a folder")
    if target.exists() and not target.is_file():  # /dev/null, say
        raise InvalidInputError(f"expected the path of a file to write, but {target} is something else, and stays")
    return target


def _choose_formats(cuts: list[Cut], config: str, chosen: BlockFormat | None) -> bool:
    """Note each NPU stage's format in its cut; True when the graph is quantised with these very formats."""
    exact = True
    for cut in cuts:
        if cut.kind != "npu":
            continue
        numbers = cut.details.get("format") if cut.details.get("quantized") else None
        noted = _preset(BlockFormat(**numbers)) if numbers else None
        cut.details["format"] = chosen or noted or npu.configs[config].number_format
        exact = exact and noted is not None and _numbers(cut.details["format"]) == _numbers(noted)
    return exact


def _numbers(fmt: BlockFormat) -> tuple[int, int, int]:
    return fmt.block, fmt.mantissa_bits, fmt.exponent_bits


def _preset(fmt: BlockFormat) -> BlockFormat:
    """The preset with the same numbers, which has a name."""
    return next((preset for preset in npu.formats.values() if _numbers(preset) == _numbers(fmt)), fmt)


def _rounds_on_host(graph: Source, cuts: list[Cut]) -> bool:
    """Whether a part of the quantised graph that the host runs, in float32, holds quantisers."""
    return any(
        is_quantiser(name)
        for cut in cuts
        if cut.kind == "onnx"
        for name in graph.ancestors(cut.outputs, stop=cut.inputs)
    )


def _static(graph: Source, tensor: str) -> tuple[int | None, ...] | None:
    shape = graph.shape(tensor)
    return None if shape is None else tuple(shape)


def _definition(name: str, model: LoadedModel, stages: list[_Stage]) -> dict[str, Any]:
    inputs = {_input_alias(model, tensor): _spec(model.graph, tensor) for tensor in model.inputs}
    outputs = {_output_alias(model, tensor): _spec(model.graph, tensor) for tensor in model.outputs}
    return document(name, inputs, outputs, [stage.definition for stage in stages])


def _input_alias(model: LoadedModel, tensor: str) -> str:
    return model.input_aliases.get(tensor) or ("images" if len(model.inputs) == 1 else tensor)


def _output_alias(model: LoadedModel, tensor: str) -> str:
    return model.output_aliases.get(tensor) or ("output_alias" if len(model.outputs) == 1 else tensor)


def _spec(graph: Source, tensor: str) -> dict[str, Any]:
    shape = graph.shape(tensor)
    dtype = graph.dtype(tensor)
    if shape is None and dtype == "string":
        shape = [None]  # tf.placeholder(tf.string), as the original notebooks write it: a batch of images
    if shape is None:
        raise ConversionError(f"the rank of {tensor!r} is unknown; give it a shape with set_shape before exporting")
    if dtype not in DTYPES:
        raise ConversionError(f"{tensor!r} is {dtype}; expected one of {', '.join(DTYPES)}: cast it before exporting")
    return {"tensor": tensor, "dtype": dtype, "shape": shape}
