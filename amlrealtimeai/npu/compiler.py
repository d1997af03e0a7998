"""Compiles a float ONNX model into an NPU program: reads it, fuses its layers into chains, quantises the weights.

Chains have one of these forms ([] may be absent):
    v_rd t..   [vv_mul g] [vv_add b] [v_relu]   mv_mul M   [vv_add bias] [vv_add residual] [v_relu]   v_wr t
    v_rd t..   [vv_mul g] [vv_add b] [v_relu]   v_wr t          and        v_rd t  vv_add u  [v_relu]  v_wr t
    v_rd t..   v_max | v_avg   v_wr t
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError
from amlrealtimeai.npu import magnitudes
from amlrealtimeai.npu.config import NpuConfig, as_config
from amlrealtimeai.npu.formats import BlockFormat, block_exponents
from amlrealtimeai.npu.lowering.blockers import BlockedError, Blocker, Dominators
from amlrealtimeai.npu.lowering.fusion import PRODUCTS, fold, is_activation, swished
from amlrealtimeai.npu.lowering.graph import Graph, Refusal, UnknownValueError, label, load_model
from amlrealtimeai.npu.lowering.layers import Layer, LayerList, Step
from amlrealtimeai.npu.lowering.lower import lower
from amlrealtimeai.npu.lowering.views import BATCH, View, axes_of, extents, joined, reshaped
from amlrealtimeai.npu.lowering.weights import Lost, check_constants, lost_weights, quantised, scaled_weights
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Shape

_LARGEST_IMAGE_CHANNELS = 4
_LARGEST_BLOCK = 400
_MOVES = ("v_pick", "v_shape")
_WIDEST = "msfp16"  # of the formats with the largest exponents


def compile_model(
    model: ModelProto | GraphProto | Path | str,
    config: NpuConfig | str = "bw_a10",
    fmt: BlockFormat | str | None = None,
    name: str | None = None,
    outputs: Sequence[str] | None = None,
    notes: list[str] | None = None,
) -> Program:
    """Compile a float32 ONNX model, or the one in a file, for `config`; `fmt` replaces its number format.

    The model has one input (NHWC, NCHW or [n, channels]; batch 1 or symbolic) and any number of outputs; the program
    keeps their names, shapes and layouts; its name is that of the file or graph by default. outputs: names of values
    in the model that the program gives instead; what lies behind them is left out. Compiling twice gives the same
    digest. Raises UnsupportedError with all nodes that the NPU cannot run (its `blockers`), InvalidInputError for a
    model that is not whole, NotFoundError for a missing file. Weights that saturate or vanish are warned of, or told in
    `notes` where a list is given.
    """
    config = as_config(config)
    config = config if fmt is None else config.with_format(fmt)
    document = load_model(model)
    found, ports, stopping = _analyse(document, outputs)
    if stopping:
        raise BlockedError(stopping)
    named = "" if isinstance(model, ModelProto | GraphProto) else Path(model).stem
    label = name or named or document.graph.name or "program"
    found.graph.release()
    del document
    compilation = _Compilation(config, found, ports)
    program = compilation.program(label)
    for note in lost_weights(compilation.lost, compilation.fmt):
        if notes is None:
            warnings.warn(note, stacklevel=2)
        else:
            notes.append(note)
    return program


def compile_with_weights(
    model: ModelProto | Path | str, outputs: Sequence[str] | None = None
) -> tuple[Program, dict[str, np.ndarray]]:
    """The program in the finest format, and its matrices before quantisation, by their names.

    float32 [outputs, kernel height, kernel width, channels of a group]. Raises as `compile_model` does.
    """
    found, ports, stopping = _analyse(load_model(model), outputs)
    if stopping:
        raise BlockedError(stopping)
    compilation = _WithWeights(as_config("bw_a10").with_format(_WIDEST), found, ports)
    return compilation.program("unrounded"), compilation.weights


def blockers(model: ModelProto | GraphProto | Path | str, outputs: Sequence[str] | None = None) -> list[Blocker]:
    """All nodes of a model that keep `compile` (with the same `outputs`) from running it, in topological order.

    An empty list means that it compiles. Nodes of unknown operations or domains are named like all others, and what
    follows a blocker is judged too, as far as ONNX can infer its shape. Raises InvalidInputError and NotFoundError
    where `compile` does.
    """
    found, ports, stopping = _analyse(load_model(model), outputs)
    if not stopping:
        _Sketch(as_config("bw_a10").with_format(_WIDEST), found, ports).check_magnitudes()
    return stopping


def _analyse(document: ModelProto, outputs: Sequence[str] | None) -> tuple[LayerList, list[Port], list[Blocker]]:
    """The model's layers, its output ports, and all that keeps it from being compiled."""
    try:
        return _analyse_whole(document, outputs)
    except AmlRealtimeAiError:
        raise
    except Exception as error:  # a model that breaks ONNX's rules fails in protobuf, onnx, NumPy or here
        raise InvalidInputError(
            f"the model is malformed ({type(error).__name__}: {error}); see what onnx.checker.check_model says of it"
        ) from error


