"""The training loop: resumable at any moment, with its curves in a file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from amlrealtimeai.accel.models import codec
from amlrealtimeai.lab import images, resnet50
from amlrealtimeai.lab.training import network as networks
from amlrealtimeai.lab.training import run as runs
from amlrealtimeai.lab.training.recipe import Batch, Recipe, pictures, schedule

_WATCHED = ("noto", "twemoji", images.UNSEEN_DESIGN)
_COLUMNS = ("images", "minutes", "loss", "rate", *(f"top1_{design}" for design in _WATCHED))
_HELD_OUT_SIZE = 224
_HELD_OUT_BATCH = 32
_UNUSED_CLASS_BIAS = -5.0


class _Stream(Dataset[tuple[Tensor, Tensor]]):
    """Batch number -> (pictures uint8 [n, size, size, 3], labels int64 [n])."""

    def __init__(self, recipe: Recipe, batches: list[Batch], seed: int) -> None:
        self.recipe, self.batches, self.seed = recipe, batches, seed

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return _stack(pictures(self.recipe, self.batches[number], self.seed))


class Trainer:
    """Trains a ResNet-50 by `recipe` in `folder`, which keeps the last checkpoint and the curves.

    seed: of the pictures and of the first weights. workers: processes that compose pictures beside the training; 0
    composes them in between. start: an archive to start from, instead of what the recipe says. Continues where a
    checkpoint in `folder` ends. Raises WeightsError for one that is damaged or of another recipe.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, seed: int = 1, workers: int = 0, start: Path | None = None
    ) -> None:
        self.recipe, self.folder, self.seed, self.workers = recipe, folder, seed, workers
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.network = networks.Resnet50()
        self.batches = schedule(recipe)
        self.step, self.seconds = 0, 0.0
        self._start(start)
        self.network.to(self.device, memory_format=torch.channels_last)
        self.statistics = _Statistics(self.network, {_HELD_OUT_SIZE} | {b.kind.size for b in self.batches})
        self.network.train_after(recipe.frozen_units)
        self.optimizer = runs.optimizer(self.network.parameters(), recipe.weight_decay)
        folder.mkdir(parents=True, exist_ok=True)
        if kept := runs.load(folder, self._owner, self.device):
            self._resume(kept)

    def run(self, held_out: int = 256, held_out_every: float = 480.0, save_every: float = 180.0) -> None:
        """Train to the end. held_out: pictures of each watched design; held_out_every, save_every: seconds."""
        loader = DataLoader(
            _Stream(self.recipe, self.batches, self.seed),
            batch_size=None,
            sampler=range(self.step, len(self.batches)),
            num_workers=self.workers,
        )
        saved = tested = time.monotonic()
        losses: list[float] = []
        total = self.batches[-1].first + self.batches[-1].kind.count
        done = self.batches[self.step].first if self.step < len(self.batches) else total
        with tqdm(total=total, initial=done, unit="img", mininterval=5) as bar:
            clock = time.monotonic()
            for pixels, labels in loader:
                losses.append(self._train(self.batches[self.step], pixels, labels))
                self.step += 1
                now = time.monotonic()
                self.seconds, clock = self.seconds + now - clock, now
                bar.update(len(labels))
                bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.3f}", refresh=False)
                last = self.step == len(self.batches)
                if now - tested > held_out_every or last:
                    self._record(losses, held_out)
                    losses, tested = [], time.monotonic()
                if now - saved > save_every or last:
                    self.save()
                    saved = time.monotonic()

    def top1(self, design: str, count: int) -> float:
        """Share of `count` held-out pictures of `design`, 224 px, that are classified right."""
        self.network.eval()
        self.statistics.select(_HELD_OUT_SIZE)
        pairs = list(images.dataset(count, _HELD_OUT_SIZE, seed=7, designs=[design]))
        right = 0
        with torch.no_grad(), self._half():
            for i in range(0, count, _HELD_OUT_BATCH):
                pixels, labels = _stack(iter(pairs[i : i + _HELD_OUT_BATCH]))
                right += int((self.network(pixels.to(self.device)).argmax(1).cpu() == labels).sum())
        return right / count

    def save(self) -> None:
        """Write the checkpoint: whole, or not at all."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "statistics": self.statistics.of_size,
        }
        runs.save(self.folder, self._owner, state)

    def export(self, path: Path) -> str:
        """Write the weights as a compact archive, with the statistics of 224 px; returns its SHA-256."""
        self.statistics.select(_HELD_OUT_SIZE)
        return codec.save(path, "resnet50", networks.to_arrays(self.network))

    def _start(self, archive: Path | None) -> None:
        if archive or self.recipe.start == "shipped":
            networks.from_arrays(self.network, resnet50.weights(archive))
            return
        with torch.no_grad():
            self.network.classifier.bias.fill_(_UNUSED_CLASS_BIAS)
            self.network.classifier.bias[list(images.emoji())] = 0.0

    def _train(self, batch: Batch, pixels: Tensor, labels: Tensor) -> float:
        self.network.train_after(self.recipe.frozen_units)
        self.statistics.select(batch.kind.size)
        for group in self.optimizer.param_groups:
            group["lr"] = batch.rate
        with self._half():
            logits = self.network(pixels.to(self.device))
        loss = F.cross_entropy(logits, labels.to(self.device), label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def _record(self, losses: list[float], held_out: int) -> None:
        done = self.batches[self.step - 1].first + self.batches[self.step - 1].kind.count
        shares = [f"{self.top1(design, held_out):.4f}" for design in _WATCHED]
        row = [done, f"{self.seconds / 60:.1f}", f"{np.mean(losses):.4f}", f"{self.batches[self.step - 1].rate:.2e}"]
        runs.record(self.folder, _COLUMNS, [*row, *shares])

    @property
    def _owner(self) -> str:
        return f"resnet50 by the recipe {self.recipe.name!r} with seed {self.seed}"

    def _resume(self, kept: dict[str, Any]) -> None:
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.statistics.of_size = kept["statistics"]
        self.step, self.seconds = kept["step"], kept["seconds"]


class _Statistics:
    """Running means and variances for each picture size: they differ, and 224 px is what counts in the end."""

    def __init__(self, network: networks.Resnet50, sizes: set[int]) -> None:
        self._norms = [part.bn for part in network.named_convolutions().values()]
        current = [tensor for norm in self._norms for tensor in (norm.running_mean, norm.running_var)]
        self.of_size = {size: [tensor.clone() for tensor in current] for size in sizes}

    def select(self, size: int) -> None:
        """Let the network read and update those of `size`."""
        chosen: Iterator[Tensor] = iter(self.of_size[size])
        for norm in self._norms:
            norm.running_mean, norm.running_var = next(chosen), next(chosen)


def _stack(pairs: Iterator[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    both = list(pairs)
    return torch.from_numpy(np.stack([p for p, _ in both])), torch.tensor([label for _, label in both])
