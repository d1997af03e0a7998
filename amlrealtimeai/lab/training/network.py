"""ResNet-50 in PyTorch with the layers, names and layouts of keras.applications, so that weights go both ways."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from amlrealtimeai.artifact.preprocess import MEANS
from amlrealtimeai.errors import WeightsError
from amlrealtimeai.lab.resnet50 import EPSILON, UNITS

CLASSES = 1000
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


class ConvNorm(nn.Module):
    """Convolution and batch normalisation; `stats_of` selects the running statistics of one picture size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] -> [n, outputs, h/stride, w/stride]."""
        return self.bn(self.conv(x))


class Unit(nn.Module):
    """A bottleneck, with the stride in its first 1x1 convolution."""

    def __init__(self, inputs: int, filters: int, stride: int, project: bool) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, filters, 1, stride)
        self.second = ConvNorm(filters, filters, 3)
        self.third = ConvNorm(filters, 4 * filters, 1)
        nn.init.constant_(self.third.bn.weight, 0.2)  # blocks start close to the identity
        self.shortcut = ConvNorm(inputs, 4 * filters, 1, stride) if project else None

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs, h, w] -> [n, 4 * filters, h/stride, w/stride]."""
        y = self.third(F.relu(self.second(F.relu(self.first(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Resnet50(nn.Module):
    """Pictures uint8 [n, size, size, 3], RGB -> logits float32 [n, 1000]."""

    means: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 64, 7, 2)
        units, inputs = [], 64
        for stage, count in enumerate(UNITS):
            for number in range(count):
                units.append(Unit(inputs, 64 << stage, 2 if number == 0 and stage else 1, number == 0))
                inputs = 256 << stage
        self.units = nn.Sequential(*units)
        self.classifier = nn.Linear(inputs, CLASSES)
        self.register_buffer("means", torch.tensor(MEANS[::-1].copy()).view(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits."""
        x = pictures.permute(0, 3, 1, 2).flip(1).float() - self.means
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
        return self.classifier(self.units(x).mean((2, 3))).float()

    def train_after(self, frozen_units: int) -> None:
        """Training mode for all but the first `frozen_units` bottlenecks and, if there are any, the stem."""
        self.train()
        for part in [self.stem, *self.units[:frozen_units]] if frozen_units else []:
            part.eval().requires_grad_(False)

    def named_convolutions(self) -> dict[str, ConvNorm]:
        """By Keras' names: "conv1", "conv2_block1_0" (its shortcut), "conv2_block1_1", ..."""
        named = {"conv1": self.stem}
        blocks = [(stage, n) for stage, count in enumerate(UNITS, start=2) for n in range(1, count + 1)]
        for (stage, number), unit in zip(blocks, self.units, strict=True):
            assert isinstance(unit, Unit)
            parts = (unit.shortcut, unit.first, unit.second, unit.third)
            named |= {f"conv{stage}_block{number}_{i}": part for i, part in enumerate(parts) if part is not None}
        return named


def to_arrays(network: Resnet50) -> dict[str, np.ndarray]:
    """Weights as float32 arrays with Keras' names and layouts."""
    arrays = {
        "predictions/kernel": _array(network.classifier.weight).T,
        "predictions/bias": _array(network.classifier.bias),
    }
    for name, part in network.named_convolutions().items():
        arrays[f"{name}_conv/kernel"] = _array(part.conv.weight).transpose(2, 3, 1, 0)
        arrays |= {f"{name}_bn/{keras}": _array(getattr(part.bn, ours)) for ours, keras in _NORM.items()}
    return arrays


def from_arrays(network: Resnet50, arrays: Mapping[str, np.ndarray]) -> None:
    """Give `network` the weights of `arrays`. Raises WeightsError for a missing array or another shape."""
    expected = to_arrays(network)
    for name, value in expected.items():
        if name not in arrays or arrays[name].shape != value.shape:
            got = list(arrays[name].shape) if name in arrays else "nothing"
            raise WeightsError(
                f"these are not the weights of resnet50: expected {name!r} of shape {list(value.shape)}, got {got}"
            )
    with torch.no_grad():
        _assign(network.classifier.weight, arrays["predictions/kernel"].T)
        _assign(network.classifier.bias, arrays["predictions/bias"])
        for name, part in network.named_convolutions().items():
            _assign(part.conv.weight, arrays[f"{name}_conv/kernel"].transpose(3, 2, 0, 1))
            for ours, keras in _NORM.items():
                _assign(getattr(part.bn, ours), arrays[f"{name}_bn/{keras}"])


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _assign(tensor: Tensor, value: np.ndarray) -> None:
    tensor.copy_(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
