"""What every training has: its optimiser, a progress bar, and in its folder the last checkpoint and the curves."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from amlrealtimeai.errors import WeightsError
from amlrealtimeai.lab.training.phases import Progress

CHECKPOINT = "checkpoint.pt"
CURVES = "curves.csv"


def optimizer(parameters: Iterable[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW that lets kernels decay, and biases and scales not; the learning rate is set before every step."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), fused=True)


def bar(progress: Progress) -> tqdm:
    """Of the pictures, or of the seconds where those are given; `progress` counts from now on."""
    progress.start()
    total, unit = (progress.pictures, "img") if progress.minutes is None else (round(60 * progress.minutes), "s")
    return tqdm(total=total, initial=done(progress), unit=unit, mininterval=5)


def done(progress: Progress) -> int:
    """What the bar shows."""
    return progress.images if progress.minutes is None else round(progress.seconds)


def save(folder: Path, owner: str, state: dict[str, Any]) -> None:
    """Write the checkpoint: whole, or not at all. owner: whose it is, in words."""
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save({"owner": owner, "state": state}, partial)
    partial.replace(folder / CHECKPOINT)


def load(folder: Path, owner: str, device: torch.device) -> dict[str, Any] | None:
    """The state that the checkpoint of `folder` holds, or None where there is none.

    Raises WeightsError for a checkpoint that is damaged or somebody else's.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        kept = torch.load(path, map_location=device, weights_only=True)
        found, state = kept["owner"], dict(kept["state"])
    except Exception as error:  # torch raises whatever its readers raise
        raise WeightsError(f"{path} is damaged, or of another version ({error!r}): delete it to begin anew") from None
    if found != owner:
        raise WeightsError(f"{path} belongs to {found}, not to {owner}: choose another folder")
    return state


def record(folder: Path, columns: Sequence[str], row: Sequence[object]) -> None:
    """Print a line of the curves and add it to their file."""
    path = folder / CURVES
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(([columns] if new else []) + [row])
    tqdm.write(", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)))