def _analyse_whole(document: ModelProto, outputs: Sequence[str] | None) -> tuple[LayerList, list[Port], list[Blocker]]:
    graph = Graph(document, outputs)
    found = lower(graph)
    refused = list(found.blockers)
    ports = []
    for name in graph.outputs:
        try:
            ports.append(_port(name, found))
        except UnknownValueError:
            pass
        except Refusal as refusal:
            refused.append((graph.maker(name), refusal))
    if not refused and not any(layer.op in PRODUCTS for layer in found.layers):
        raise InvalidInputError("expected a model with at least one Conv, Gemm or MatMul, got none")
    if not refused:
        check_constants(fold(found.layers, {port.tensor for port in ports}))
    return found, ports, _blockers(found, refused) if refused else []


def _blockers(found: LayerList, refused: Sequence[tuple[NodeProto, Refusal]]) -> list[Blocker]:
    dominators = Dominators(found.nodes, found.graph.input)
    outside = {name for node in found.graph.nodes for name in node.output}

    def is_port(name: str) -> bool:
        """Whether a program can end with that value, which inside a branch has no name that `outputs` could give."""
        if name not in outside or not found.is_runnable(name):
            return False
        axes = found.views[name].axes
        return len(axes) > 1 and axes[0] == BATCH

    return [
        Blocker(label(node), node.op_type, refusal.problem, refusal.nearest, dominators.cut_before(node, is_port))
        for node, refusal in refused
    ]


