"""Which parts of a graph the NPU runs: what npu.blockers lets through, where there is matrix work.

The compiler alone says what the NPU can run. A part
- starts at one float image tensor of fixed size and holds all that the compiler takes of what depends on it alone;
- contains a convolution, and ends behind the last one where data is only moved (Reshape, Squeeze, ...) or a dense layer
  begins: classifiers stay in float32 on the host;
- is cut at tensors of the source, so that its results can be compared with the framework's own;
- does at least a twentieth of the network's multiplications, or is the largest: handing data over costs as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amlrealtimeai import npu
from amlrealtimeai.convert.graph import LOOP_OPS
from amlrealtimeai.convert.report import Blocked
from amlrealtimeai.convert.source import Source, consumers
from amlrealtimeai.errors import ConversionError

_SHARE = 0.05
_MOST = 0.5


@dataclass
class Part:
    """A region for the NPU: its nodes, the tensors at its edges, and the ONNX that npu.compile takes."""

    nodes: list[str]
    inputs: list[str]
    outputs: list[str]
    onnx: Any


def find_parts(
    graph: Source, given: Sequence[str], outputs: Sequence[str], inside: set[str] | None = None
) -> tuple[list[Part], list[Blocked]]:
    """The parts between `given` and `outputs` in the order they run, and the nodes that keep others from the NPU.

    inside: names of the nodes to look at; None for all.
    """
    search = _Search(graph, given, outputs, inside)
    return search.parts(), list(search.blocked.values())


def blocked_nodes(graph: Source, nodes: Sequence[str], start: str, model: Any) -> list[Blocked]:
    """The compiler's blockers of `model`, which was made of `nodes`, as nodes of the source."""
    found: dict[str, Blocked] = {}
    for blocker in npu.blockers(model):
        name = graph.origin(blocker.node, set(nodes), model)
        text = f"{blocker.reason}; supported: {blocker.supported}"
        found.setdefault(name, Blocked(name, graph.nodes[name].op, text, _cut_before(graph, name, start)))
    return list(found.values())


def _cut_before(graph: Source, name: str, start: str) -> str:
    """The tensor that `name` reads: what an export would end with to leave `name` out."""
    names = graph.ancestors(graph.results(name), stop=[start])
    constant = graph.constants(names)
    varying = [tensor for tensor in graph.inputs(graph.nodes[name]) if graph.maker(tensor) not in constant]
    numbers = [tensor for tensor in varying if "float" in graph.dtype(tensor)]  # not sizes, nor indices
    return graph.resolve((numbers or varying or [start])[0], stop=[start])


