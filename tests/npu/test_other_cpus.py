"""The kernels of other CPUs, cross-compiled and run by qemu: the bits of the reference, layer by layer."""

import os
import subprocess

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.npu.compare import first_difference
from benchmarks.emulation import build_driver, qemu, run
from tests.npu.graphs import model, node
from tests.npu.random_programs import emulated_difference, random_case
from tests.npu.test_native import small_network
from tests.npu.traced import traced_run

pytestmark = pytest.mark.skipif(
    not qemu() and not os.environ.get("AMLREALTIMEAI_REQUIRE_QEMU"), reason="needs qemu-user-static"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    return build_driver(tmp_path_factory.mktemp("neon"))


@pytest.mark.parametrize(("cpu", "names"), [("max", ["neon", "generic"]), ("cortex-a72", ["generic"])])
def test_a_cpu_without_dot_products_takes_the_generic_path(driver, cpu, names):
    result = subprocess.run([qemu(), "-cpu", cpu, str(driver)], capture_output=True, text=True, check=True)
    assert result.stdout.split() == names


# channels, outputs, size, kernel, stride, pad, dilation, signed, residual
NETWORKS = [
    (64, 64, (14, 14), 3, 1, 1, 1, False, True),
    (70, 33, (9, 8), 3, 1, 1, 1, True, True),
    (128, 36, (7, 13), 1, 1, 0, 1, True, False),
    (3, 6, (6, 8), 5, 2, 4, 2, False, False),
    (61, 30, (10, 14), 2, 2, 1, 2, False, False),
    (24, 17, (17, 6), 3, 3, 2, 2, True, False),
]
FORMATS = ["bw_cnn", "msfp12", "msfp16", npu.BlockFormat(20, 3, 5), npu.BlockFormat(36, 7, 8), npu.BlockFormat(4, 1, 8)]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("isa", ["neon", "generic"])
def test_every_layer_of_small_networks_has_the_bits_of_the_reference(driver, isa, fmt):
    for number, network in enumerate(NETWORKS):
        program = npu.compile(small_network(np.random.default_rng(number), *network), fmt=fmt)
        image = np.random.default_rng(7).normal(0, 50, (2, *program.inputs[0][1][1:])).astype(np.float32)
        expected = npu.reference.run(program, image, trace=True)
        assert first_difference(program, expected, run(driver, program, image, isa, threads=1 + number % 3)) is None


@pytest.mark.parametrize("isa", ["neon", "generic"])
def test_random_programs_have_the_bits_of_the_reference(driver, isa):
    for seed in range(20):
        case = random_case(seed)
        found = emulated_difference(driver, *case, isa, threads=1 + seed % 4)
        assert found is None, f"seed {seed}: {found}\n{case[0].listing()}"


@pytest.mark.parametrize("relu", [True, False], ids=["unsigned", "signed"])
def test_the_largest_mantissas_do_not_overflow(driver, relu):
    nodes = [node("Relu", "x", "r")] if relu else []
    weights = np.full((40, 256, 1, 1), -1.984375, np.float32)
    graph = model([*nodes, node("Conv", "r w" if relu else "x w", "y")], [1, 256, 3, 3], {"w": weights})
    program = npu.compile(graph, fmt=npu.BlockFormat(128, 7, 8))
    image = np.full((1, *program.inputs[0][1][1:]), 1.984375 if relu else -1.984375, np.float32)
    y = run(driver, program, image, "neon")["y"]
    assert set(y.ravel().tolist()) == {(-1 if relu else 1) * 256 * 1.984375**2}


def test_every_layer_of_resnet50_has_the_bits_of_the_reference(driver):
    program, image, expected = traced_run("resnet50", 224, "bw_cnn")
    assert first_difference(program, expected, run(driver, program, image, "neon", threads=2)) is None


@pytest.mark.skipif(
    not qemu("riscv64") and not os.environ.get("AMLREALTIMEAI_REQUIRE_QEMU"), reason="needs qemu-user-static"
)
def test_a_cpu_that_nobody_thought_of_runs_plain_cpp(tmp_path):
    riscv = build_driver(tmp_path, "riscv64")
    for seed in range(10):
        case = random_case(seed)
        found = emulated_difference(riscv, *case, "generic", threads=2)
        assert found is None, f"seed {seed}: {found}\n{case[0].listing()}"
