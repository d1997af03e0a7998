"""The native kernel as an object: a program, made ready once, run many times."""

import ctypes
import os
import weakref
from ctypes import POINTER, byref, c_float, c_int64

import numpy as np

from amlrealtimeai.errors import AmlRealtimeAiError, InvalidInputError, UnsupportedError
from amlrealtimeai.npu.cpus import usable_cpus
from amlrealtimeai.npu.native import layout
from amlrealtimeai.npu.native.layout import library
from amlrealtimeai.npu.native.plan import PlanBuilder
from amlrealtimeai.npu.program import Program

_MOST_THREADS = 64
# Between calls of the library Python answers Ctrl-C and other signals, and another thread's run gets its turn.
_IMAGES_PER_CALL = 16


def _instruction_sets() -> list[str]:
    names, index = [], 0
    while name := library().npu_isa_name(index):
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
    if wanted and not library().npu_isa_available(wanted.encode()):
        raise UnsupportedError(f"{said}: this CPU has no {wanted}; leave it out or choose generic")
    return wanted.encode()


def default_threads() -> int:
    """Threads that are used when none are asked for: the CPUs that this process may run on, at most 16."""
    return min(usable_cpus(), 16)


def kernel_info() -> dict[str, object]:
    """What would run here: {"isa", "threads", "version", "available"}; AMLREALTIMEAI_ISA forces an instruction set."""
    available = [name for name in _instruction_sets() if library().npu_isa_available(name.encode())]
    isa = _chosen_isa().decode() or available[0]
    version = layout.INTERFACE_VERSION
    return {"isa": isa, "threads": default_threads(), "version": version, "available": available}


def _floats(array: np.ndarray) -> "ctypes._Pointer[c_float]":
    return array.ctypes.data_as(POINTER(c_float))


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
        self._plan = PlanBuilder(program, keep_tensors)
        self._kept = self._plan.steps.kept
        handle = library().npu_create(byref(self._plan.plan), threads, _chosen_isa(isa))
        if not handle:
            megabytes = self._plan.plan.arena_bytes / 1e6
            raise AmlRealtimeAiError(
                f"the NPU could not start: expected {megabytes:.0f} MB of memory and {threads} threads to be free. "
                "Close other programs, or ask for fewer threads."
            )
        self._handle = handle
        self.isa: str = library().npu_engine_isa(handle).decode()
        # with the plan, which the engine points into and copies of this object share; at the interpreter's end never,
        # since a daemon thread may be inside `run`
        weakref.finalize(self._plan, library().npu_destroy, handle).atexit = False

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Run on float32 `x` (the input's shape, any batch); returns {output name: float32 array}.

        Raises InvalidInputError for a wrong shape or dtype, NaN or infinity.
        """
        return self._run(x, None)

    def profile(self, x: np.ndarray) -> list[tuple[str, float]]:
        """Seconds of every step of one run, as (name of the chain, seconds)."""
        nanoseconds = (c_int64 * len(self._plan.steps.nodes))()
        self._run(x, nanoseconds)
        return [(node.name, value / 1e9) for node, value in zip(self._plan.steps.nodes, nanoseconds, strict=True)]

    def _run(self, x: np.ndarray, nanoseconds: "ctypes.Array[c_int64] | None") -> dict[str, np.ndarray]:
        images = self.program.check_input(x)
        names = [port.tensor for port in self.program.output_ports] + self._kept
        arrays = [np.empty((len(images), *self.program.tensors[name]), np.float32) for name in names]
        for begin in range(0, len(images), _IMAGES_PER_CALL):
            some = images[begin : begin + _IMAGES_PER_CALL]
            pointers = (POINTER(c_float) * len(arrays))(*[_floats(array[begin:]) for array in arrays])
            library().npu_run(self._handle, _floats(some), pointers, len(some), nanoseconds)
        ports = self.program.output_ports
        kept = dict(zip(self._kept, arrays[len(ports) :], strict=True))
        outputs = {port.name: self.program.to_port(port, a) for port, a in zip(ports, arrays, strict=False)}
        return {**outputs, **kept}

    def __repr__(self) -> str:
        return f"Native({self.program.name!r}, isa={self.isa!r}, threads={self.threads})"
