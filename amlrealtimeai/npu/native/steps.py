"""A program's chains as the native kernel's steps, and in which form (floats, mantissas) each tensor is kept.

Tensors have numbers here: those of the program, and more for what passes between the steps of one chain.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Program, Shape, Window

NONE = -1
_KNOWN = ("v_rd", "v_wr", "mv_mul", "vv_mul", "vv_add", "v_relu", "v_max", "v_avg")
_POOLS = {"v_max": layout.MAX_POOL, "v_avg": layout.AVG_POOL}


@dataclass
class Operation:
    """One operation of a pointwise step; a copy fills the channels from `channel` on."""

    kind: int
    tensor: int = NONE
    channel: int = 0
    constant: np.ndarray | None = None


@dataclass
class Node:
    """One step before addresses exist."""

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


@dataclass
class Stored:
    """How one tensor is kept: `last_float` and `last_quantized` are the last steps that read each form.

    external: the caller's array. whole: mantissas with one exponent. floats_in: whose floats its own replace.
    """

    shape: Shape
    external: bool = False
    whole: bool = False
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
        self._copies: dict[int, int] = {}
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
        _require_known(self._program, chain)
        sources = [self.numbers[name] for name in chain.reads]
        rest = list(chain.instructions[1:-1])
        result = self._step(chain, sources, rest)
        while rest:
            result = self._step(chain, [result], rest)
        self.numbers[chain.writes] = result

    def _step(self, chain: Chain, sources: list[int], rest: list[Instruction]) -> int:
        """Add one step that takes as many instructions from the front of `rest` as it can do; what it writes."""
        single = len(sources) == 1
        if rest and rest[0].op == "mv_mul" and single:
            node = self._convolution(chain, sources[0], rest)
        elif rest and rest[0].op in _POOLS and single:
            pool = rest.pop(0)
            node = Node(chain.name, _POOLS[pool.op], sources, NONE, pool.window or Window((1, 1)))
        else:
            node = self._pointwise(chain, sources, rest)
        return self._add(node)

    def _add(self, node: Node) -> int:
        rows, columns, channels = self.stored[node.sources[0]].shape
        if node.kind == layout.POINTWISE:
            channels = sum(self.stored[number].shape[2] for number in node.sources)
        elif node.kind != layout.QUANTIZE_WHOLE:
            rows, columns = node.window.output_size(rows, columns)
        if node.matrix:
            channels = node.matrix.outputs
        added = [one.tensor for one in node.operations if one.kind == layout.ADD_TENSOR] + [node.residual]
        if any(self.stored[one].shape != (rows, columns, channels) for one in added if one != NONE):
            raise UnsupportedError(f"chain {node.name}: the native kernel adds no tensor of another size")
        whole = node.kind == layout.QUANTIZE_WHOLE
        node.destination = self._tensor(Stored((rows, columns, channels), whole=whole, made=len(self.nodes)))
        self.nodes.append(node)
        return node.destination

    def _pointwise(self, chain: Chain, sources: list[int], rest: list[Instruction]) -> Node:
        node = Node(chain.name, layout.POINTWISE, sources, NONE)
        channel = 0
        for number in sources:
            node.operations.append(Operation(layout.COPY, number, channel))
            channel += self.stored[number].shape[2]
        while rest and rest[0].op in ("vv_mul", "vv_add", "v_relu"):
            node.operations.append(self._operation(rest.pop(0)))
        return node

    def _operation(self, instruction: Instruction) -> Operation:
        if instruction.op == "v_relu":
            return Operation(layout.RELU)
        constant = self._program.vectors.get(instruction.operands[0])
        if constant is None:
            return Operation(layout.ADD_TENSOR, self.numbers[instruction.operands[0]])
        return Operation(layout.MULTIPLY if instruction.op == "vv_mul" else layout.ADD, constant=constant)

    def _convolution(self, chain: Chain, source: int, rest: list[Instruction]) -> Node:
        multiply = rest.pop(0)
        matrix = self._program.matrices[multiply.operands[0]]
        source = self._whole(source) if matrix.blocking == "rows" else self._with_lanes(source)
        node = Node(chain.name, layout.CONV, [source], NONE, multiply.window or Window((1, 1)), matrix)
        vectors = self._program.vectors
        if rest and rest[0].op == "vv_add" and rest[0].operands[0] in vectors:
            node.bias = vectors[rest.pop(0).operands[0]]
        if rest and rest[0].op == "vv_add" and rest[0].operands[0] not in vectors:
            node.residual = self._with_lanes(self.numbers[rest.pop(0).operands[0]])
        if rest and rest[0].op == "v_relu":
            rest.pop(0)
            node.relu = True
        return node

    def _with_lanes(self, number: int) -> int:
        """The tensor; for the caller's array, which has no padding lanes, a copy that has."""
        if not self.stored[number].external:
            return number
        if number not in self._copies:
            copy = Operation(layout.COPY, number)
            self._copies[number] = self._add(
                Node("copy the image", layout.POINTWISE, [number], NONE, operations=[copy])
            )
        return self._copies[number]

    def _whole(self, number: int) -> int:
        """The tensor's mantissas with one exponent for all of them."""
        if number not in self._wholes:
            node = Node("quantize the image", layout.QUANTIZE_WHOLE, [number], NONE)
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
        if node.kind == layout.CONV:
            return node.relu
        if node.operations and node.operations[-1].kind == layout.RELU:
            return True
        only_moves = all(operation.kind == layout.COPY for operation in node.operations)
        return only_moves and not any(self.stored[number].is_signed for number in node.sources)


def _require_known(program: Program, chain: Chain) -> None:
    for i in chain.instructions:
        grouped = i.op == "mv_mul" and program.matrices[i.operands[0]].groups > 1
        padded = i.op == "v_avg" and i.window is not None and any(i.window.pads)
        by_tensor = i.op == "vv_mul" and i.operands[0] not in program.vectors
        if i.op not in _KNOWN or grouped or padded or by_tensor:
            raise UnsupportedError(f"chain {chain.name}: the native kernel has no {i}; npu.reference runs it")


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
