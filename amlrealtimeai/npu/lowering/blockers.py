"""What keeps a model from running whole on the NPU: each node that stops it, why, and where the model can be cut."""

from collections.abc import Callable, Sequence
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


class Dominators:
    """Where a graph's paths from `source` meet: for every value, the nearest other one that all of them pass."""

    def __init__(self, nodes: Sequence[NodeProto], source: str) -> None:
        self._above: dict[str, str] = {}
        self._depth = {source: 0}
        for node in nodes:
            meeting = self._meeting(node.input)
            if meeting is not None:
                for name in filter(None, node.output):
                    self._above[name], self._depth[name] = meeting, self._depth[meeting] + 1

    def cut_before(self, node: NodeProto, is_possible: Callable[[str], bool]) -> str | None:
        """The nearest value that every path to `node` passes and that `is_possible`; None without one."""
        value = self._meeting(node.input)
        while value in self._above:
            if is_possible(value):
                return value
            value = self._above[value]
        return None

    def _meeting(self, values: Sequence[str]) -> str | None:
        """The nearest value that all paths to all of `values` pass; None where none of them depends on the source."""
        found = None
        for value in values:
            if value in self._depth:
                found = value if found is None else self._nearest(found, value)
        return found

    def _nearest(self, first: str, second: str) -> str:
        while first != second:
            if self._depth[first] < self._depth[second]:
                second = self._above[second]
            else:
                first = self._above[first]
        return first
