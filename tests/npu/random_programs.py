"""Programs that nobody would write: any names, formats, shapes, shortcuts. The kernel has to give the reference's bits.

    python -m tests.npu.random_programs [--count 20000] [--seed 0] [--isas avx2 ...] [--qemu neon generic]

runs many of them as users do (memory shared between layers), on 1 to 4 threads, in batches of 1 and 3, and prints the
first that differs. --qemu runs the kernel of another CPU (64-bit Arm) under qemu instead.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from amlrealtimeai import npu
from amlrealtimeai.npu.compare import first_difference
from amlrealtimeai.npu.config import as_config
from amlrealtimeai.npu.program import Chain, Instruction, Matrix, Port, Program, Shape, Window
from benchmarks import emulation

# names that a kernel might want for itself, and others that are odd
_NAMES = ["y/0", "x/blocks", "y", "x", "", "0", "x/0", "y/1", "y/0/0", "y/blocks", "copy the image", "ß", "a b", "-1"]
_CHANNELS = [1, 2, 3, 4, 5, 6, 8, 12, 16, 20, 24, 31, 32, 36, 40, 48, 64, 65, 100, 130, 200, 264]


class _Writer:
    """Adds random chains to a program until it is made."""

    def __init__(self, rng: np.random.Generator, fmt: npu.BlockFormat) -> None:
        self.rng, self.fmt = rng, fmt
        self.names = [str(name) for name in rng.permutation(_NAMES)]
        self.tensors: dict[str, Shape] = {}
        self.chains: list[Chain] = []
        self.matrices: dict[str, Matrix] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self.indices: dict[str, np.ndarray] = {}
        size = (int(rng.integers(1, 12)), int(rng.integers(1, 12)))
        self.input = self.names.pop()
        self.tensors[self.input] = (*size, int(rng.choice([1, 3, 4, 5, 6, 20, 36])))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, values):
        return values[int(self.rng.integers(len(values)))]

    def add_chain(self) -> None:
        first = self.pick(list(self.tensors))
        reads = [first]
        size = self.tensors[first][:2]
        while self.chance(0.25) and sum(self.tensors[name][2] for name in reads) < 200:
            reads.append(self.pick([name for name, shape in self.tensors.items() if shape[:2] == size]))
        self.steps = [Instruction("v_rd", tuple(reads))]
        self.shape = (*size, sum(self.tensors[name][2] for name in reads))
        if self.chance(0.3):
            self.add_pointwise()
        if self.chance(0.6):
            self.add_product()
        elif self.chance(0.3):
            self.add_pool()
        elif self.chance(0.4):
            self.add_filter()
        elif self.chance(0.6):
            self.add_move()
        for _ in range(int(self.rng.integers(0, 5))):
            self.add_pointwise()
        name = self.names.pop()
        self.chains.append(Chain(f"chain {len(self.chains)}", (*self.steps, Instruction("v_wr", (name,)))))
        self.tensors[name] = self.shape

    def add_pointwise(self) -> None:
        spread = [
            name
            for name, shape in self.tensors.items()
            if all(size in (1, whole) for size, whole in zip(shape, self.shape, strict=True))
        ]
        same = [name for name in spread if self.tensors[name] == self.shape]
        if same and self.chance(0.5):
            self.steps.append(Instruction("vv_add", (self.pick(same),)))
        elif spread and self.chance(0.4):
            # a gate first, so that products do not grow without end
            self.steps.append(self.pick([Instruction("v_sigmoid"), Instruction("v_clip", (), None, (-1, 1))]))
            self.steps.append(Instruction(self.pick(["vv_add", "vv_mul"]), (self.pick(spread),)))
        elif self.chance(0.3):
            self.steps.append(Instruction("v_relu"))
        elif self.chance(0.6):
            self.add_activation()
        else:
            op = self.pick(["vv_add", "vv_mul"])
            values = self.rng.normal(0, 1, self.shape[2]).astype(np.float32)
            values[self.rng.random(len(values)) < 0.1] = self.pick([0.0, -0.0, 1e-40])
            self.steps.append(Instruction(op, (self.constant(values),)))

    def add_activation(self) -> None:
        values = tuple(float(v) for v in np.sort(self.rng.normal(0, 1, 2)).astype(np.float32))
        slopes = self.rng.normal(0, 1, self.shape[2]).astype(np.float32)
        size = int(self.rng.integers(1, 8))
        self.steps.append(
            self.pick(
                [
                    Instruction("v_prelu", (self.constant(slopes),)),
                    Instruction("v_clip", (), None, values),
                    Instruction("v_clip", (), None, (0, self.pick([6, np.inf]))),
                    Instruction("v_threshold", (), None, values[:1]),
                    Instruction("v_sigmoid"),
                    Instruction("v_silu"),
                    Instruction("v_hsigmoid", (), None, values),
                    Instruction("v_hswish", (), None, (float(np.float32(1 / 6)), 0.5)),
                    Instruction("v_lrn", (), None, (size, abs(values[1]) + 0.1, self.pick([0.5, 0.75, 1.0]), 1.5)),
                ]
            )
        )

    def add_filter(self) -> None:
        window = self.window(pads=True)
        outputs = self.shape[2] * self.pick([1, 1, 1, 2, 3])
        filters = self.rng.normal(0, 1, (*window.kernel, outputs)).astype(np.float32)
        self.steps.append(Instruction("v_filter", (self.constant(filters),), window))
        self.shape = (*window.output_size(*self.shape[:2]), outputs)

    def add_move(self) -> None:
        height, width, channels = self.shape
        kind = self.pick(["pick", "blend", "shape"])
        if kind == "pick":
            sizes = [self.pick([size, size, 1, 2 * size, int(self.rng.integers(1, 9))]) for size in self.shape]
            names = [
                self.positions(whole, size, -1) if self.chance(0.6) else ""
                for whole, size in zip(self.shape, sizes, strict=True)
            ]
            sizes = [size if name else whole for size, whole, name in zip(sizes, self.shape, names, strict=True)]
            self.steps.append(Instruction("v_pick", tuple(names), None, (self.pick([0.0, 1.5, -2.0]),)))
            self.shape = (sizes[0], sizes[1], sizes[2])
        elif kind == "blend":
            axis, count = int(self.rng.integers(2)), int(self.rng.integers(1, 12))
            lists = [self.positions(self.shape[axis], count, 0) for _ in range(2)]
            weights = self.constant(self.rng.random(count).astype(np.float32))
            self.steps.append(Instruction("v_blend", (*lists, weights), None, (axis,)))
            self.shape = (count, width, channels) if axis == 0 else (height, count, channels)
        else:
            self.shape = self.pick(
                [
                    (1, 1, height * width * channels),
                    (width, height, channels),
                    (channels, 1, height * width),
                    (height * width, 1, channels),
                ]
            )
            self.steps.append(Instruction("v_shape", (), None, self.shape))

    def positions(self, size: int, count: int, lowest: int) -> str:
        name = f"positions {len(self.indices)}"
        self.indices[name] = self.rng.integers(lowest, size, count).astype(np.int32)
        return name

    def constant(self, values: np.ndarray) -> str:
        name = f"constant {len(self.vectors)}"
        self.vectors[name] = values
        return name

    def add_product(self) -> None:
        rng, fmt = self.rng, self.fmt
        window = self.window(pads=True)
        outputs = self.pick([*_CHANNELS, *(shape[2] for shape in self.tensors.values())])
        channels = self.shape[2]
        groups = self.pick([n for n in range(1, channels + 1) if channels % n == 0]) if self.chance(0.3) else 1
        channels, outputs = channels // groups, -(-outputs // groups) * groups
        by_rows = channels <= 4 and groups == 1 and window.dilations == (1, 1) and self.chance(0.5)
        name = f"matrix {len(self.matrices)}"
        empty = np.zeros(0)
        made = Matrix(empty, empty, window.kernel, channels, "rows" if by_rows else "channels")
        shape = (outputs, *made.expected_shape(fmt))
        largest, (lowest, highest) = fmt.largest_mantissa, fmt.exponent_range
        mantissas = rng.integers(-largest, largest, shape, endpoint=True).astype(np.int8)
        low, high = max(lowest, -12), min(highest, 3)
        exponents = rng.integers(low, high, shape[:3], endpoint=True).astype(np.int32)
        used = channels * (window.kernel[1] if by_rows else 1)
        mantissas.reshape(*shape[:2], -1)[:, :, used:] = 0
        self.matrices[name] = Matrix(mantissas, exponents, window.kernel, channels, made.blocking, groups)
        self.steps.append(Instruction("mv_mul", (name,), window))
        self.shape = (*window.output_size(*self.shape[:2]), outputs)
        if self.chance(0.5):
            bias = rng.normal(0, 1, outputs).astype(np.float32)
            self.steps.append(Instruction("vv_add", (self.constant(bias),)))

    def add_pool(self) -> None:
        op = self.pick(["v_max", "v_avg"])
        window = self.window(pads=True, pool=True)
        counted = tuple(float(n) for n in window.pads) if op == "v_avg" and self.chance(0.5) else ()
        counts = window.positions_counted(self.shape[0], self.shape[1], counted)
        if op == "v_avg" and min(int(count.min()) for count in counts) < 1:
            counted = tuple(float(n) for n in window.pads)
        self.steps.append(Instruction(op, (), window, counted))
        self.shape = (*window.output_size(*self.shape[:2]), self.shape[2])

    def window(self, pads: bool, pool: bool = False) -> Window:
        """One that fits; often one that keeps the size, so that shortcuts find a partner."""
        if self.chance(0.6) and pads:
            side = self.pick([1, 1, 3])
            return Window((side, side), pads=(side // 2,) * 4)
        while True:
            kernel = tuple(int(n) for n in self.rng.integers(1, 5, 2))
            strides = tuple(int(n) for n in self.rng.integers(1, 4, 2))
            dilations = tuple(int(n) for n in self.rng.integers(1, 3, 2)) if not pool else (1, 1)
            reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
            padding = tuple(int(self.rng.integers(0, reach[i % 2])) if pads else 0 for i in range(4))
            made = Window(kernel, strides, dilations, padding)
            if min(made.output_size(*self.shape[:2])) >= 1:
                return made


def random_program(rng: np.random.Generator) -> Program:
    """A program of 1 to 9 chains in any format."""
    fmt = npu.BlockFormat(4 * int(rng.integers(1, 101)), int(rng.integers(1, 8)), int(rng.choice([5, 8])))
    writer = _Writer(rng, fmt)
    for _ in range(int(rng.integers(1, 10))):
        writer.add_chain()
    ends = [writer.chains[-1].writes, *(writer.pick(list(writer.tensors)) for _ in range(int(rng.integers(0, 3))))]
    ports = [Port(f"port {i}", name, _layout(rng, writer.tensors[name])) for i, name in enumerate(ends)]
    entry = Port("in", writer.input, _layout(rng, writer.tensors[writer.input]))
    return Program(
        "random",
        as_config("bw_a10").with_format(fmt),
        (entry,),
        tuple(ports),
        writer.tensors,
        tuple(writer.chains),
        writer.matrices,
        writer.vectors,
        writer.indices,
    )


def _layout(rng: np.random.Generator, shape: Shape) -> str:
    return str(rng.choice(["nhwc", "nchw", "nc"] if shape[:2] == (1, 1) else ["nhwc", "nchw"]))


def random_image(rng: np.random.Generator, program: Program) -> np.ndarray:
    """One or three images of any scale, with zeros of both signs and subnormal numbers."""
    shape = (int(rng.choice([1, 3])), *program.inputs[0][1][1:])
    image = (rng.normal(0, 1, shape) * rng.choice([1e-3, 1, 50, 1e5])).astype(np.float32)
    for value in (0.0, -0.0, 1e-42, -1e-42):
        image[rng.random(shape) < 0.03] = value
    return image


Outputs = dict[str, np.ndarray]


def random_case(seed: int) -> tuple[Program, np.ndarray, Outputs]:
    """A program, an input, and what the reference makes of it."""
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    image = random_image(rng, program)
    return program, image, npu.reference.run(program, image)


def difference(program: Program, image: np.ndarray, expected: Outputs, isa: str, threads: int) -> str | None:
    """None where the outputs have the reference's bits; else where they part, or that they do in shared memory only."""
    found = npu.Native(program, threads=threads, isa=isa).run(image)
    if all(found[name].tobytes() == expected[name].tobytes() for name in expected):
        return None
    traced = npu.Native(program, threads=threads, isa=isa, keep_tensors=True).run(image)
    report = first_difference(program, npu.reference.run(program, image, trace=True), traced)
    return report or "the outputs differ where memory is shared; each tensor by itself is right"


