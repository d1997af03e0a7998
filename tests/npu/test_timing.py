import dataclasses

import pytest

from amlrealtimeai import npu
from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.formats import BlockFormat
from benchmarks.resnet50 import onnx_model
from tests.npu.graphs import integers, model, node

# a tile operation takes 8 / 2 = 4 cycles; 4 tiles; filling a product: 4 + log2(2) + log2(4) + log2(4) = 9
TINY = NpuConfig("tiny", BlockFormat(8, 5, 5), native_dimension=8, tiles=4, lanes=2, clock_hz=1e6)


def times(nodes, shape, constants, config=TINY):
    program = npu.compile(model(nodes, shape, constants), config=config)
    return npu.timing.estimate(program)


@pytest.mark.parametrize(
    ("outputs", "channels", "kernel", "cycles"),
    [
        (8, 8, 1, 36),  # 1 tile operation a pixel, so 4 pixels at once: 9 rounds of 4 cycles
        (16, 8, 1, 72),  # 2 operations: 2 pixels at once
        (24, 8, 1, 144),  # 3 operations: 1 pixel at once, one tile idle
        (40, 8, 1, 288),  # 5 operations: 2 rounds a pixel
        (8, 9, 1, 72),  # 9 channels need two native vectors
        (8, 8, 2, 100),  # 4 operations at 5 x 5 pixels
    ],
)
def test_rounds_of_tile_operations(outputs, channels, kernel, cycles):
    weights = {"w": integers(1, outputs, channels, kernel, kernel)}
    report = times([node("Conv", "x w", "y")], [1, channels, 6, 6], weights)
    assert report.chains[0].matrix_cycles == cycles


def test_one_chain_by_hand():
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "y")]
    report = times(nodes, [1, 8, 6, 6], {"w": integers(1, 8, 8, 1, 1), "b": integers(2, 8)})
    (chain,) = report.chains
    # fill: 9, and 8 for each of v_rd, mv_mul, vv_add, v_relu, v_wr
    assert (chain.matrix_cycles, chain.vector_cycles, chain.fill_cycles, chain.cycles) == (36, 36, 49, 85)
    assert chain.products == 36 * 8 * 8
    assert report.utilisation == chain.utilisation == 36 * 64 / (85 * 64)
    assert chain.milliseconds == 0.085
    # in and out: 2 * 36 * 8 float32
    assert report.transfer_ms == pytest.approx(2 * 36 * 8 * 4 / 7.88e9 * 1e3)
    assert report.latency_ms == pytest.approx(0.085 + report.transfer_ms)


def test_a_wide_result_waits_for_the_vector_units():
    report = times([node("Conv", "x w", "y")], [1, 8, 6, 6], {"w": integers(1, 8, 8, 1, 1)})
    pooled = times(
        [node("Conv", "x w", "c"), node("MaxPool", "c", "y", kernel_shape=[3, 3])],
        [1, 8, 6, 6],
        {"w": integers(1, 8, 8, 1, 1)},
    )
    # 4 x 4 results of 9 reads each, one native vector a cycle, and three instructions
    assert pooled.chains[1].cycles == 16 * 9 + 24
    assert pooled.chains[1].products == 0
    assert pooled.cycles == report.cycles + 16 * 9 + 24


def test_an_image_takes_one_operation_for_each_filter_row():
    report = times([node("Conv", "x w", "y")], [1, 2, 6, 6], {"w": integers(1, 8, 2, 3, 3)})
    # 3 rows of 3 * 2 = 6 values: 3 operations, 16 pixels one by one
    assert report.chains[0].matrix_cycles == 16 * 4


def test_another_configuration():
    program = npu.compile(model([node("Conv", "x w", "y")], [1, 8, 6, 6], {"w": integers(1, 16, 8, 1, 1)}), config=TINY)
    faster = dataclasses.replace(TINY, clock_hz=2e6)
    assert npu.timing.estimate(program, faster).chains[0].milliseconds * 2 == pytest.approx(
        npu.timing.estimate(program).chains[0].milliseconds
    )
    assert npu.timing.estimate(program, "bw_s10").config.name == "bw_s10"
    with pytest.raises(InvalidInputError, match="unknown NPU configuration 'bw_x'"):
        npu.timing.estimate(program, "bw_x")


def test_resnet50_on_the_arria_10_is_near_the_published_latency():
    report = npu.timing.estimate(npu.compile(onnx_model(), config="bw_a10"))
    assert report.latency_ms == pytest.approx(1.8, rel=0.1)
    assert f"{report.latency_ms:.2f}" == "1.89"
    assert sum(chain.products for chain in report.chains) == 3_855_925_248


def test_the_report_reads_as_text_and_as_html():
    nodes = [node("Conv", "x w", "a"), node("MaxPool", "a", "y", kernel_shape=[2, 2])]
    report = times(nodes, [1, 8, 3, 3], {"w": integers(1, 8, 8, 1, 1)})
    assert str(report).splitlines() == [
        "small on tiny: 0.085 ms for one image (modelled), 85 cycles, 0.000 ms PCIe, 11% of the multipliers busy",
        "chain   work        result  products  cycles      ms  busy",
        "a_node  mv_mul 1x1  3x3x8        576      45  0.0450   20%",
        "y_node  v_max 2x2   2x2x8          0      40  0.0400    0%",
    ]
    html = report._repr_html_()
    assert html.count("<tr>") == 3
    assert "<td>a_node</td><td>mv_mul 1x1</td>" in html
    assert "modelled" in html
