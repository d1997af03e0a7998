import numpy as np
import pytest

from amlrealtimeai import npu
from tests.npu.graphs import model, node

AVAILABLE = npu.kernel_info()["available"]


@pytest.mark.parametrize(("mantissa_bits", "value"), [(4, 1.875), (5, 1.9375), (6, 1.96875), (7, 1.984375)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("relu", [True, False], ids=["unsigned", "signed"])
@pytest.mark.parametrize("isa", AVAILABLE)
def test_the_largest_mantissas_do_not_overflow(isa, relu, sign, mantissa_bits, value, monkeypatch):
    """Every product of a block at its largest: 16-bit sums of the narrower instruction sets saturate if anywhere."""
    monkeypatch.setenv("AMLREALTIMEAI_ISA", isa)
    channels, length = 256, 128
    nodes = [node("Relu", "x", "r")] if relu else []
    weights = np.full((40, channels, 1, 1), sign * value, np.float32)
    graph = model([*nodes, node("Conv", "r w" if relu else "x w", "y")], [1, channels, 3, 3], {"w": weights})
    program = npu.compile(graph, fmt=npu.BlockFormat(length, mantissa_bits, 8))
    for image_sign in (1,) if relu else (1, -1):
        x = np.full((1, *program.inputs[0][1][1:]), image_sign * value, np.float32)
        (y,) = npu.Native(program, threads=1).run(x).values()
        assert set(y.ravel().tolist()) == {image_sign * sign * channels * value * value}