def emulated_difference(
    driver: Path, program: Program, image: np.ndarray, expected: Outputs, isa: str, threads: int
) -> str | None:
    """The same for the kernel of another CPU."""
    found = emulation.run(driver, program, image, isa, threads, keep=False)
    wrong = [name for name in expected if found[name].tobytes() != expected[name].tobytes()]
    return f"{wrong} differ" if wrong else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isas", nargs="*", default=npu.kernel_info()["available"])
    parser.add_argument("--qemu", nargs="*", default=[])
    parser.add_argument("--machine", default="aarch64")
    chosen = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        driver = emulation.build_driver(Path(name), chosen.machine) if chosen.qemu else Path()
        for seed in range(chosen.seed, chosen.seed + chosen.count):
            case = random_case(seed)
            isas = chosen.qemu or chosen.isas
            for number, isa in enumerate(isas):
                threads = 1 + (seed + number) % 4
                check = (*case, isa, threads)
                found = emulated_difference(driver, *check) if chosen.qemu else difference(*check)
                if found:
                    sys.exit(f"seed {seed}, {isa}, {threads} threads:\n{found}\n{case[0].listing()}")
            if (seed + 1) % 1000 == 0:
                print(f"{seed + 1} programs, {time.perf_counter() - begin:.0f} s", flush=True)
    print(f"{chosen.count} random programs on {', '.join(isas)}: the reference's bits")


if __name__ == "__main__":
    main()