class _Search:
    def __init__(self, graph: Source, given: Sequence[str], outputs: Sequence[str], inside: set[str] | None) -> None:
        self.graph, self.given, self.wanted = graph, list(given), list(outputs)
        path = graph.ancestors(outputs, stop=given)
        self.constant = graph.constants(path)
        makers = {graph.maker(tensor) for tensor in given}
        self.varying = [name for name in path if name not in self.constant and name not in makers]
        flow = self._in_control_flow()
        self.free = {n for n in self.varying if n not in flow and (inside is None or n in inside)}
        self.placed: set[str] = set()
        self.blocked: dict[str, Blocked] = {}
        self.useless: set[str] = set()

    def parts(self) -> list[Part]:
        """All parts that pay, in order."""
        found: list[Part] = []
        tried: set[str] = set()
        for seed in self.varying:
            if seed in self.free and self.graph.is_convolution(seed):
                while seed not in self.placed | set(self.blocked) and (start := self._start(seed)) is not None:
                    part = self._part(start, seed)
                    if part is not None and seed in part.nodes:
                        found.append(part)
                        self.placed.update(part.nodes)
                    elif start in tried:
                        break
                    tried.add(start)
        return self._paying(found)

    def _sources(self, name: str) -> list[str]:
        """What the node reads that depends on the inputs."""
        return [t for t in self.graph.inputs(self.graph.nodes[name]) if self.graph.maker(t) not in self.constant]

    def _in_control_flow(self) -> set[str]:
        """Nodes in loops and in the branches of conditionals: they run only sometimes, or more than once."""
        depth: dict[str, int] = {}
        for name in self.varying:
            node = self.graph.nodes[name]
            deepest = max((depth.get(self.graph.maker(source), 0) for source in self._sources(name)), default=0)
            opens = node.op in ("Switch", "Enter")
            closes = node.op == "Exit" or (node.op == "Merge" and not self._is_loop_head(node))
            depth[name] = deepest + opens - closes
        return {n for n, level in depth.items() if level > 0 or self.graph.nodes[n].op in {*LOOP_OPS, "Merge"}}

    def _is_loop_head(self, node: Any) -> bool:
        return any(self.graph.nodes[self.graph.maker(t)].op == "NextIteration" for t in self.graph.inputs(node))

    def _start(self, seed: str) -> str | None:
        """The image tensor farthest before `seed` that alone leads to it, as far as nothing is known to stop."""
        if self._refusal(seed):
            return None
        possible, reason = [], ""
        name = seed
        while len(sources := list(dict.fromkeys(self._sources(name)))) == 1:
            tensor = self.graph.resolve(sources[0], stop=self.given)
            try:
                self.graph.image_shape(tensor)
                possible.append(tensor)
            except ConversionError as error:
                reason = reason or str(error)
            name = self.graph.maker(tensor)
            if tensor in self.given or name not in self.free - self.placed - set(self.blocked) or self._refusal(name):
                break
        if not possible:
            self._block(seed, reason or "it reads several tensors; the NPU has one input", seed)
            return None
        return next((tensor for tensor in reversed(possible) if tensor not in self.useless), possible[0])

    def _refusal(self, name: str) -> bool:
        """Whether the node is one that cannot even be asked about; it is noted."""
        reason = self.graph.refusal(name)
        if reason:
            self._block(name, f"it {reason}", name)
        return reason is not None

    def _block(self, name: str, reason: str, start: str) -> None:
        cut = _cut_before(self.graph, name, start)
        self.blocked.setdefault(name, Blocked(name, self.graph.nodes[name].op, reason, cut))

    def _part(self, start: str, seed: str) -> Part | None:
        """What the compiler takes of all that depends on `start`; None when something before `seed` was refused."""
        while nodes := self._around_convolutions(self._grown(start), start):
            ends = self._ends(nodes, start)
            refused = len(self.blocked)
            try:
                model = self.graph.npu_part([start], ends)
                found = blocked_nodes(self.graph, nodes, start, model)
                # the layout behind what reads the start and is refused, or reshapes it, is a guess: ask from there
                nearest = [self.graph.resolve(tensor, stop=self.given) for tensor in self._sources(seed)]
                if any(blocked.node == seed for blocked in found) and start not in nearest:
                    self.useless.add(start)
                    return None
                first = [blocked for blocked in found if start in self._sources(blocked.node)]
                self.blocked = {blocked.node: blocked for blocked in first or found} | self.blocked
            except (MemoryError, OSError):
                raise
            except Exception as error:  # what cannot even be asked about is left to the host
                named = [name for name in nodes if f"'{name}'" in str(error)]
                reason = " ".join(str(error).split()) or f"the compiler fails with {type(error).__name__}"
                self._block(named[0] if named else seed, reason, start)
            if len(self.blocked) == refused:
                return Part(nodes, [start], ends, model)
            if self._start(seed) != start:
                return None
        return None

    def _grown(self, start: str) -> list[str]:
        """Nodes that depend on `start` alone, and on nothing that is refused."""
        region: set[str] = set()
        for name in self.varying:
            if name not in self.free or name in self.placed or name in self.blocked or self._refusal(name):
                continue
            sources = self._sources(name)
            if sources and all(tensor == start or self.graph.maker(tensor) in region for tensor in sources):
                region.add(name)
        return [name for name in self.varying if name in region]

    def _around_convolutions(self, nodes: list[str], start: str) -> list[str]:
        """Those that lead to a convolution, or follow one up to the classifier."""
        convolutions = [name for name in nodes if self.graph.is_convolution(name)]
        kept = set(
            self.graph.ancestors([t for name in convolutions for t in self.graph.results(name)], stop=[start])
        ).intersection(nodes)
        for name in nodes:
            if not self.graph.begins_classifier(name) and convolutions:
                inner = [tensor for tensor in self._sources(name) if tensor != start]
                if inner and all(self.graph.maker(tensor) in kept for tensor in inner):
                    kept.add(name)
        return [name for name in nodes if name in kept]

    def _ends(self, nodes: Sequence[str], start: str) -> list[str]:
        """Tensors that leave the region: read outside of it, or asked for."""
        inside = set(nodes)
        ends: dict[str, None] = {}
        for tensor, readers in consumers(self.graph, self.varying).items():
            if self.graph.maker(tensor) in inside and any(reader not in inside for reader in readers):
                ends[tensor] = None
        ends |= {tensor: None for tensor in self.wanted if self.graph.maker(tensor) in inside}
        resolved = dict.fromkeys(self.graph.resolve(tensor, stop=[*self.wanted, start]) for tensor in ends)
        return [tensor for tensor in resolved if tensor != start]

    def _paying(self, parts: list[Part]) -> list[Part]:
        """Those with enough matrix work; the convolutions of the others are noted."""
        work = [sum(map(self.graph.multiplications, part.nodes)) for part in parts]
        total = sum(map(self.graph.multiplications, self.varying))
        kept = []
        for part, own in zip(parts, work, strict=True):
            if own == max(work) or own >= _SHARE * total:
                kept.append(part)
            else:
                seed = next(n for n in part.nodes if self.graph.is_convolution(n))
                share = f"{100 * own / max(total, 1):.1f} % of the multiplications"
                self._block(seed, f"alone between host parts it does {share}; {100 * _SHARE:.0f} % pay", part.inputs[0])
        self._name_dense(kept, total)
        return kept

    def _name_dense(self, parts: list[Part], total: float) -> None:
        """Note the first of the matrix products that stay on the host, if these do most of the work."""
        placed = {name for part in parts for name in part.nodes}
        dense = [n for n in self.varying if n not in placed and not self.graph.is_convolution(n)]
        work = {name: amount for name in dense if (amount := self.graph.multiplications(name))}
        if sum(work.values()) > _MOST * total:
            share = f"{100 * sum(work.values()) / total:.0f} % of the multiplications"
            first = next(iter(work))
            reason = f"matrix products that are no convolutions stay on the host, in float32: {len(work)}, with {share}"
            self._block(first, reason, first)
