"""What a conversion did, how long it took, and how far its result is from the framework's."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

Shape = tuple[int | None, ...] | None


def shape_text(shape: Sequence[int | None] | None) -> str:
    """A shape as people write it: [?, 224, 224, 3]."""
    return "?" if shape is None else "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


@dataclass(frozen=True)
class StageReport:
    """One stage: kind "preprocess", "npu" or "onnx"; shapes at its edges by tensor name; bytes of its file."""

    kind: str
    name: str
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]
    seconds: float
    size: int
    detail: str

    def edges(self) -> str:
        """Shapes in -> shapes out; more than two outputs are counted."""
        ins, outs = ([shape_text(shape) for shape in side.values()] for side in (self.inputs, self.outputs))
        return " + ".join(ins) + " -> " + (" + ".join(outs) if len(outs) <= 2 else f"{len(outs)} tensors")


@dataclass(frozen=True)
class Blocked:
    """A node of the model that keeps what it computes from the NPU: why, and the tensor to cut at before it.

    node is "" where the reason is not one node's.
    """

    node: str
    op: str
    reason: str
    cut: str

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.op}): {self.reason}. Cut at {self.cut}." if self.node else self.reason


@dataclass(frozen=True)
class Check:
    """One comparison with the framework on a sample. `measured` in `unit`, and the `bound` that it had to keep.

    unit "of the largest value": greatest difference / greatest magnitude, at most `bound`.
    unit "dB": signal-to-noise ratio, at least `bound`. bound None: for information only.
    """

    stage: str
    against: str
    measured: float
    bound: float | None
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the bound was kept; NaN never passes."""
        if self.bound is None:
            return True
        return self.measured >= self.bound if self.unit == "dB" else self.measured <= self.bound

    def __str__(self) -> str:
        number = f"{self.measured:.1f} dB" if self.unit == "dB" else f"{self.measured:.1e} {self.unit}"
        if self.measured == 0.0 and self.unit != "dB":
            number = "equal to the bit"
        sign = "at least" if self.unit == "dB" else "at most"
        limit = "" if self.bound is None else f" ({sign} {self.bound:g})"
        return f"{self.stage} against {self.against}: {number}{limit}"


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion. `seconds` of wall time in all, `size` of the file in bytes.

    blocked: the nodes because of which something was left to the host that the NPU might have run. framework: who
    computed what the result was compared with. notes: what else is worth knowing, in sentences.
    """

    name: str
    path: Path
    stages: tuple[StageReport, ...]
    checks: tuple[Check, ...]
    seconds: float
    size: int
    number_format: str = ""
    listing_head: str = ""
    steps: tuple[tuple[str, float], ...] = ()
    blocked: tuple[Blocked, ...] = ()
    framework: str = "TensorFlow"
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.path.name}, {self.size / 2**20:.1f} MiB, converted in {self.seconds:.1f} s"]
        width = max(len(stage.name) for stage in self.stages)
        for stage in self.stages:
            lines.append(
                f"  {stage.name:<{width}}  {stage.kind:<10} {stage.edges()}  {stage.detail}  {stage.seconds:.2f} s"
            )
        if self.blocked:
            lines.append("left to the host")
            lines += [f"  {node}" for node in _grouped(self.blocked)]
        lines.append(f"compared with {self.framework} on a sample")
        lines += [f"  {check}" for check in self.checks]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(s.name)}</td><td>{s.kind}</td><td>{escape(s.edges())}</td><td>{escape(s.detail)}</td>"
            f"<td>{s.size / 2**20:.1f}</td><td>{s.seconds:.2f}</td></tr>"
            for s in self.stages
        )
        checks = "".join(f"<li>{escape(str(check))}</li>" for check in self.checks)
        left = "".join(f"<li>{escape(node)}</li>" for node in _grouped(self.blocked))
        left = f"<p>Left to the host:</p><ul>{left}</ul>" if left else ""
        notes = "".join(f"<p>Note: {escape(note)}</p>" for note in self.notes)
        return (
            f"<p><b>{escape(self.name)}</b>: {escape(self.path.name)}, {self.size / 2**20:.1f} MiB, "
            f"converted in {self.seconds:.1f} s</p><table><tr><th>stage</th><th>runs as</th><th>shapes</th><th></th>"
            f"<th>MiB</th><th>s</th></tr>{rows}</table>{left}"
            f"<p>Compared with {escape(self.framework)} on a sample:</p><ul>{checks}</ul>{notes}"
        )


def _grouped(blocked: Sequence[Blocked]) -> list[str]:
    """A line for each reason, with its first node and how many more there are."""
    alike: dict[tuple[str, str], list[Blocked]] = {}
    for node in blocked:
        alike.setdefault((node.op, node.reason), []).append(node)
    return [f"{first}{f' So with {len(more)} more.' if more else ''}" for first, *more in alike.values()]