class _Compilation:
    """Emits chains layer by layer; a layer is either written by its own chain or taken into that of a neighbour."""

    def __init__(self, config: NpuConfig, found: LayerList, ports: list[Port]) -> None:
        graph = found.graph
        self.config, self.input_ports = config, (found.entry.port,)
        self.fmt = config.number_format
        self.ports = tuple(ports)
        self.kept = {port.tensor for port in self.ports}
        self.layers = swished(fold(found.layers, self.kept), self.kept)
        self.users: dict[str, list[Layer]] = {}
        for layer in self.layers:
            for tensor in layer.inputs:
                self.users.setdefault(tensor, []).append(layer)
        self.chains: list[Chain] = []
        self.tensors: dict[str, Shape] = {graph.input: found.entry.shape}
        self.matrices: dict[str, Matrix] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.indices: dict[str, np.ndarray] = {}
        # the image and what is only picked from it: few channels, one exponent for the whole tensor
        self.images = {graph.input}
        self.taken: set[Layer] = set()
        # tensors that exist only inside a later chain: what it reads and does first
        self.pending: dict[str, tuple[tuple[str, ...], list[Instruction]]] = {}
        self.names = Counter([*found.graph.names, *found.shapes])
        self.lost: dict[str, Lost] = {}

    def program(self, name: str) -> Program:
        """The whole program."""
        self._emit()
        return Program(
            name,
            self.config,
            self.input_ports,
            self.ports,
            self.tensors,
            tuple(self.chains),
            self.matrices,
            self.vectors,
            self.indices,
        )

    def _emit(self) -> None:
        for layer in self.layers:
            if layer not in self.taken:
                getattr(self, f"_emit_{layer.op}")(layer)

    def _emit_conv(self, layer: Layer) -> None:
        reads, steps = self._source(layer.inputs[0])
        steps.append(self._v_filter(layer) if layer.op == "filter" else self._mv_mul(layer, reads))
        if layer.bias is not None:
            steps.append(self._constant("vv_add", f"{layer.name}/bias", layer.bias))
        self._write(layer, reads, steps, layer.output)

    _emit_filter = _emit_conv

    def _emit_affine(self, layer: Layer) -> None:
        reads, steps = self._source(layer.inputs[0])
        if layer.gain is not None:
            steps.append(self._constant("vv_mul", f"{layer.name}/scale", layer.gain))
        if layer.bias is not None:
            steps.append(self._constant("vv_add", f"{layer.name}/shift", layer.bias))
        self._defer_or_write(layer, reads, steps, ("conv", "filter", "vector"))

    def _emit_vector(self, layer: Layer) -> None:
        reads, steps = self._source(layer.inputs[0])
        steps += self._instructions(layer)
        if layer.inputs[0] in self.images and all(step.op in _MOVES for step in layer.steps):
            self.images.add(layer.output)
        if is_activation(layer):
            self._defer_or_write(layer, reads, steps, ("conv", "filter"))
        else:
            self._chain(layer, reads, steps, layer.output)

    def _instructions(self, layer: Layer) -> list[Instruction]:
        return [self._instruction(layer.name, step) for step in layer.steps]

    def _instruction(self, name: str, step: Step) -> Instruction:
        operands = []
        for letter, positions in zip("rck", step.lists, strict=False):
            operands.append("" if positions is None else self._unused(f"{name}/{letter}"))
            if positions is not None:
                self.indices[operands[-1]] = positions
        if step.vector is not None:
            operands.append(self._unused(f"{name}/values"))
            self.vectors[operands[-1]] = np.ascontiguousarray(step.vector)
        return Instruction(step.op, tuple(operands), None, step.values)

    def _emit_add(self, layer: Layer) -> None:
        steps = [Instruction("vv_mul" if layer.op == "mul" else "vv_add", (layer.inputs[1],))]
        self._write(layer, (layer.inputs[0],), steps, layer.output)

    _emit_mul = _emit_add

    def _emit_max(self, layer: Layer) -> None:
        reads, steps = self._source(layer.inputs[0])
        pool = Instruction(f"v_{layer.op}", (), layer.window, tuple(float(n) for n in layer.counted))
        self._chain(layer, reads, [*steps, pool], layer.output)

    _emit_avg = _emit_max

    def _emit_concat(self, layer: Layer) -> None:
        reads = tuple(name for tensor in layer.inputs for name in self._source(tensor)[0])
        whole = layer.output in self.kept or any(user.op in ("add", "mul") for user in self.users.get(layer.output, []))
        if whole:
            self._chain(layer, reads, [], layer.output)
        else:
            self.pending[layer.output] = (reads, [])

    def _source(self, tensor: str) -> tuple[tuple[str, ...], list[Instruction]]:
        """What a chain that works on `tensor` reads, and the instructions that it takes over."""
        reads, steps = self.pending.get(tensor, ((tensor,), []))
        return reads, list(steps)

    def _only_user(self, tensor: str) -> Layer | None:
        users = self.users.get(tensor, [])
        return users[0] if len(users) == 1 and tensor not in self.kept else None

    def _defer_or_write(
        self, layer: Layer, reads: tuple[str, ...], steps: list[Instruction], into: tuple[str, ...]
    ) -> None:
        user = self._only_user(layer.output)
        if user is not None and user.op in into:
            self.pending[layer.output] = (reads, steps)
        else:
            self._chain(layer, reads, steps, layer.output)

    def _write(self, layer: Layer, reads: tuple[str, ...], steps: list[Instruction], result: str) -> None:
        """End a chain, taking in the residual addition and the ReLU that follow where nothing else needs the value."""
        user = self._only_user(result)
        if layer.op in PRODUCTS and user is not None and user.op == "add" and user.shape == layer.shape:
            other = user.inputs[1] if user.inputs[0] == result else user.inputs[0]
            if other in self.tensors:
                steps.append(Instruction("vv_add", (other,)))
                self.taken.add(user)
                result = user.output
                user = self._only_user(result)
        if user is not None and is_activation(user):
            steps += self._instructions(user)
            self.taken.add(user)
            result = user.output
        self._chain(layer, reads, steps, result)

    def _chain(self, layer: Layer, reads: tuple[str, ...], steps: list[Instruction], result: str) -> None:
        instructions = (Instruction("v_rd", reads), *steps, Instruction("v_wr", (result,)))
        self.chains.append(Chain(layer.name, instructions))
        self.tensors[result] = layer.shape

    def _unused(self, name: str) -> str:
        """`name`, or that name with a number where a value or constant has it already."""
        self.names[name] += 1
        return name if self.names[name] == 1 else self._unused(f"{name}_{self.names[name]}")

    def _constant(self, op: str, name: str, values: np.ndarray) -> Instruction:
        name = self._unused(name)
        self.vectors[name] = values.astype(np.float32)
        return Instruction(op, (name,))

    def _mv_mul(self, layer: Layer, reads: tuple[str, ...]) -> Instruction:
        assert layer.weights is not None and layer.window is not None
        _, height, width, channels = layer.weights.shape
        from_image = len(reads) == 1 and reads[0] in self.images and channels <= _LARGEST_IMAGE_CHANNELS
        by_rows = (
            from_image and layer.groups == 1 and layer.window.dilations == (1, 1) and width * channels <= _LARGEST_BLOCK
        )
        blocking = "rows" if by_rows else "channels"
        name = self._unused(layer.name)
        mantissas, exponents = self._quantised(layer, blocking)
        self.matrices[name] = Matrix(mantissas, exponents, (height, width), channels, blocking, layer.groups)
        return Instruction("mv_mul", (name,), layer.window)

    def _quantised(self, layer: Layer, blocking: str) -> tuple[np.ndarray, np.ndarray]:
        mantissas, exponents, self.lost[layer.name] = quantised(layer, blocking, self.fmt)
        return mantissas, exponents

    def _v_filter(self, layer: Layer) -> Instruction:
        """Depthwise: float32 filters [kernel height, kernel width, outputs] for the vector unit."""
        name = self._unused(layer.name)
        self.vectors[name] = np.ascontiguousarray(scaled_weights(layer)[..., 0].transpose(1, 2, 0))
        return Instruction("v_filter", (name,), layer.window)


