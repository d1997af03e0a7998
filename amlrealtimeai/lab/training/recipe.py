"""What is trained on what, in which order: plain numbers, and the stream of pictures that follows from them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab import images
from amlrealtimeai.lab.images.compose import compose_emoji
from amlrealtimeai.lab.images.sprites import drawn
from amlrealtimeai.lab.training.phases import phase_at


@dataclass(frozen=True)
class Kind:
    """A kind of batch: side of its pictures in pixels, how many, and how much of a picture the object takes."""

    size: int
    count: int
    scale: tuple[float, float]


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    share: of the whole, 0..1. kinds: one batch of each in turn.
    rate: learning rate at its beginning and end, cosine between. warm_up: its first share, in which that rises from 0.
    variety: the most that a picture may have, at its beginning and end.
    """

    share: float
    kinds: tuple[Kind, ...]
    rate: tuple[float, float]
    warm_up: float = 0.0
    variety: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Recipe:
    """Phases in order. start: "shipped" weights, or "scratch". pictures: in all, where no minutes are given.

    frozen_units: how many of the sixteen bottlenecks, from the first, stay as they are, and the stem with them.
    stamps, photographs: shares of the pictures that show a photographic cut-out, and that have a photograph behind.
    redrawn: how much more often than usual an emoji is drawn in another style.
    """

    name: str
    start: str
    pictures: int
    phases: tuple[Phase, ...]
    designs: tuple[str, ...] = images.TRAINING_DESIGNS
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    frozen_units: int = 0
    stamps: float = 0.0
    photographs: float = 0.0
    redrawn: float = 1.0


@dataclass(frozen=True)
class Material:
    """What a recipe may need beside emoji."""

    stamps: images.Stamps | None = None
    photographs: images.Photographs | None = None

    def check(self, recipe: Recipe) -> None:
        """Raises InvalidInputError for something that `recipe` needs and that is not there."""
        for name, needed, given in (
            ("--stamps", recipe.stamps, self.stamps),
            ("--backgrounds", recipe.photographs, self.photographs),
        ):
            if needed and not given:
                raise InvalidInputError(f"the recipe {recipe.name!r} needs photographs: give {name}")


@dataclass(frozen=True)
class Batch:
    """What a step needs to know. first: number of its first picture in the whole training."""

    first: int
    kind: Kind
    rate: float
    variety: float


_LEAST_VARIETY = 0.2  # as a share of the most
_TRAINING = 1 << 40  # keeps these seeds apart from those of held-out sets

# A small picture holds the object as large in pixels as a full one does, with less around it.
_TINY = Kind(96, 64, (0.5, 1.1))
_SMALL = Kind(128, 64, (0.45, 1.1))
_FULL = Kind(224, 32, (0.25, 0.95))

RECIPES = {
    # Batches at the final size in between: a network that has seen small pictures only is lost at 224.
    "finetune": Recipe(
        "finetune",
        "shipped",
        121_600,
        (
            Phase(0.69, (*[_TINY] * 15, _FULL), (1e-3, 6e-4), 0.05, (0.4, 1.0)),
            Phase(0.20, (_SMALL, _SMALL, _SMALL, _FULL), (6e-4, 3e-4)),
            Phase(0.11, (_FULL,), (3e-4, 0.0)),
        ),
    ),
    "polish": Recipe("polish", "shipped", 11_200, (Phase(1.0, (_FULL,), (2.5e-4, 0.0), 0.06),)),
    "photographs": Recipe(
        "photographs",
        "shipped",
        100_000,
        (
            Phase(0.50, (*[_SMALL] * 5, _FULL), (8e-4, 5e-4), 0.08, (0.6, 1.0)),
            Phase(0.50, (_FULL,), (5e-4, 0.0)),
        ),
        stamps=0.5,
        photographs=0.5,
        redrawn=1.7,
    ),
    "scratch": Recipe(
        "scratch",
        "scratch",
        360_000,
        (
            Phase(0.56, (Kind(96, 64, (0.45, 1.1)),), (1.5e-3, 1.2e-3), 0.08, (0.4, 1.0)),
            Phase(0.33, (_SMALL, _SMALL, _SMALL, _FULL), (1.2e-3, 4e-4)),
            Phase(0.11, (_FULL,), (4e-4, 0.0)),
        ),
    ),
}


def batch_at(recipe: Recipe, share: float, first: int, step: int) -> Batch:
    """The batch number `step`, after `share` (0..1) of the training and `first` pictures."""
    phase, done = phase_at(recipe.phases, share)
    cosine = (1 + np.cos(np.pi * done)) / 2
    rate = phase.rate[1] + (phase.rate[0] - phase.rate[1]) * cosine
    rate *= min(1.0, max(done, 0.01) / phase.warm_up) if phase.warm_up else 1.0
    variety = phase.variety[0] + (phase.variety[1] - phase.variety[0]) * min(1.0, done / 0.3)
    return Batch(first, phase.kinds[step % len(phase.kinds)], float(rate), float(variety))


def pictures(recipe: Recipe, batch: Batch, seed: int, material: Material) -> Iterator[tuple[np.ndarray, int]]:
    """(picture uint8 [size, size, 3], ImageNet index) of a batch; they follow from their numbers and `seed` alone."""
    for number in range(batch.first, batch.first + batch.kind.count):
        rng = np.random.default_rng([_TRAINING, seed, number])
        variety = batch.variety * float(rng.uniform(_LEAST_VARIETY, 1))
        behind: images.Photographs | str = "procedural"
        if material.photographs and rng.random() < recipe.photographs:
            behind = material.photographs
        size, scale = batch.kind.size, batch.kind.scale
        if material.stamps and rng.random() < recipe.stamps:
            label = int(rng.choice(material.stamps.class_indices))
            stamp = material.stamps.one_of(label, rng)
            yield images.compose_stamp(stamp, size, rng, background=behind, variety=variety, scale=scale), label
            continue
        design = recipe.designs[rng.integers(len(recipe.designs))]
        label = int(rng.choice(images.class_indices(design)))
        symbols = drawn(design, images.emoji()[label])
        symbol = symbols[rng.integers(len(symbols))]
        picture = compose_emoji(
            symbol,
            size,
            rng,
            design=design,
            background=behind,
            variety=variety,
            scale=scale,
            redrawn=recipe.redrawn,
        )
        yield picture, label
