"""The training loop: so many minutes, resumable at any moment, with its curves in a file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amlrealtimeai.accel.models import codec
from amlrealtimeai.lab.images import VocFolder
from amlrealtimeai.lab.training import run as runs
from amlrealtimeai.lab.training.detection import network as networks
from amlrealtimeai.lab.training.detection.loss import multibox
from amlrealtimeai.lab.training.detection.recipe import Phase, Recipe, own_scene, scene
from amlrealtimeai.lab.training.detection.targets import targets
from amlrealtimeai.lab.training.phases import Progress, phase_at

_COLUMNS = ("images", "minutes", "size", "classes", "boxes", "rate")

Sample = tuple[Tensor, Tensor, Tensor]
Place = tuple[int, Phase]


class _Stream(Dataset[Sample]):
    """(first number, phase) -> pictures uint8 [n, size, size, 3], classes int64 [n, a], offsets float32 [n, a, 4]."""

    def __init__(self, seed: int, folder: VocFolder | None) -> None:
        self.seed, self.folder = seed, folder

    def __getitem__(self, place: Place) -> Sample:
        first, phase = place
        pictures, labels, offsets = [], [], []
        for number in range(first, first + phase.count):
            if self.folder:
                picture, boxes = own_scene(self.folder, phase, number, self.seed)
            else:
                picture, boxes = scene(phase, number, self.seed)
            wanted = targets(boxes, phase.size)
            pictures.append(picture)
            labels.append(wanted[0])
            offsets.append(wanted[1])
        return tuple(torch.from_numpy(np.stack(part)) for part in (pictures, labels, offsets))


class Trainer:
    """Trains SSD-VGG by `recipe` in `folder` for `minutes`, those before an interruption included.

    folder: keeps the last checkpoint and the curves. seed: of the scenes and the first weights. workers: processes that
    compose scenes beside the training; 0 composes them in between. start: an archive to start from. voc: own pictures
    instead of composed ones. Raises WeightsError for a checkpoint that is damaged or of another seed.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        minutes: float,
        seed: int = 1,
        workers: int = 0,
        start: Path | None = None,
        voc: Path | None = None,
    ) -> None:
        self.recipe, self.folder, self.seed, self.workers = recipe, folder, seed, workers
        self.voc = VocFolder(voc) if voc else None
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.network = networks.SsdVgg()
        if start:
            networks.from_arrays(self.network, codec.load(start, "ssdvgg"))
        self.network.to(self.device, memory_format=torch.channels_last)
        self.optimizer = runs.optimizer(self.network.parameters(), recipe.weight_decay)
        self.progress = Progress(minutes=minutes)
        folder.mkdir(parents=True, exist_ok=True)
        if kept := runs.load(folder, self._owner, self.device):
            self._resume(kept)

    def run(self, record_every: float = 60.0, save_every: float = 240.0) -> None:
        """Train to the end. record_every: seconds between two lines of the curves; save_every: between checkpoints."""
        loader = DataLoader(_Stream(self.seed, self.voc), None, sampler=self._places(), num_workers=self.workers)
        losses: list[tuple[float, float]] = []
        saved = recorded = time.monotonic()
        with runs.bar(self.progress) as bar:
            for sample in loader:
                losses.append(self._train(*sample))
                self.progress.add(len(sample[0]))
                now = time.monotonic()
                bar.set_postfix_str(f"classes {losses[-1][0]:.2f}, boxes {losses[-1][1]:.2f}", refresh=False)
                bar.update(runs.done(self.progress) - bar.n)
                last = self.progress.share >= 1
                if now - recorded > record_every or last:
                    self._record(losses, sample[0].shape[1])
                    losses, recorded = [], now
                if now - saved > save_every or last:
                    self.save()
                    saved = time.monotonic()
                if last:
                    break

    def _places(self) -> Iterator[Place]:
        first = self.progress.images
        while self.progress.share < 1:
            phase, _ = phase_at(self.recipe.phases, self.progress.share)
            yield first, phase
            first += phase.count

    def _train(self, pictures: Tensor, labels: Tensor, wanted: Tensor) -> tuple[float, float]:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.progress.share)
        with torch.autocast(self.device.type, torch.bfloat16):
            scores, offsets = self.network(pictures.to(self.device))
        classes, boxes = multibox(scores, offsets, labels.to(self.device), wanted.to(self.device))
        self.optimizer.zero_grad(set_to_none=True)
        (classes + boxes).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        return float(classes.detach()), float(boxes.detach())

    def save(self) -> None:
        """Write the checkpoint: whole, or not at all."""
        state = {
            "images": self.progress.images,
            "seconds": self.progress.seconds,
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        runs.save(self.folder, self._owner, state)

    def export(self, path: Path) -> str:
        """Write the weights as a compact archive, batch normalisation folded in; returns its SHA-256."""
        return codec.save(path, "ssdvgg", networks.to_arrays(self.network))

    def _record(self, losses: list[tuple[float, float]], size: int) -> None:
        classes, boxes = np.mean(losses, axis=0)
        minutes, rate = f"{self.progress.seconds / 60:.1f}", f"{self.recipe.rate_at(self.progress.share):.2e}"
        row = [self.progress.images, minutes, size, f"{classes:.4f}", f"{boxes:.4f}", rate]
        runs.record(self.folder, _COLUMNS, row)

    @property
    def _owner(self) -> str:
        return f"ssdvgg with seed {self.seed}"

    def _resume(self, kept: dict[str, Any]) -> None:
        self.network.load_state_dict(kept["weights"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.progress.images, self.progress.seconds = kept["images"], kept["seconds"]