class _WithWeights(_Compilation):
    """The same program, and the weights of its matrices as they were."""

    def __init__(self, config: NpuConfig, found: LayerList, ports: list[Port]) -> None:
        super().__init__(config, found, ports)
        self.weights: dict[str, np.ndarray] = {}

    def _mv_mul(self, layer: Layer, reads: tuple[str, ...]) -> Instruction:
        instruction = super()._mv_mul(layer, reads)
        self.weights[instruction.operands[0]] = scaled_weights(layer)
        return instruction


class _Sketch(_Compilation):
    """The same chains, with the largest exponent of each layer's weights instead of the weights."""

    def check_magnitudes(self) -> None:
        """Raise the InvalidInputError of a program whose sums could exceed float32."""
        self._emit()
        magnitudes.check(self)

    def _quantised(self, layer: Layer, blocking: str) -> tuple[np.ndarray, np.ndarray]:
        assert layer.weights is not None
        largest = np.maximum(layer.weights.max((1, 2, 3)), -layer.weights.min((1, 2, 3)))
        if layer.gain is not None:
            largest = largest * np.abs(layer.gain)
        return np.zeros(0, np.int8), block_exponents(largest, self.fmt)


def _port(name: str, found: LayerList) -> Port:
    """The output port of an ONNX value, in the layout that its axes have; values in no such order are rearranged."""
    if name == found.graph.input:
        raise InvalidInputError(
            f"output {name} is the input itself, which nothing computes; leave it out of the outputs"
        )
    view: View | None = found.views.get(name)
    if view is None and found.is_behind_blockers(name):
        raise UnknownValueError
    if view is None:
        raise InvalidInputError(f"output {name} does not depend on the input, or nothing writes it")
    if len(view.axes) == 1:
        raise Refusal(f"output {name} has no axis behind the batch", "outputs with two axes and more")
    if view.axes[:1] != (BATCH,):
        raise Refusal(f"output {name} does not have the batch as its first axis", "outputs with the batch first")
    maker = found.graph.maker(name)
    view = found.padded(maker, view)
    if view.tensor == found.graph.input:
        view = View(found.add_steps(maker, view, [], found.shapes[view.tensor], "copy"), view.axes)
    shape = found.shapes[view.tensor]
    for layout in ("nhwc", "nchw", "nc"):
        if view.axes == axes_of(layout, shape) and (layout != "nc" or shape[:2] == (1, 1)):
            return Port(name, view.tensor, layout)
    sizes = tuple(extents(view.axes)[1:])
    letters = "".join(part[0] for part in joined([part for axis in view.axes[1:] for part in axis]))
    if len(set(letters)) < len(letters):
        flat = reshaped(view.axes, [1, -1])
        assert flat is not None
        return Port(name, found.rearranged(maker, replace(view, axes=flat)).tensor, "nhwc", sizes)
    missing = "".join(letter for letter in "hwc" if letter not in letters)
    return Port(name, view.tensor, f"n{missing}{letters}", sizes)
