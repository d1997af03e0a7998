"""What the compiler makes of the inner loops: accumulators that leave their registers cost a seventh of the time."""

import platform
import re
from pathlib import Path

import pytest

from amlrealtimeai.npu.native import build

# source, machine, the instruction that multiplies, and a vector register's place on the stack
_STACK = r"\(%r[sb]p\b.*%[xyz]mm|%[xyz]mm.*\(%r[sb]p\b"
KERNELS = {
    "avxvnni": ("isa_avxvnni.cpp", "x86_64", "vpdpbusd", _STACK),
    "neon": ("isa_neon.cpp", "aarch64", "sdot", r"\b(ldr|str|ldp|stp)\s+q\d.*\[(sp|x29)\b"),
}


def assembly(source: str, machine: str, folder: Path) -> list[str]:
    flags = [flag for flag in build._FLAGS if flag != "-fPIC"]
    target = () if machine == platform.machine() else ("-target", f"{machine}-linux-musl")
    out = folder / f"{source}.s"
    flag = build._instruction_sets(machine)[source]
    build._run([*flags, *target, flag, "-g0", "-S", str(build._SOURCES / source), "-o", str(out)])
    return out.read_text().splitlines()


def functions(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        if match := re.match(r"([A-Za-z_][\w.$]*):", line):
            name = match[1]
        found.setdefault(name, []).append(line)
    return found


def inner_loops(lines: list[str]) -> list[list[str]]:
    """The lines from a label to a jump back to it with no other such jump between."""
    labels: dict[str, int] = {}
    loops, last = [], -1
    for number, line in enumerate(lines):
        if match := re.match(r"(\.L\w+):", line):
            labels[match[1]] = number
        elif (match := re.search(r"^\s(?:j\w+|b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)) and match[1] in labels:
            begin = labels[match[1]]
            if begin > last:
                loops.append(lines[begin : number + 1])
            last = number
    return loops


@pytest.mark.parametrize("isa", KERNELS)
def test_loops_over_a_block_keep_everything_in_registers(isa, tmp_path):
    source, machine, product, stack = KERNELS[isa]
    seen = 0
    for name, lines in functions(assembly(source, machine, tmp_path)).items():
        # four quads are no loop: what is around them there is the loop over blocks, whose totals do not fit
        for loop in inner_loops(lines) if not name.endswith("ELi4EEEvRK4TileNS_4PartE") else []:
            products = sum(product in line for line in loop)
            seen += products
            assert not products or [line for line in loop if re.search(stack, line)] == [], name
    assert seen >= 100


def test_no_accumulator_of_avx512_leaves_its_register(tmp_path):
    """There are registers for all of a tile: 14 integer and 14 float accumulators, two weights, one broadcast."""
    seen = 0
    for name, lines in functions(assembly("isa_avx512vnni.cpp", "x86_64", tmp_path)).items():
        products = sum("vpdpbusd" in line for line in lines)
        seen += products
        assert not products or [line for line in lines if re.search(_STACK, line)] == [], name
    assert seen >= 1000
