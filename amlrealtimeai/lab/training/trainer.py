"""The training loop: resumable at any moment, with its curves in a file."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from amlrealtimeai.accel.models import codec
from amlrealtimeai.lab import images, resnet50
from amlrealtimeai.lab.training import network as networks
from amlrealtimeai.lab.training import run as runs
from amlrealtimeai.lab.training.phases import Progress
from amlrealtimeai.lab.training.recipe import Batch, Material, Recipe, batch_at, pictures

_WATCHED = ("noto", "twemoji", images.UNSEEN_DESIGN)
_COLUMNS = ("images", "minutes", "loss", "rate", *(f"top1_{name}" for name in (*_WATCHED, "stamps")))
_HELD_OUT_SIZE = 224
_HELD_OUT_BATCH = 32
_UNUSED_CLASS_BIAS = -5.0


Sample = tuple[Batch, Tensor, Tensor]


class _Stream(Dataset[Sample]):
    """Batch -> that batch, its pictures uint8 [n, size, size, 3], labels int64 [n]."""

    def __init__(self, recipe: Recipe, seed: int, material: Material) -> None:
        self.recipe, self.seed, self.material = recipe, seed, material

    def __getitem__(self, batch: Batch) -> Sample:
        return batch, *_stack(pictures(self.recipe, batch, self.seed, self.material))


class Trainer:
    """Trains a ResNet-50 by `recipe` in `folder`, which keeps the last checkpoint and the curves.

    seed: of the pictures and of the first weights. workers: processes that compose pictures beside the training; 0
    composes them in between. start: an archive to start from, instead of what the recipe says. minutes: how long to
    train in all, instead of how many pictures. material: the photographs that the recipe needs. tests: cut-outs to
    watch how well those are known. Continues where a checkpoint in `folder` ends. Raises WeightsError for one that is
    damaged or of another recipe, and InvalidInputError for photographs that are missing.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        seed: int = 1,
        workers: int = 0,
        start: Path | None = None,
        minutes: float | None = None,
        material: Material | None = None,
        tests: images.Stamps | None = None,
    ) -> None:
        self.recipe, self.folder, self.seed, self.workers = recipe, folder, seed, workers
        self.material, self.tests = material or Material(), tests
        self.material.check(recipe)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.network = networks.Resnet50()
        self.step, self.progress = 0, Progress(recipe.pictures, minutes)
        self._start(start)
        self.network.to(self.device, memory_format=torch.channels_last)
        sizes = {kind.size for phase in recipe.phases for kind in phase.kinds}
        self.statistics = _Statistics(self.network, {_HELD_OUT_SIZE} | sizes)
        self.network.train_after(recipe.frozen_units)
        self.optimizer = runs.optimizer(self.network.parameters(), recipe.weight_decay)
        folder.mkdir(parents=True, exist_ok=True)
        if kept := runs.load(folder, self._owner, self.device):
            self._resume(kept)

    def run(self, held_out: int = 256, held_out_every: float = 480.0, save_every: float = 180.0) -> None:
        """Train to the end. held_out: pictures of each watched set; held_out_every, save_every: seconds."""
        stream = _Stream(self.recipe, self.seed, self.material)
        loader = DataLoader(stream, batch_size=None, sampler=self._batches(), num_workers=self.workers)
        saved = tested = time.monotonic()
        losses: list[float] = []
        with runs.bar(self.progress) as bar:
            for batch, pixels, labels in loader:
                losses.append(self._train(batch, pixels, labels))
                self.step += 1
                self.progress.add(len(labels))
                bar.set_postfix_str(f"loss {np.mean(losses[-50:]):.3f}", refresh=False)
                bar.update(runs.done(self.progress) - bar.n)
                last = self.progress.share >= 1
                if time.monotonic() - tested > held_out_every or last:
                    self._record(losses, held_out, batch.rate)
                    losses, tested = [], time.monotonic()
                if time.monotonic() - saved > save_every or last:
                    self.save()
                    saved = time.monotonic()
                if last:
                    break

    def _batches(self) -> Iterator[Batch]:
        step, first = self.step, self.progress.images
        while (share := self.progress.share_at(first)) < 1:
            batch = batch_at(self.recipe, share, first, step)
            yield batch
            step, first = step + 1, first + batch.kind.count

    def top1(self, held_out: Iterable[tuple[np.ndarray, int]]) -> float:
        """Share of pictures, 224 px, that are classified right."""
        self.network.eval()
        self.statistics.select(_HELD_OUT_SIZE)
        pairs = list(held_out)
        right = 0
        with torch.no_grad(), self._half():
            for i in range(0, len(pairs), _HELD_OUT_BATCH):
                pixels, labels = _stack(pairs[i : i + _HELD_OUT_BATCH])
                right += int((self.network(pixels.to(self.device)).argmax(1).cpu() == labels).sum())
        return right / len(pairs)

    def save(self) -> None:
        """Write the checkpoint: whole, or not at all."""
        state = {
            "step": self.step,
            "images": self.progress.images,
            "seconds": self.progress.seconds,
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
            if self.material.stamps:
                self._introduce(self.material.stamps.class_indices)
            return
        with torch.no_grad():
            self.network.classifier.bias.fill_(_UNUSED_CLASS_BIAS)
            self.network.classifier.bias[list(images.emoji())] = 0.0

    def _introduce(self, classes: list[int]) -> None:
        """Let classes that the network was never taught begin as the mean of those that it was."""
        weight, bias = self.network.classifier.weight, self.network.classifier.bias
        taught = bias > _UNUSED_CLASS_BIAS / 2
        new = [label for label in classes if not taught[label]]
        with torch.no_grad():
            weight[new], bias[new] = weight[taught].mean(0), bias[taught].mean()

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

    def _record(self, losses: list[float], held_out: int, rate: float) -> None:
        sets = [images.dataset(held_out, _HELD_OUT_SIZE, seed=7, designs=[design]) for design in _WATCHED]
        if self.tests:
            sets.append(images.stamps_dataset(held_out, self.tests, _HELD_OUT_SIZE, seed=7, variety=0.0))
        shares = [f"{self.top1(pairs):.4f}" for pairs in sets]
        minutes, loss = f"{self.progress.seconds / 60:.1f}", f"{np.mean(losses):.4f}"
        row = [self.progress.images, minutes, loss, f"{rate:.2e}", *shares]
        runs.record(self.folder, _COLUMNS, row + [""] * (len(_COLUMNS) - len(row)))

    @property
    def _owner(self) -> str:
        return f"resnet50 by the recipe {self.recipe.name!r} with seed {self.seed}"

    def _resume(self, kept: dict[str, Any]) -> None:
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.statistics.of_size = kept["statistics"]
        self.step = kept["step"]
        self.progress.images, self.progress.seconds = kept["images"], kept["seconds"]


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


def _stack(pairs: Iterable[tuple[np.ndarray, int]]) -> tuple[Tensor, Tensor]:
    both = list(pairs)
    return torch.from_numpy(np.stack([p for p, _ in both])), torch.tensor([label for _, label in both])
