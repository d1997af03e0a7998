"""The kernel of other CPUs on any computer: cross-compiled to a static program (driver.cpp) that qemu runs."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from amlrealtimeai.npu.native import build
from amlrealtimeai.npu.native.plan import PlanBuilder
from amlrealtimeai.npu.program import Program


def qemu(machine: str = "aarch64") -> str:
    """Path of the emulator of that CPU, "" where there is none."""
    return shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}") or ""


def build_driver(folder: Path, machine: str = "aarch64") -> Path:
    """Compile the kernel and its driver for `machine` into `folder`; the path of the program."""
    assert qemu(machine), f"expected qemu-{machine}-static in PATH; apt-get install qemu-user-static"
    flags = build._instruction_sets(machine)
    target = ("-target", f"{machine}-linux-musl")
    rest = {*build._SOURCES.glob("*.cpp"), Path(__file__).with_name("driver.cpp")}
    parts = []
    for source in rest & {build._SOURCES / name for name in flags}:
        parts.append(str(folder / f"{source.stem}.o"))
        build._run([*build._FLAGS, *target, flags[source.name], "-c", str(source), "-o", parts[-1]])
        rest.remove(source)
    output = folder / f"driver-{machine}"
    arguments = [*build._FLAGS, *target, flags[""], "-static", f"-I{build._SOURCES}", "-o", str(output)]
    build._run([*arguments, *parts, *sorted(map(str, rest))])
    return output


def written(builder: PlanBuilder, image: np.ndarray) -> bytes:
    """A plan as driver.cpp reads it: pointers become places among the constants."""
    constants, places = bytearray(), {0: 0, None: 0}
    for array in builder.alive:
        constants += bytes(-len(constants) % 64)
        places[array.ctypes.data] = len(constants) + 1
        constants += array.tobytes()
    tensors, steps, operations, outputs = (type(array).from_buffer_copy(array) for array in builder.arrays)
    for step in steps:
        for field in ("weights", "bias", "tap_bytes", "tap_steps", "factors"):
            setattr(step, field, places[getattr(step, field)])
        for number, address in enumerate(step.lists):
            step.lists[number] = places[address]
    for operation in operations:
        operation.constant = places[operation.constant]
    parts = [bytes(part) for part in (builder.plan, tensors, steps, operations, outputs)]
    parts += [image.tobytes(), bytes(constants)]
    return np.array([len(part) for part in parts], np.int64).tobytes() + b"".join(parts)


def run(
    driver: Path, program: Program, image: np.ndarray, isa: str, threads: int = 1, keep: bool = True
) -> dict[str, np.ndarray]:
    """What Native.run returns (with `keep` every tensor of the program too), from the kernel under qemu."""
    plan, result = driver.with_name("plan"), driver.with_name("result")
    builder = PlanBuilder(program, keep)
    plan.write_bytes(written(builder, program.check_input(image)))
    machine = driver.name.removeprefix("driver-")
    # the default CPU of Arm's emulator has no dot products
    cpu = ["-cpu", "max"] if machine == "aarch64" else []
    command = [qemu(machine), *cpu, *map(str, (driver, plan, isa, threads, len(image), result))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [isa]
    names = [port.tensor for port in program.output_ports] + builder.steps.kept
    values, tensors = np.fromfile(result, np.float32), {}
    for name in names:
        shape = (len(image), *program.tensors[name])
        size = int(np.prod(shape))
        tensors[name], values = values[:size].reshape(shape), values[size:]
    assert len(values) == 0
    ports = {port.name: program.to_port(port, tensors[port.tensor]) for port in program.output_ports}
    return {**ports, **tensors} if keep else ports
