"""A program's chains as the native kernel's steps, and in which form (floats, mantissas) each tensor is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from amlrealtimeai.errors import UnsupportedError
from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.program import Chain, Instruction, Program, Shape, Window

_KINDS = {"v_max": layout.MAX_POOL, "v_avg": layout.AVG_POOL}


@dataclass
class Node:
    """One step before addresses exist; `operations` are (kind, tensor or "", first channel, constant or "")."""

    name: str
    kind: int
    sources: list[str]
    destination: str
    window: Window = field(default_factory=lambda: Window((1, 1)))
    matrix: str = ""
    bias: str = ""
    residual: str = ""
    relu: bool = False
    operations: list[tuple[int, str, int, str]] = field(default_factory=list)


@dataclass
class Stored:
    """How one tensor is kept: `last_float` and `last_quantized` are the last steps that read each form, -1 for none.

    floats_in: the tensor whose floats its own replace, "" for none.
    """

    shape: Shape
    external: bool = False
    whole: bool = False
    is_signed: bool = True
    made: int = -1
    last_float: int = -1
    last_quantized: int = -1
    floats_in: str = ""
    halo: tuple[int, int, int, int] = (0, 0, 0, 0)


def nodes_of(program: Program) -> tuple[list[Node], dict[str, Shape]]:
    """The steps of all chains in order, and the shapes of the tensors that they pass between them."""
    shapes = dict(program.tensors)
    nodes: list[Node] = []
    image = program.input_ports[0].tensor
    readers = {_blocking(program, chain) for chain in program.chains if chain.reads == (image,)} - {""}
    if "rows" in readers:
        nodes.append(Node("quantize the image", layout.QUANTIZE_WHOLE, [image], image))
    aliases = {}
    if "channels" in readers:
        aliases[image] = f"{image}/blocks"
        shapes[aliases[image]] = shapes[image]
        nodes.append(
            Node("copy the image", layout.POINTWISE, [image], aliases[image], operations=[(layout.COPY, image, 0, "")])
        )
    for chain in program.chains:
        _lower_chain(program, chain, shapes, nodes, aliases)
    return nodes, shapes


def _blocking(program: Program, chain: Chain) -> str:
    first = chain.instructions[1]
    return program.matrices[first.operands[0]].blocking if first.op == "mv_mul" else ""


def _lower_chain(
    program: Program, chain: Chain, shapes: dict[str, Shape], nodes: list[Node], aliases: dict[str, str]
) -> None:
    sources = list(chain.reads)
    rest = list(chain.instructions[1:-1])
    count = 0
    while rest or not count:
        node = _next_node(program, chain, sources, rest, aliases)
        if rest:
            node.destination = f"{chain.writes}/{count}"
            shapes[node.destination] = _shape_of(program, node, [shapes[name] for name in node.sources])
        nodes.append(node)
        sources, count = [node.destination], count + 1


def _next_node(
    program: Program, chain: Chain, sources: list[str], rest: list[Instruction], aliases: dict[str, str]
) -> Node:
    """Take as many instructions from the front of `rest` as one step can do."""
    single = len(sources) == 1
    if rest and rest[0].op == "mv_mul" and single:
        return _convolution(program, chain, sources[0], rest, aliases)
    if rest and rest[0].op in _KINDS and single:
        pool = rest.pop(0)
        return Node(chain.name, _KINDS[pool.op], sources, chain.writes, pool.window or Window((1, 1)))
    node = Node(chain.name, layout.POINTWISE, sources, chain.writes)
    channel = 0
    for name in sources:
        node.operations.append((layout.COPY, name, channel, ""))
        channel += program.tensors[name][2] if name in program.tensors else 0
    while rest and rest[0].op in ("vv_mul", "vv_add", "v_relu"):
        node.operations.append(_operation(program, rest.pop(0)))
    return node


def _operation(program: Program, instruction: Instruction) -> tuple[int, str, int, str]:
    if instruction.op == "v_relu":
        return layout.RELU, "", 0, ""
    name = instruction.operands[0]
    if name in program.vectors:
        return (layout.MULTIPLY if instruction.op == "vv_mul" else layout.ADD), "", 0, name
    return layout.ADD_TENSOR, name, 0, ""


def _convolution(program: Program, chain: Chain, source: str, rest: list[Instruction], aliases: dict[str, str]) -> Node:
    multiply = rest.pop(0)
    matrix = program.matrices[multiply.operands[0]]
    if matrix.blocking == "channels":
        source = aliases.get(source, source)
    elif source != program.input_ports[0].tensor:
        raise UnsupportedError(f"chain {chain.name}: blocks of rows are supported for the program's input only")
    node = Node(chain.name, layout.CONV, [source], chain.writes, multiply.window or Window((1, 1)))
    node.matrix = multiply.operands[0]
    if rest and rest[0].op == "vv_add" and rest[0].operands[0] in program.vectors:
        node.bias = rest.pop(0).operands[0]
    if rest and rest[0].op == "vv_add" and rest[0].operands[0] not in program.vectors:
        node.residual = rest.pop(0).operands[0]
    if rest and rest[0].op == "v_relu":
        rest.pop(0)
        node.relu = True
    return node


def _shape_of(program: Program, node: Node, sources: list[Shape]) -> Shape:
    channels = sum(shape[2] for shape in sources)
    if node.kind == layout.POINTWISE:
        return (*sources[0][:2], channels)
    rows, columns = node.window.output_size(*sources[0][:2])
    return rows, columns, program.matrices[node.matrix].outputs if node.matrix else channels


def storage(program: Program, nodes: list[Node], shapes: dict[str, Shape], keep: bool) -> dict[str, Stored]:
    """How every tensor is kept. With keep=True all of them as floats, until the end."""
    image, end = program.input_ports[0].tensor, len(nodes)
    stored = {name: Stored(shape) for name, shape in shapes.items()}
    stored[image].external = True
    for number, node in enumerate(nodes):
        target = stored[node.destination]
        target.made = number
        if node.kind == layout.QUANTIZE_WHOLE:
            target.whole = True
            continue
        target.is_signed = not _never_negative(node, stored)
        for name in node.sources:
            if node.kind == layout.CONV:
                stored[name].last_quantized = number
                _widen_halo(stored[name], node.window)
            else:
                stored[name].last_float = number
        for name in [node.residual, *(tensor for _, tensor, _, _ in node.operations)]:
            if name:
                stored[name].last_float = number
    for port in program.output_ports:
        stored[port.tensor].last_float = end
    if keep:
        for name in program.tensors:
            stored[name].last_float = end
    else:
        _replace_residuals(nodes, stored)
    return stored


def _replace_residuals(nodes: list[Node], stored: dict[str, Stored]) -> None:
    """Let a sum take the place of the residual that it read for the last time: that memory is in the cache already."""
    for number, node in enumerate(nodes):
        target, residual = stored[node.destination], stored.get(node.residual)
        if residual and target.last_float >= 0 and residual.last_float == number and residual.shape == target.shape:
            target.floats_in = "" if residual.external else residual.floats_in or node.residual


def _never_negative(node: Node, stored: dict[str, Stored]) -> bool:
    if node.kind == layout.CONV:
        return node.relu
    if node.operations and node.operations[-1][0] == layout.RELU:
        return True
    only_moves = all(kind == layout.COPY for kind, _, _, _ in node.operations)
    return only_moves and not any(stored[name].is_signed for name in node.sources)


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


def intervals(stored: dict[str, Stored], end: int, keep: bool) -> Iterator[tuple[str, str, int, int]]:
    """(tensor, form, first step, last step) of everything that needs memory."""
    floats: dict[str, tuple[int, int]] = {}
    for name, one in stored.items():
        if one.last_float >= 0 and not one.external:
            # a loaded program may name a sum before the residual whose place it takes
            first, last = floats.get(one.floats_in or name, (one.made, -1))
            floats[one.floats_in or name] = min(first, one.made), max(last, one.last_float)
        if one.last_quantized >= 0:
            yield name, "quantized", max(one.made, 0), end if keep else one.last_quantized
    for name, (first, last) in floats.items():
        yield name, "floats", first, end if keep else last
