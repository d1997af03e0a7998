"""What fixes the arithmetic and the speed of one NPU."""

from dataclasses import dataclass, replace

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.npu.formats import BlockFormat, as_format, formats


@dataclass(frozen=True)
class NpuConfig:
    """One NPU: its number format and the size of its matrix-vector unit.

    native_dimension: N, a tile multiplies an N x N matrix with an N vector.
    tiles, lanes: T tiles, each with N dot-product engines of L multipliers.
    clock_hz: cycles per second.
    """

    name: str
    number_format: BlockFormat
    native_dimension: int
    tiles: int
    lanes: int
    clock_hz: float

    def with_format(self, fmt: BlockFormat | str) -> "NpuConfig":
        """The same machine with another number format."""
        return replace(self, number_format=as_format(fmt))


configs: dict[str, NpuConfig] = {
    config.name: config
    for config in (
        NpuConfig("bw_s5", formats["bw_cnn"], 100, 6, 10, 200e6),
        NpuConfig("bw_a10", formats["bw_cnn"], 128, 8, 16, 300e6),
        NpuConfig("bw_s10", formats["ms_fp8"], 400, 6, 40, 250e6),
    )
}
"""Presets by name, after J. Fowers et al., "A Configurable Cloud-Scale DNN Processor for Real-Time AI", ISCA 2018.

Published: 96,000 multipliers and 48 TFLOPS of bw_s10 (abstract). Assumed, quoted from memory: everything of bw_s5
(Stratix V, 2.4 TFLOPS) and bw_a10 (Arria 10, 9.8 TFLOPS); the identity peak = `2*T*L*N*f` holds for all three.
"""


def as_config(config: NpuConfig | str) -> NpuConfig:
    """The configuration itself, or the preset of that name."""
    if isinstance(config, NpuConfig):
        return config
    if not isinstance(config, str) or config not in configs:
        raise InvalidInputError(f"unknown NPU configuration {config!r}; presets: {', '.join(configs)}")
    return configs[config]
