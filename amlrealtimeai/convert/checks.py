"""The comparison that ends every conversion: each stage on the framework's own values, then the whole, end to end."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from amlrealtimeai import npu
from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.stages import Stage
from amlrealtimeai.convert import to_onnx
from amlrealtimeai.convert.partition import Cut
from amlrealtimeai.convert.report import Check
from amlrealtimeai.convert.source import LoadedModel, Source
from amlrealtimeai.errors import AmlRealtimeAiError, ConversionError
from amlrealtimeai.npu import unrounded

_ADVICE = {
    "preprocess": "Images have to be decoded with dct_method='INTEGER_ACCURATE'; build the graph with "
    "amlrealtimeai.accel.models.utils.preprocess_array.",
    "npu": "Check that all weights were restored, and that the graph was quantised with the format in its note.",
}
FINEST = "msfp16"
HOST_BOUND = 1e-4
_HALF_BOUND = 3e-2  # float16 and bfloat16 keep 11 and 8 bits; two libraries round them in other places
QUANTISED_BOUND = 1e-2
_SATURATED = 2e-8
_FLOAT = "the float graph"
_LARGEST = "of the largest value"


def sample_inputs(model: LoadedModel, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Two seeded items for every input: a JPEG and a PNG of smooth shapes and noise, or numbers like centred pixels.

    scale: multiplies the numbers.
    """
    random = np.random.default_rng(7)
    return {tensor: _sample(model.graph, tensor, random, scale) for tensor in model.inputs}


def _sample(graph: Source, tensor: str, random: np.random.Generator, scale: float) -> np.ndarray:
    if graph.dtype(tensor) == "string":
        return np.array([_image(random, 320, 240, "JPEG"), _image(random, 250, 301, "PNG")], dtype=object)
    shape = graph.sample_shape(tensor)
    if len(shape) == 4:
        values = np.stack([_pixels(random, shape[2], shape[1], shape[3]) for _ in range(shape[0])])
    else:
        values = random.uniform(0, 255, shape)
    return graph.sample(tensor, values, scale)


