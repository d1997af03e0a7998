"""What is trained on what, in which order: plain numbers, and the stream of pictures that follows from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.lab import images


@dataclass(frozen=True)
class Kind:
    """A kind of batch: side of its pictures in pixels, how many, and how much of a picture the object takes."""

    size: int
    count: int
    scale: tuple[float, float]


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    images: how many pictures. kinds: one batch of each in turn.
    rate: learning rate at its beginning and end, cosine between. warm_up: pictures over which it rises from 0.
    variety: the most that a picture may have, at its beginning and end.
    """

    images: int
    kinds: tuple[Kind, ...]
    rate: tuple[float, float]
    warm_up: int = 0
    variety: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Recipe:
    """Phases in order. start: "shipped" weights, or "scratch".

    frozen_units: how many of the sixteen bottlenecks, from the first, stay as they are, and the stem with them.
    """

    name: str
    start: str
    phases: tuple[Phase, ...]
    designs: tuple[str, ...] = images.TRAINING_DESIGNS
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    frozen_units: int = 0


@dataclass(frozen=True)
class Batch:
    """What a step needs to know. first: number of its first picture in the whole training."""

    first: int
    kind: Kind
    rate: float
    variety: float


_LEAST_VARIETY = 0.2  # as a share of the most

# A small picture holds the object as large in pixels as a full one does, with less around it.
_TINY = Kind(96, 64, (0.5, 1.1))
_SMALL = Kind(128, 64, (0.45, 1.1))
_FULL = Kind(224, 32, (0.25, 0.95))

RECIPES = {
    # Batches at the final size in between: a network that has seen small pictures only is lost at 224.
    "finetune": Recipe(
        "finetune",
        "shipped",
        (
            Phase(84_000, (*[_TINY] * 15, _FULL), (1e-3, 6e-4), 4_000, (0.4, 1.0)),
            Phase(24_000, (_SMALL, _SMALL, _SMALL, _FULL), (6e-4, 3e-4)),
            Phase(13_600, (_FULL,), (3e-4, 0.0)),
        ),
    ),
    "polish": Recipe("polish", "shipped", (Phase(11_200, (_FULL,), (2.5e-4, 0.0), 640),)),
    "scratch": Recipe(
        "scratch",
        "scratch",
        (
            Phase(200_000, (Kind(96, 64, (0.45, 1.1)),), (1.5e-3, 1.2e-3), 16_000, (0.4, 1.0)),
            Phase(120_000, (_SMALL, _SMALL, _SMALL, _FULL), (1.2e-3, 4e-4)),
            Phase(40_000, (_FULL,), (4e-4, 0.0)),
        ),
    ),
}


def schedule(recipe: Recipe) -> list[Batch]:
    """All steps of a training."""
    batches: list[Batch] = []
    first = 0
    for phase in recipe.phases:
        done, turn = 0, 0
        while done < phase.images:
            kind = phase.kinds[turn % len(phase.kinds)]
            turn += 1
            share = done / phase.images
            cosine = (1 + np.cos(np.pi * share)) / 2
            rate = phase.rate[1] + (phase.rate[0] - phase.rate[1]) * cosine
            rate *= min(1.0, (done + kind.count) / phase.warm_up) if phase.warm_up else 1.0
            variety = phase.variety[0] + (phase.variety[1] - phase.variety[0]) * min(1.0, share / 0.3)
            batches.append(Batch(first, kind, float(rate), float(variety)))
            done, first = done + kind.count, first + kind.count
    return batches


def pictures(recipe: Recipe, batch: Batch, seed: int) -> Iterator[tuple[np.ndarray, int]]:
    """(picture uint8 [size, size, 3], ImageNet index) of a batch; they follow from their numbers and `seed` alone."""
    for number in range(batch.first, batch.first + batch.kind.count):
        rng = np.random.default_rng([seed, number])
        design = recipe.designs[rng.integers(len(recipe.designs))]
        known = images.class_indices(design)
        label = known[rng.integers(len(known))]
        own_seed = int(rng.integers(2**31)) + (1 << 40)  # apart from the seeds of held-out sets
        size, scale = batch.kind.size, batch.kind.scale
        variety = batch.variety * float(rng.uniform(_LEAST_VARIETY, 1))
        yield images.compose(label, size, own_seed, design=design, variety=variety, scale=scale), label
