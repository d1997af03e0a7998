"""SSD-VGG in PyTorch: the geometry of accel.models.ssd, with batch normalisation that is folded away at the end."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amlrealtimeai.accel.models.ssdvgg import ANCHORS, BLOCKS, CLASSES, EXTRA
from amlrealtimeai.artifact.preprocess import MEANS
from amlrealtimeai.errors import WeightsError
from amlrealtimeai.lab.training.detection.targets import sites

_STAGES = {1: (64, 2), 2: (128, 2), 3: (256, 3), 4: (512, 3), 5: (512, 3)}
_WIDTHS = dict(zip(BLOCKS, (512, 1024, 512, 256, 256, 256), strict=True))
_GREY_LEVELS = 64.0  # brings pictures to about 1; folded into the first kernel
_GAIN = 20.0


class Layer(nn.Module):
    """Convolution, batch normalisation where there are sites enough for its statistics, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: bool = True, **geometry: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, bias=not norm, **geometry)
        self.bn = nn.BatchNorm2d(outputs) if norm else None
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] -> [n, outputs, h', w']."""
        x = self.conv(x)
        return F.relu(x if self.bn is None else self.bn(x))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias that do the same without batch normalisation."""
        if self.bn is None:
            assert self.conv.bias is not None
            return self.conv.weight, self.conv.bias
        scale = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        return self.conv.weight * scale[:, None, None, None], self.bn.bias - self.bn.running_mean * scale


class SsdVgg(nn.Module):
    """Pictures uint8 [n, size, size, 3], RGB -> class scores float32 [n, anchors, 21], offsets [n, anchors, 4].

    Anchors are those of targets.anchors(size), in their order.
    """

    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        inputs = 3
        for stage, (filters, count) in _STAGES.items():
            for number in range(1, count + 1):
                self.layers[f"block{stage}_conv{number}"] = Layer(inputs, filters, 3, padding=1)
                inputs = filters
        self.layers["conv6"] = Layer(512, 1024, 3, padding=6, dilation=6)
        self.layers["conv7"] = Layer(1024, 1024, 1)
        inputs = 1024
        for block, (filters, stride, pad) in EXTRA.items():
            norm = bool(pad)
            self.layers[f"{block}/conv1x1"] = Layer(inputs, filters, 1, norm)
            self.layers[f"{block}/conv3x3"] = Layer(filters, 2 * filters, 3, norm, stride=stride, padding=pad)
            inputs = 2 * filters
        self.heads = nn.ModuleDict()
        for block in BLOCKS:
            for part, size in (("cls", CLASSES), ("loc", 4)):
                head = nn.Conv2d(_WIDTHS[block], ANCHORS[block] * size, 3, padding=1)
                nn.init.normal_(head.weight, 0, 0.01)
                nn.init.zeros_(head.bias)
                self.heads[f"{block}_box/conv_{part}"] = head
        self.gamma = nn.Parameter(torch.full((512,), _GAIN))
        self.register_buffer("means", torch.tensor(MEANS).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores before the softmax, and offsets."""
        found = [self._head(block, x) for block, x in self._blocks(pictures)]
        return torch.cat([scores for scores, _ in found], 1), torch.cat([offsets for _, offsets in found], 1)

    def _blocks(self, pictures: Tensor) -> list[tuple[str, Tensor]]:
        x = (pictures.permute(0, 3, 1, 2).float() - self.means) / _GREY_LEVELS
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in (1, 2, 3, 4):
            x = self._stage(x if stage == 1 else F.max_pool2d(x, 2), stage)
        length = torch.sqrt(x.float().square().sum(1, keepdim=True).clamp_min(1e-12))
        found = [("block4", x / length * self.gamma[:, None, None])]
        x = self._stage(F.max_pool2d(x, 2, ceil_mode=True), 5)
        x = F.max_pool2d(x, 3, 1, padding=1)
        x = self.layers["conv7"](self.layers["conv6"](x))
        found.append(("block7", x))
        for block in list(EXTRA)[: len(sites(pictures.shape[1])) - len(found)]:
            x = self.layers[f"{block}/conv3x3"](self.layers[f"{block}/conv1x1"](x))
            found.append((block, x))
        return found

    def _stage(self, x: Tensor, stage: int) -> Tensor:
        for number in range(1, _STAGES[stage][1] + 1):
            x = self.layers[f"block{stage}_conv{number}"](x)
        return x

    def _head(self, block: str, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = (self.heads[f"{block}_box/conv_{part}"](x).permute(0, 2, 3, 1).float() for part in ("cls", "loc"))
        scores, offsets = parts
        return scores.reshape(len(x), -1, CLASSES), offsets.reshape(len(x), -1, 4)


def to_arrays(network: SsdVgg) -> dict[str, np.ndarray]:
    """Weights as float32 arrays with the names and layouts of accel.models.ssd, batch normalisation folded in."""
    arrays = {"block4_box/L2Normalization/gamma": _array(network.gamma)}
    for name, layer in network.layers.items():
        assert isinstance(layer, Layer)
        arrays |= _named(name, *layer.folded())
    for name, head in network.heads.items():
        assert isinstance(head, nn.Conv2d)
        arrays |= _named(name, head.weight, head.bias)
    first = arrays["block1_conv1/kernel"] / np.float32(_GREY_LEVELS)
    arrays["block1_conv1/kernel"] = np.ascontiguousarray(first[:, :, ::-1])  # weight files expect BGR
    return arrays


def from_arrays(network: SsdVgg, arrays: Mapping[str, np.ndarray]) -> None:
    """Start `network` from an archive: batch normalisation does nothing at first but add the biases.

    Raises WeightsError for a missing array or another shape.
    """
    for name, value in to_arrays(network).items():
        if name not in arrays or arrays[name].shape != value.shape:
            got = list(arrays[name].shape) if name in arrays else "nothing"
            raise WeightsError(
                f"these are not the weights of ssdvgg: expected {name!r} of shape {list(value.shape)}, got {got}"
            )
    with torch.no_grad():
        _assign(network.gamma, arrays["block4_box/L2Normalization/gamma"])
        for name, part in [*network.layers.items(), *network.heads.items()]:
            kernel, bias = arrays[f"{name}/kernel"], arrays[f"{name}/bias"]
            if name == "block1_conv1":
                kernel = kernel[:, :, ::-1] * np.float32(_GREY_LEVELS)
            conv = part.conv if isinstance(part, Layer) else part
            _assign(conv.weight, kernel.transpose(3, 2, 0, 1))
            norm = part.bn if isinstance(part, Layer) else None
            if norm is None:
                _assign(conv.bias, bias)
            else:
                norm.weight.fill_(float(np.sqrt(1 + norm.eps)))
                norm.running_mean.zero_(), norm.running_var.fill_(1.0)
                _assign(norm.bias, bias)


def _named(name: str, kernel: Tensor, bias: Tensor | None) -> dict[str, np.ndarray]:
    assert bias is not None
    return {f"{name}/kernel": _array(kernel).transpose(2, 3, 1, 0), f"{name}/bias": _array(bias)}


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _assign(tensor: Tensor, value: np.ndarray) -> None:
    tensor.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
