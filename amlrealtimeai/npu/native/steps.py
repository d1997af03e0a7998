"""A program's chains as the native kernel's steps, and in which form (floats, mantissas) each tensor is kept.

Tensors have numbers here: those of the program, and more for what passes between the steps of one chain.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.native.packing import lanes_of
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Program, Shape, Window

NONE = -1
_ACTIVATIONS = {
    "v_relu": layout.RELU,
    "v_prelu": layout.PRELU,
    "v_clip": layout.CLIP,
    "v_threshold": layout.THRESHOLD,
    "v_sigmoid": layout.SIGMOID,
    "v_silu": layout.SILU,
    "v_hsigmoid": layout.HARD_SIGMOID,
    "v_hswish": layout.HARD_SWISH,
    "v_lrn": layout.NORMALIZE,
}
_BY_VALUE = ("vv_mul", "vv_add", *_ACTIVATIONS)
_POOLS = {"v_max": layout.MAX_POOL, "v_avg": layout.AVG_POOL}


@dataclass
class Operation:
    """One operation on the values of a step; a copy fills the channels from `channel` on."""

    kind: int
    tensor: int = NONE
    channel: int = 0
    constant: np.ndarray | None = None
    numbers: tuple[float, ...] = ()


@dataclass
class Node:
    """One step before addresses exist; `shape` is that of its result."""

    name: str
    kind: int
    sources: list[int]
    destination: int
    window: Window = field(default_factory=lambda: Window((1, 1)))
    matrix: Matrix | None = None
    bias: np.ndarray | None = None
    residual: int = NONE
    relu: bool = False
    operations: list[Operation] = field(default_factory=list)
    shape: Shape | None = None
    lists: tuple[np.ndarray | None, ...] = ()
    factors: np.ndarray | None = None
    counted: tuple[int, ...] = ()
    axis: int = 0
    fill: float = 0.0

    @property
    def work(self) -> int:
        """Floats that its operations need beside its values: squares of channels and zeros around them."""
        sizes = [int(one.numbers[0]) for one in self.operations if one.kind == layout.NORMALIZE]
        return max(sizes) + (self.shape[2] if self.shape else 0) + 32 if sizes else 0


@dataclass
class Stored:
    """How one tensor is kept: `last_float` and `last_quantized` are the last steps that read each form.

    external: the caller's array. whole: mantissas with one exponent. floats_in: whose floats its own replace.
    parts: no block goes beyond one of so many parts of the channels; 0 until a product reads it.
    """

    shape: Shape
    external: bool = False
    whole: bool = False
    parts: int = 0
    is_signed: bool = True
    made: int = NONE
    last_float: int = NONE
    last_quantized: int = NONE
    floats_in: int = NONE
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)


class Steps:
    """The steps of all chains in order, and the tensors that they pass on.

    numbers: those of the program's tensors, by name. kept: the names of those that a run returns beside the outputs.
    """

    def __init__(self, program: Program, keep: bool) -> None:
        self._program = program
        self.nodes: list[Node] = []
        self.stored: list[Stored] = []
        self.numbers: dict[str, int] = {}
        self._copies: dict[tuple[int, int], int] = {}
        self._wholes: dict[int, int] = {}
        image = program.input_ports[0].tensor
        self.numbers[image] = self._tensor(Stored(program.tensors[image], external=True))
        for chain in program.chains:
            self._lower(chain)
        self.outputs = [self.numbers[port.tensor] for port in program.output_ports]
        self.kept = [name for name in program.tensors if keep and name in self.numbers]
        self.outputs += [self.numbers[name] for name in self.kept]
        self._plan_storage(share=not keep)

    def _tensor(self, stored: Stored) -> int:
        self.stored.append(stored)
        return len(self.stored) - 1

    def _lower(self, chain: Chain) -> None:
        sources = [self.numbers[name] for name in chain.reads]
        rest = list(chain.instructions[1:-1])
        result = self._step(chain, sources, rest)
        while rest:
            result = self._step(chain, [result], rest)
        self.numbers[chain.writes] = result

    def _step(self, chain: Chain, sources: list[int], rest: list[Instruction]) -> int:
        """Add one step that takes as many instructions from the front of `rest` as it can do; what it writes."""
        if len(sources) > 1 or not rest or rest[0].op in _BY_VALUE:
            return self._pointwise(chain, sources, rest)
        if rest[0].op == "mv_mul":
            return self._convolution(chain, sources[0], rest)
        node = self._moving(chain, sources[0], rest.pop(0))
        self._take_operations(node, rest)
        return self._add(node)

    def _moving(self, chain: Chain, source: int, instruction: Instruction) -> Node:
        """A step of the vector units with a window, or one that moves values."""
        program, window = self._program, instruction.window or Window((1, 1))
        height, width, channels = self.stored[source].shape
        values = tuple(int(v) for v in instruction.values) if instruction.op != "v_pick" else ()
        lists = tuple(program.indices.get(name) for name in instruction.operands)
        match instruction.op:
            case "v_max" | "v_avg":
                shape = (*window.output_size(height, width), channels)
                source = self._with_lanes(source)
                return Node(chain.name, _POOLS[instruction.op], [source], NONE, window, shape=shape, counted=values)
            case "v_filter":
                filters = program.vectors[instruction.operands[0]]
                shape = (*window.output_size(height, width), filters.shape[2])
                source = self._with_lanes(source)
                return Node(chain.name, layout.FILTER, [source], NONE, window, shape=shape, factors=filters)
            case "v_pick":
                sizes = zip(lists, (height, width, channels), strict=True)
                rows, columns, kept = (size if positions is None else len(positions) for positions, size in sizes)
                fill = instruction.values[0]
                return Node(
                    chain.name, layout.PICK, [source], NONE, shape=(rows, columns, kept), lists=lists, fill=fill
                )
            case "v_blend":
                weights = program.vectors[instruction.operands[2]]
                shape = (len(weights), width, channels) if values[0] == 0 else (height, len(weights), channels)
                pair = lists[:2]
                return Node(
                    chain.name, layout.BLEND, [source], NONE, shape=shape, lists=pair, factors=weights, axis=values[0]
                )
            case "v_shape":
                return Node(chain.name, layout.SHAPE, [source], NONE, shape=(values[0], values[1], values[2]))
        raise AssertionError(f"a checked program has no {instruction}")

    def _take_operations(self, node: Node, rest: list[Instruction], crossing: bool = True) -> None:
        """Move what works value by value from the front of `rest` to the node; crossing: also what mixes channels."""
        while rest and rest[0].op in _BY_VALUE and (crossing or rest[0].op != "v_lrn"):
            node.operations.append(self._operation(rest.pop(0)))

    def _add(self, node: Node) -> int:
        assert node.shape is not None
        whole = node.kind == layout.QUANTIZE_WHOLE
        node.destination = self._tensor(Stored(node.shape, whole=whole, made=len(self.nodes)))
        self.nodes.append(node)
        return node.destination

    def _pointwise(self, chain: Chain, sources: list[int], rest: list[Instruction]) -> int:
        shapes = [self.stored[number].shape for number in sources]
        shape = (*shapes[0][:2], sum(shape[2] for shape in shapes))
        node = Node(chain.name, layout.POINTWISE, sources, NONE, shape=shape)
        channel = 0
        for number in sources:
            node.operations.append(Operation(layout.COPY, number, channel))
            channel += self.stored[number].shape[2]
        self._take_operations(node, rest)
        return self._add(node)

    def _operation(self, instruction: Instruction) -> Operation:
        name = instruction.operands[0] if instruction.operands else ""
        constant = self._program.vectors.get(name)
        if instruction.op == "v_lrn":
            size, alpha, beta, bias = instruction.values
            return Operation(layout.NORMALIZE, numbers=(size, alpha / size, 4 * beta, bias))
        if instruction.op in _ACTIVATIONS:
            return Operation(_ACTIVATIONS[instruction.op], constant=constant, numbers=instruction.values)
        multiply = instruction.op == "vv_mul"
        if constant is None:
            return Operation(layout.MULTIPLY_TENSOR if multiply else layout.ADD_TENSOR, self.numbers[name])
        return Operation(layout.MULTIPLY if multiply else layout.ADD, constant=constant)

    def _convolution(self, chain: Chain, source: int, rest: list[Instruction]) -> int:
        multiply = rest.pop(0)
        matrix, window = self._program.matrices[multiply.operands[0]], multiply.window or Window((1, 1))
        source = self._whole(source) if matrix.blocking == "rows" else self._in_parts(source, matrix.groups)
        shape = (*window.output_size(*self.stored[source].shape[:2]), matrix.outputs)
        node = Node(chain.name, layout.CONV, [source], NONE, window, matrix, shape=shape)
        self._take_operations(node, rest, crossing=False)
        self._fuse(node)
        return self._add(node)

    def _fuse(self, node: Node) -> None:
        """Leave a bias, a residual of the same size and ReLU to the kernel's own finish, if there is nothing else."""
        rest = list(node.operations)
        bias = rest.pop(0).constant if rest and rest[0].kind == layout.ADD else None
        residual = NONE
        if rest and rest[0].kind == layout.ADD_TENSOR and self.stored[rest[0].tensor].shape == node.shape:
            residual = rest.pop(0).tensor
        relu = bool(rest) and rest[0].kind == layout.RELU
        if len(rest) == relu:
            node.operations, node.bias, node.relu = [], bias, relu
            node.residual = NONE if residual == NONE else self._with_lanes(residual)

    def _with_lanes(self, number: int) -> int:
        """The tensor; for the caller's array, which has no padding lanes, a copy that has."""
        return self._copy(number, 1) if self.stored[number].external else number

    def _in_parts(self, number: int, parts: int) -> int:
        """A tensor of the same values in blocks that stay inside one of `parts` parts of the channels."""
        one = self.stored[number]
        if not one.external and (one.parts or parts) == parts and (parts == 1 or self._parts_fit(one, parts)):
            one.parts = parts
            return number
        return self._copy(number, parts)

    def _parts_fit(self, one: Stored, parts: int) -> bool:
        """Whether the channels fill whole blocks, of the tensor and of each of its parts: no lane is padding."""
        fmt, channels = self._program.config.number_format, one.shape[2]
        return lanes_of(channels, fmt) == channels and lanes_of(channels // parts, fmt) * parts == channels

    def _copy(self, number: int, parts: int) -> int:
        """Another tensor of the same values; each of several parts has its own padding lanes, as channels."""
        if (number, parts) not in self._copies:
            rows, columns, channels = self.stored[number].shape
            each = channels // parts
            lanes = lanes_of(each, self._program.config.number_format) if parts > 1 else each
            if lanes == each:
                copy = [Operation(layout.COPY, number)]
                node = Node("copy", layout.POINTWISE, [number], NONE, operations=copy, shape=(rows, columns, channels))
            else:
                places = np.arange(channels, dtype=np.int32).reshape(parts, each)
                places = np.pad(places, [(0, 0), (0, lanes - each)], constant_values=-1)
                shape = (rows, columns, parts * lanes)
                node = Node("copy", layout.PICK, [number], NONE, shape=shape, lists=(None, None, places.reshape(-1)))
            self._copies[number, parts] = self._add(node)
            self.stored[self._copies[number, parts]].parts = parts
        return self._copies[number, parts]

    def _whole(self, number: int) -> int:
        """The tensor's mantissas with one exponent for all of them."""
        if number not in self._wholes:
            shape = self.stored[number].shape
            node = Node("quantize the image", layout.QUANTIZE_WHOLE, [number], NONE, shape=shape)
            self._wholes[number] = self._add(node)
        return self._wholes[number]

    def _plan_storage(self, share: bool) -> None:
        """Note how long each form of every tensor is needed."""
        for number, node in enumerate(self.nodes):
            self.stored[node.destination].is_signed = not self._never_negative(node)
            for source in node.sources:
                if node.kind == layout.CONV:
                    self.stored[source].last_quantized = number
                    _widen_halo(self.stored[source], node.window)
                else:
                    self.stored[source].last_float = number
            for other in [node.residual, *(operation.tensor for operation in node.operations)]:
                if other != NONE:
                    self.stored[other].last_float = number
        for number in self.outputs:
            self.stored[number].last_float = len(self.nodes)
        if share:
            self._replace_residuals()

    def _replace_residuals(self) -> None:
        """Let a sum take the place of the residual that it read for the last time: it is in the cache already."""
        for number, node in enumerate(self.nodes):
            if node.residual == NONE:
                continue
            target, residual = self.stored[node.destination], self.stored[node.residual]
            if target.last_float >= 0 and residual.last_float == number:
                target.floats_in = node.residual if residual.floats_in == NONE else residual.floats_in

    def _never_negative(self, node: Node) -> bool:
        """Whether its result is never below 0 and never -0."""
        last = node.operations[-1] if node.operations else None
        if last and last.kind in (layout.RELU, layout.SIGMOID, layout.HARD_SIGMOID):
            return True
        if last and last.kind in (layout.CLIP, layout.THRESHOLD):
            return last.numbers[0] >= 0
        if node.kind == layout.CONV:
            return node.relu
        only_moves = node.kind == layout.POINTWISE and all(one.kind == layout.COPY for one in node.operations)
        return only_moves and not any(self.stored[number].is_signed for number in node.sources)


def _widen_halo(stored: Stored, window: Window) -> None:
    size = stored.shape[:2]
    outputs = window.output_size(*size)
    after = [
        (outputs[i] - 1) * window.strides[i]
        + (window.kernel[i] - 1) * window.dilations[i]
        - window.pads[i]
        - (size[i] - 1)
        for i in (0, 1)
    ]
    needed = (window.pads[0], window.pads[1], *after)
    top, left, bottom, right = (max(have, need) for have, need in zip(stored.halo, needed, strict=True))
    stored.halo = (top, left, bottom, right)


def intervals(stored: list[Stored], end: int, keep: bool) -> Iterator[tuple[int, str, int, int]]:
    """(tensor, form, first step, last step) of everything that needs memory."""
    floats: dict[int, tuple[int, int]] = {}
    for number, one in enumerate(stored):
        if one.last_float >= 0 and not one.external:
            home = number if one.floats_in == NONE else one.floats_in
            first, last = floats.get(home, (one.made, NONE))
            floats[home] = min(first, one.made), max(last, one.last_float)
        if one.last_quantized >= 0:
            yield number, "quantized", one.made, end if keep else one.last_quantized
    for number, (first, last) in floats.items():
        yield number, "floats", first, end if keep else last