def _pixels(random: np.random.Generator, width: int, height: int, channels: int = 3) -> np.ndarray:
    """uint8-ranged float pixels: a gradient with two discs, plus noise."""
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([(x * (c + 1) + y * (2 - c % 3)) * 255.0 / (3 * (width + height)) for c in range(channels)], -1)
    for _ in range(2):
        cx, cy, radius = random.uniform(0, width), random.uniform(0, height), random.uniform(0.1, 0.4) * height
        planes[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = random.uniform(0, 255, channels)
    return np.clip(planes + random.normal(0, 12, planes.shape), 0, 255)


def _image(random: np.random.Generator, width: int, height: int, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(_pixels(random, width, height).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


class _DecisionError(ConversionError):
    """Indices or other whole numbers differ: it may be a defect, or a draw that two libraries decide differently."""


def check_converted(
    model: LoadedModel, reference: Source, cuts: Sequence[Cut], converted: ConvertedModel, quantised: bool
) -> list[Check]:
    """Compare every stage and the whole with the framework; ConversionError at the first that differs.

    `reference` is the graph to equal; `quantised` tells that it rounds as the NPU does.
    """
    comparison = _Comparison(reference, cuts, converted, quantised)
    try:
        return comparison.checks(sample_inputs(model), model)
    except _DecisionError:  # large numbers saturate a softmax, and what is 0 or nearly so is a draw
        return comparison.checks(sample_inputs(model, 1 / 64), model)


@dataclass
class _Comparison:
    reference: Source
    cuts: Sequence[Cut]
    converted: ConvertedModel
    quantised: bool

    def checks(self, feed: dict[str, np.ndarray], model: LoadedModel) -> list[Check]:
        edges = [tensor for cut in self.cuts for tensor in (*cut.inputs, *cut.outputs)]
        values = self.reference.values(feed, [*edges, *model.outputs])
        checks: list[Check] = []
        for cut, stage in zip(self.cuts, self.converted.stages, strict=True):
            wires = stage.definition
            answers = self._run(cut, stage, {name: values[tensor] for name, tensor in wires.inputs.items()})
            results = {tensor: answers[name] for name, tensor in wires.outputs.items()}
            for tensor, result in results.items():
                self._require_like(cut, tensor, values[tensor], result)
            if cut.kind == "npu" and not self.quantised:
                checks += self._unquantised(cut, values, results)
            else:
                checks += [self._stage(cut, tensor, values[tensor], result) for tensor, result in results.items()]
        answer = self.converted.predict(feed, list(self.converted.signature.outputs))
        for alias, spec in self.converted.signature.outputs.items():
            checks.append(self._end_to_end(alias, values[spec.tensor], answer.outputs[alias]))
        return checks

    def _run(self, cut: Cut, stage: Stage, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return stage.run(inputs, list(stage.definition.outputs))
        except AmlRealtimeAiError as error:
            raise ConversionError(
                f"the converted stage {cut.name!r} does not run where {self.reference.framework} does: {error}. "
                f"{self._advice(cut)}"
            ) from error

    def _stage(self, cut: Cut, tensor: str, expected: np.ndarray, got: np.ndarray) -> Check:
        host = _HALF_BOUND if self._in_halves(cut) else HOST_BOUND
        bound = {"preprocess": 0.0, "npu": QUANTISED_BOUND, "onnx": host}[cut.kind]
        against = "the quantised graph" if cut.kind == "npu" else self.reference.framework
        error = relative_error(expected, got)
        if cut.kind == "onnx" and error > bound:
            error = saturated_error(expected, got)
        check = Check(_label(cut, tensor), against, error, bound, _LARGEST)
        return self._require(check, cut, tensor, expected, got)

    def _in_halves(self, cut: Cut) -> bool:
        """Whether something on the way from the stage's inputs to its outputs is float16 or bfloat16."""
        names = self.reference.ancestors(cut.outputs, stop=cut.inputs)
        tensors = (tensor for name in names for tensor in self.reference.results(name))
        return cut.kind == "onnx" and any(self.reference.dtype(tensor) in ("float16", "bfloat16") for tensor in tensors)

    def _unquantised(self, cut: Cut, values: dict[str, np.ndarray], results: dict[str, np.ndarray]) -> list[Check]:
        """Checks for an NPU stage that the framework computes in float only, so that no bits can be compared.

        What the chosen format costs is for information: it is the user's choice. What has to hold: the ONNX that the
        program was made from equals the framework, and the same program in the finest format is close (see
        signal_bound). Narrow networks of depthwise convolutions are not: for them it has to be close without rounding.
        """
        feed = {tensor: values[tensor] for tensor in cut.inputs}
        onnx_results = to_onnx.run(cut.details["onnx"], list(feed.values()), cut.outputs)
        program = npu.compile(cut.details["onnx"], config=cut.details["config"], fmt=npu.formats[FINEST], notes=[])
        fine = npu.Native(program).run(next(iter(feed.values())))
        checks = []
        for tensor in cut.outputs:
            label, expected = _label(cut, tensor), values[tensor]
            error = relative_error(expected[:1], onnx_results[tensor])
            float_check = Check(f"{label} before quantising", self.reference.framework, error, HOST_BOUND, _LARGEST)
            checks.append(self._require(float_check, cut, tensor, expected[:1], onnx_results[tensor]))
            checks += self._close(cut, tensor, expected, fine[tensor], next(iter(feed.values()))[:1])
            name = cut.details["format"].name or "its format"
            checks.append(Check(f"{label} in {name}", _FLOAT, signal_to_noise(expected, results[tensor]), None, "dB"))
        return checks

    def _close(self, cut: Cut, tensor: str, expected: np.ndarray, fine: np.ndarray, first: np.ndarray) -> list[Check]:
        """In the finest format; where that makes more noise than a defect may, without rounding. first: one input."""
        label, signal = _label(cut, tensor), signal_to_noise(expected, fine)
        in_finest = Check(f"{label} in {FINEST}", _FLOAT, signal, signal_bound(cut.details["depth"]), "dB")
        if in_finest.passed:
            return [in_finest]
        found = unrounded.run(cut.details["onnx"], first)[tensor]
        error = relative_error(expected[:1], found)
        without = Check(f"{label} without rounding", _FLOAT, error, HOST_BOUND, _LARGEST)
        return [self._require(without, cut, tensor, expected[:1], found), replace(in_finest, bound=None)]

    def _end_to_end(self, alias: str, expected: np.ndarray, got: np.ndarray) -> Check:
        framework = self.reference.framework
        if got.shape != expected.shape:
            raise ConversionError(
                f"output {alias!r}: expected the shape {expected.shape} of {framework}, got {got.shape}"
            )
        return Check(f"output {alias}", f"{framework}, end to end", relative_error(expected, got), None, _LARGEST)

    def _require_like(self, cut: Cut, tensor: str, expected: np.ndarray, got: np.ndarray) -> None:
        if got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
            raise ConversionError(
                f"the converted stage {cut.name!r} differs from {self.reference.framework} at {tensor}: expected "
                f"{expected.dtype} {list(expected.shape)}, got {got.dtype} {list(got.shape)}. "
                "This is a defect of the converter; please report it with the model."
            )

    def _require(self, check: Check, cut: Cut, tensor: str, expected: np.ndarray, got: np.ndarray) -> Check:
        if check.passed:
            return check
        kind = ConversionError if expected.dtype.kind == "f" else _DecisionError
        raise kind(
            f"the converted stage {cut.name!r} differs from {self.reference.framework} at {tensor}: {check}. "
            f"{_worst(expected, got)} No file was written. {self._advice(cut)}"
        )

    def _advice(self, cut: Cut) -> str:
        return _ADVICE.get(cut.kind, self.reference.advice)


def _label(cut: Cut, tensor: str) -> str:
    return f"{cut.name} {tensor}" if len(cut.outputs) > 1 else cut.name


def relative_error(expected: np.ndarray, got: np.ndarray) -> float:
    """Greatest difference over the greatest finite magnitude; 0 for equal, infinity for unequal text.

    Infinities and NaN have to stand where they are expected; nothing but NaN is no answer, and infinitely wrong.
    """
    if expected.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(_texts(expected), _texts(got)) else math.inf
    if np.array_equal(expected, got):
        return 0.0
    wide, found = expected.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(wide)
    if np.isnan(wide).all() or not np.array_equal(wide[~finite], found[~finite], equal_nan=True):
        return math.inf
    difference = np.abs(found[finite] - wide[finite]).max(initial=0)
    error = float(difference / np.abs(wide[finite]).max(initial=np.finfo(np.float32).tiny))
    return error if math.isfinite(error) else math.inf


def _texts(values: np.ndarray) -> np.ndarray:
    """TensorFlow's texts are bytes, ONNX Runtime's are str."""
    return np.array([value.encode() if isinstance(value, str) else value for value in values.flat], object).reshape(
        values.shape
    )


def saturated_error(expected: np.ndarray, got: np.ndarray) -> float:
    """relative_error, but that of a sigmoid's range, 1, where ONNX Runtime's sigmoid cuts what is far below it.

    It computes no value under about 1.5e-8; TensorFlow's goes on to 1e-38.
    """
    if expected.dtype.kind == "f" and np.allclose(got, expected, rtol=0, atol=_SATURATED):
        return float(np.abs(got.astype(np.float64) - expected).max())
    return relative_error(expected, got)


def signal_to_noise(expected: np.ndarray, got: np.ndarray) -> float:
    """10 log10(signal energy / error energy) in dB, in float64."""
    wide = expected.astype(np.float64)
    noise = float(np.square(got.astype(np.float64) - wide).sum())
    if not math.isfinite(noise):
        return -math.inf
    return math.inf if noise == 0 else 10 * math.log10(max(float(np.square(wide).sum()), 1e-300) / noise)


def signal_bound(depth: int) -> float:
    """Smallest believable signal-to-noise ratio in dB of an unquantised network in FINEST, `depth` convolutions deep.

    Measured with ResNet-50 (53 convolutions): 37.8 dB with trained weights, 38.9 dB with random ones. Of what a defect
    does, the mildest tried (all values 10 % too large) leaves 21.4 and 19.5 dB, swapped colours 19.5 and 7.1 dB. 26 dB
    lies between; noise of deeper networks adds up in energy.
    """
    return 26.0 - 10 * math.log10(max(depth, 53) / 53)


def _worst(expected: np.ndarray, got: np.ndarray) -> str:
    if expected.dtype.kind == "f" and np.isnan(expected).all():
        return "All expected values are NaN: the model itself has no answer to the sample."
    if expected.dtype.kind not in "fiub":
        index: Any = tuple(int(i) for i in np.argwhere(_texts(expected) != _texts(got))[0])
    else:
        same = np.equal(got, expected) | (np.isnan(got) & np.isnan(expected))
        difference = np.where(same, 0, np.abs(got.astype(np.float64) - expected.astype(np.float64)))
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.nan_to_num(difference, nan=math.inf)), got.shape))
    return f"Worst element {list(index)}: expected {expected[index]!r}, got {got[index]!r}."
