"""The native kernel as an object: a program, made ready once, run many times."""

import ctypes
import os
import weakref
from ctypes import POINTER, byref, c_float, c_int64
from functools import cache

import numpy as np

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, UnsupportedError
from amlrealtimeai.npu.formats import block_length
from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.native.packing import PANEL, group_channels, pack_weights, padded_channels, place
from amlrealtimeai.npu.native.steps import Node, Stored, intervals, nodes_of, storage
from amlrealtimeai.npu.program import Program

_PIXELS = 7
_RUN_PIXELS = 2 * 16  # two runs at once
_MOST_TAPS = 512
_MOST_THREADS = 64
_SLACK = 256  # the last vector load of a tensor may reach this far behind it


@cache
def _library() -> ctypes.CDLL:
    return layout.open_library()


def _instruction_sets() -> list[str]:
    names, index = [], 0
    while name := _library().npu_isa_name(index):
        names.append(name.decode())
        index += 1
    return names


def _chosen_isa(isa: str | None = None) -> bytes:
    """The instruction set `isa`, else the one that AMLREALTIMEAI_ISA names, else b"" for the CPU's fastest."""
    wanted = os.environ.get("AMLREALTIMEAI_ISA", "") if isa is None else isa
    said = f"AMLREALTIMEAI_ISA={wanted}" if isa is None else f"isa={isa!r}"
    known = _instruction_sets()
    if wanted and wanted not in known:
        raise InvalidInputError(f"{said}: expected one of {', '.join(known)}; or leave it out")
    if wanted and not _library().npu_isa_available(wanted.encode()):
        raise UnsupportedError(f"{said}: this CPU has no {wanted}; leave it out or choose generic")
    return wanted.encode()


def default_threads() -> int:
    """Threads that are used when none are asked for: the CPUs that this process may run on, at most 16."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 16)


def kernel_info() -> dict[str, object]:
    """What would run here: {"isa", "threads", "version", "available"}; AMLREALTIMEAI_ISA forces an instruction set."""
    available = [name for name in _instruction_sets() if _library().npu_isa_available(name.encode())]
    isa = _chosen_isa().decode() or available[0]
    version = int(_library().npu_interface_version())
    return {"isa": isa, "threads": default_threads(), "version": version, "available": available}


class Native:
    """A program made ready for this CPU: weights packed, memory placed, threads started.

    threads: how many to use (default: every CPU of this process). keep_tensors: `run` also returns every tensor of the
    program, as reference.run(trace=True) does (slower). isa: one of kernel_info()["available"] (default: the fastest).
    `run` may be called from several threads; calls take turns.
    """

    def __init__(
        self, program: Program, threads: int | None = None, keep_tensors: bool = False, isa: str | None = None
    ) -> None:
        threads = default_threads() if threads is None else threads
        if not isinstance(program, Program):
            raise InvalidInputError(f"expected a Program (npu.compile, npu.load), got {type(program).__name__}")
        if not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
            raise InvalidInputError(f"threads must be 1..{_MOST_THREADS}, got {threads!r}")
        self.program, self.threads = program, threads
        self._kept = list(program.tensors) if keep_tensors else []
        self._plan = _PlanBuilder(program, keep_tensors)
        handle = _library().npu_create(byref(self._plan.plan), threads, _chosen_isa(isa))
        if not handle:
            megabytes = self._plan.plan.arena_bytes / 1e6
            raise AmlRealtimeAiError(
                f"the NPU could not start: expected {megabytes:.0f} MB of memory and {threads} threads to be free. "
                "Close other programs, or ask for fewer threads."
            )
        self._handle = handle
        self.isa: str = _library().npu_engine_isa(handle).decode()
        weakref.finalize(self, _library().npu_destroy, handle)

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Run on float32 `x` (the input's shape, any batch); returns {output name: float32 array}.

        Raises InvalidInputError for a wrong shape or dtype, NaN or infinity.
        """
        return self._run(x, None)

    def profile(self, x: np.ndarray) -> list[tuple[str, float]]:
        """Seconds of every step of one run, as (name of the chain, seconds)."""
        nanoseconds = (c_int64 * len(self._plan.nodes))()
        self._run(x, nanoseconds)
        return [(node.name, value / 1e9) for node, value in zip(self._plan.nodes, nanoseconds, strict=True)]

    def _run(self, x: np.ndarray, nanoseconds: "ctypes.Array[c_int64] | None") -> dict[str, np.ndarray]:
        images = self.program.check_input(x)
        names = [port.tensor for port in self.program.output_ports] + self._kept
        arrays = [np.empty((len(images), *self.program.tensors[name]), np.float32) for name in names]
        pointers = (POINTER(c_float) * len(arrays))(*[a.ctypes.data_as(POINTER(c_float)) for a in arrays])
        _library().npu_run(self._handle, images.ctypes.data_as(POINTER(c_float)), pointers, len(images), nanoseconds)
        ports = self.program.output_ports
        kept = dict(zip(self._kept, arrays[len(ports) :], strict=True))
        outputs = {port.name: self.program.to_port(port, a) for port, a in zip(ports, arrays, strict=False)}
        return {**outputs, **kept}

    def __repr__(self) -> str:
        return f"Native({self.program.name!r}, isa={self.isa!r}, threads={self.threads})"


