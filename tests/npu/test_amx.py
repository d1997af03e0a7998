"""The path for AMX on CPUs that have only AVX-512: tile instructions emulated (amx_emulated.cpp), the rest as it is."""

from pathlib import Path

import numpy as np
import pytest

from amlrealtimeai import npu
from amlrealtimeai.npu.compare import first_difference
from amlrealtimeai.npu.native import build, layout
from tests.npu.graphs import model, node
from tests.npu.random_programs import difference, random_case
from tests.npu.test_native import small_network
from tests.npu.test_other_cpus import NETWORKS

pytestmark = pytest.mark.skipif(
    "avx512vnni" not in npu.kernel_info()["available"] or "amx" in npu.kernel_info()["available"],
    reason="for CPUs with AVX-512 VNNI and without AMX",
)


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory):
    """Engines of this module come from a library of all sources with the emulation in isa_amx.cpp's place."""
    folder = tmp_path_factory.mktemp("amx")
    flags = build._instruction_sets("x86_64")
    objects = []
    for source in sorted(build._SOURCES.glob("*.cpp")):
        objects.append(str(folder / f"{source.stem}.o"))
        words = [*build._FLAGS, flags.get(source.name, flags[""])]  # as for the real library: the compiler remembers
        path = str(source)
        if source.name == "isa_amx.cpp":
            path, words = str(Path(__file__).with_name("amx_emulated.cpp")), [*words, f"-I{build._SOURCES}"]
        build._run([*words, "-c", path, "-o", objects[-1]])
    built = folder / "kernel.so"
    build._run(["-shared", "-nostdlib++", "-o", str(built), *objects])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "library_path", lambda: built)
        layout.library.cache_clear()
        yield
    layout.library.cache_clear()


def test_random_programs_have_the_bits_of_the_reference():
    for seed in range(100):
        case = random_case(seed)
        found = difference(*case, "amx", threads=1 + seed % 4)
        assert found is None, f"seed {seed}: {found}\n{case[0].listing()}"


@pytest.mark.parametrize("fmt", ["bw_cnn", npu.BlockFormat(48, 7, 8), npu.BlockFormat(100, 7, 8)], ids=str)
def test_every_layer_of_small_networks_has_the_bits_of_the_reference(fmt):
    for number, network in enumerate(NETWORKS):
        program = npu.compile(small_network(np.random.default_rng(number), *network), fmt=fmt)
        image = np.random.default_rng(7).normal(0, 50, (2, *program.inputs[0][1][1:])).astype(np.float32)
        expected = npu.reference.run(program, image, trace=True)
        native = npu.Native(program, 1 + number % 3, keep_tensors=True, isa="amx")
        assert first_difference(program, expected, native.run(image)) is None


@pytest.mark.parametrize("relu", [True, False], ids=["unsigned", "signed"])
def test_the_largest_mantissas_do_not_overflow(relu):
    nodes = [node("Relu", "x", "r")] if relu else []
    weights = np.full((40, 256, 1, 1), -1.984375, np.float32)
    graph = model([*nodes, node("Conv", "r w" if relu else "x w", "y")], [1, 256, 3, 3], {"w": weights})
    program = npu.compile(graph, fmt=npu.BlockFormat(128, 7, 8))
    image = np.full((1, *program.inputs[0][1][1:]), 1.984375 if relu else -1.984375, np.float32)
    y = npu.Native(program, 1, isa="amx").run(image)["y"]
    assert set(y.ravel().tolist()) == {(-1 if relu else 1) * 256 * 1.984375**2}
