"""What keeps a model from running whole on the NPU: each node that stops it, why, and where the model can be cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from amlrealtimeai.errors import UnsupportedError

_SHOWN = 100


@dataclass(frozen=True)
class Blocker:
    """A node that the NPU cannot run.

    node: its name, or that of its first output where it has none; op: its operation. reason: what is wrong with it;
    supported: the nearest that the NPU can run. cut: the last tensor before it that can be an output of a program and
    that alone leads to it (`compile(model, outputs=[cut])`); None where no product lies before.
    """

    node: str
    op: str
    reason: str
    supported: str
    cut: str | None = None

    def __str__(self) -> str:
        text = f"node {self.node} ({self.op}): {self.reason}. Supported: {self.supported}."
        return text if self.cut is None else f"{text} Cut at {self.cut}."


class BlockedError(UnsupportedError):
    """A model that the NPU cannot run whole; `blockers` are all the nodes that stop it, in topological order."""

    def __init__(self, blockers: Sequence[Blocker]) -> None:
        self.blockers = list(blockers)
        cuts = list(dict.fromkeys(b.cut for b in blockers if b.cut is not None))
        lines = [str(blocker) for blocker in blockers[:_SHOWN]]
        if len(blockers) > _SHOWN:
            lines.append(f"and {len(blockers) - _SHOWN} more (npu.blockers lists them)")
        if len(blockers) > 1:
            lines = [f"{len(blockers)} nodes cannot run on the NPU:", *lines]
        if cuts:
            lines.append(f"What lies before runs: npu.compile(model, outputs={cuts[:8]}); leave the rest to the host.")
        super().__init__("\n".join(lines))


def cut_before(
    node: NodeProto,
    nodes: Sequence[NodeProto],
    source: str,
    is_possible: Callable[[str], bool],
) -> str | None:
    """The nearest value that every path from `source` to `node` passes and that `is_possible`; None without one."""
    dominators = _dominators(nodes, source)
    value = _meeting([name for name in node.input if name in dominators], dominators)
    while value is not None and value != source:
        if is_possible(value):
            return value
        value = dominators[value]
    return None


def _dominators(nodes: Sequence[NodeProto], source: str) -> dict[str, str | None]:
    """For every value that depends on `source`, the nearest other one that all paths to it pass."""
    found: dict[str, str | None] = {source: None}
    for node in nodes:
        varying = [name for name in node.input if name in found]
        if varying:
            found.update(dict.fromkeys(node.output, _meeting(varying, found)))
    return found


def _meeting(values: Sequence[str], dominators: Mapping[str, str | None]) -> str | None:
    """The nearest value that all paths to all of `values` pass."""
    if not values:
        return None
    chains = [_chain(value, dominators) for value in values]
    others = [set(chain) for chain in chains[1:]]
    return next((name for name in chains[0] if all(name in other for other in others)), None)


def _chain(value: str | None, dominators: Mapping[str, str | None]) -> list[str]:
    chain = []
    while value is not None:
        chain.append(value)
        value = dominators[value]
    return chain