class _PlanBuilder:
    """The plan of src/plan.h for one program; owns the memory that the plan points to."""

    def __init__(self, program: Program, keep: bool) -> None:
        self.program = program
        self.nodes, shapes = nodes_of(program)
        self.stored = storage(program, self.nodes, shapes, keep)
        self.index = {name: number for number, name in enumerate(self.stored)}
        self._alive: list[np.ndarray] = []
        self._operations: list[layout.Operation] = []
        self._scratch = 0
        tensors = [self._tensor(one) for one in self.stored.values()]
        arena = self._place(tensors, keep)
        steps = [self._step(node) for node in self.nodes]
        outputs = [port.tensor for port in program.output_ports] + (list(program.tensors) if keep else [])
        fmt = program.config.number_format
        self._arrays = (
            (layout.Tensor * len(tensors))(*tensors),
            (layout.Step * len(steps))(*steps),
            (layout.Operation * max(1, len(self._operations)))(*self._operations),
            (layout.Output * len(outputs))(*[layout.Output(self.index[name]) for name in outputs]),
        )
        self.plan = layout.Plan(
            *self._arrays,
            len(tensors),
            len(steps),
            len(outputs),
            self.index[program.input_ports[0].tensor],
            fmt.mantissa_bits,
            *fmt.exponent_range,
            0,
            arena,
            self._scratch,
        )

    def _tensor(self, one: Stored) -> layout.Tensor:
        height, width, channels = one.shape
        padded = padded_channels(self.program, channels)
        length = channels if one.whole else block_length(channels, self.program.config.number_format)
        quantized = one.last_quantized >= 0
        return layout.Tensor(
            height=height,
            width=width,
            channels=channels,
            float_stride=channels if one.external else padded + -padded % 16,
            has_floats=one.external or one.last_float >= 0,
            length=length,
            blocks=(1 if one.whole else padded // length) if quantized else 0,
            pixel_bytes=channels if one.whole else padded,
            whole=one.whole,
            is_signed=one.is_signed,
            top=one.halo[0],
            left=one.halo[1],
            bottom=one.halo[2],
            right=one.halo[3],
            floats=-1,
        )

    def _place(self, tensors: list[layout.Tensor], keep: bool) -> int:
        needs = list(intervals(self.stored, len(self.nodes), keep))
        sizes = []
        for name, form, first, last in needs:
            size = _bytes_of(tensors[self.index[name]], form)
            sizes.append((size + -size % 64, first, last))
        offsets, total = place(sizes)
        for (name, form, _, _), offset in zip(needs, offsets, strict=True):
            tensor = tensors[self.index[name]]
            if form == "floats":
                tensor.floats = offset
            else:
                tensor.steps = offset
                step_bytes = _step_bytes(tensor)
                tensor.mantissas = offset + step_bytes + -step_bytes % 64
        for name, one in self.stored.items():
            if one.floats_in:
                tensors[self.index[name]].floats = tensors[self.index[one.floats_in]].floats
        return total

    def _step(self, node: Node) -> layout.Step:
        window = node.window
        step = layout.Step(
            kind=node.kind,
            source=self.index[node.sources[0]],
            destination=self.index[node.destination],
            residual=self.index[node.residual] if node.residual else -1,
            relu=node.relu,
            kernel_h=window.kernel[0],
            kernel_w=window.kernel[1],
            stride_h=window.strides[0],
            stride_w=window.strides[1],
            dilation_h=window.dilations[0],
            dilation_w=window.dilations[1],
            pad_top=window.pads[0],
            pad_left=window.pads[1],
            first_operation=len(self._operations),
            operations=len(node.operations),
        )
        channels = self.stored[node.destination].shape[2]
        padded = padded_channels(self.program, channels)
        if node.kind == layout.CONV:
            self._add_weights(node, step, padded)
        else:
            self._scratch = max(self._scratch, _PIXELS * (padded + -padded % 16))
        for kind, tensor, channel, constant in node.operations:
            vector = self._constant(constant, padded) if constant else None
            self._operations.append(layout.Operation(kind, self.index[tensor] if tensor else -1, channel, 0, vector))
        return step

    def _add_weights(self, node: Node, step: layout.Step, padded: int) -> None:
        matrix = self.program.matrices[node.matrix]
        _, step.taps, step.blocks, step.length = matrix.mantissas.shape
        if step.taps > _MOST_TAPS:
            raise UnsupportedError(f"{node.name}: a window of {step.taps} positions; at most {_MOST_TAPS} are possible")
        step.rows = matrix.blocking == "rows"
        target = self.stored[node.destination]
        length = block_length(target.shape[2], self.program.config.number_format) if target.last_quantized >= 0 else 4
        group = group_channels(matrix, length)
        packed = pack_weights(self.program, matrix, group, padded, self.stored[node.sources[0]].is_signed)
        step.group_channels, step.groups = group, packed.shape[0]
        step.group_bytes = packed[0].nbytes
        step.weights = self._keep(packed.reshape(-1))
        if node.bias:
            step.bias = self._constant(node.bias, padded)
        self._scratch = max(self._scratch, _RUN_PIXELS * (group + -group % PANEL))

    def _constant(self, name: str, padded: int) -> int:
        vector = self.program.vectors[name]
        return self._keep(np.pad(vector, (0, padded + 16 - len(vector))))

    def _keep(self, array: np.ndarray) -> int:
        self._alive.append(array)
        return array.ctypes.data


def _pixels(tensor: layout.Tensor) -> int:
    height = tensor.height + tensor.top + tensor.bottom
    return int(height * (tensor.width + tensor.left + tensor.right))


def _step_bytes(tensor: layout.Tensor) -> int:
    return 4 * (1 if tensor.whole else _pixels(tensor) * tensor.blocks)


def _bytes_of(tensor: layout.Tensor, form: str) -> int:
    if form == "floats":
        return int(4 * tensor.height * tensor.width * tensor.float_stride) + _SLACK
    return _step_bytes(tensor) + 64 + _pixels(tensor) * tensor.pixel_bytes + _SLACK
