"""What SSD-VGG is trained on, in which order: shares of a time that is given, and scenes that follow from numbers."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from amlrealtimeai.lab import images
from amlrealtimeai.lab.images import Box, VocFolder
from amlrealtimeai.lab.images.scenes import SCALE

_TRAINING_SEEDS = 1 << 40  # apart from the seeds of held-out scenes
_MOST = 5


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    share: of the whole time. size: of its pictures, in pixels. count: pictures in a batch. scale: of its objects, as
    images.scene has it. variety: the most that a scene may have. designs: of its objects, one for a scene.
    """

    share: float
    size: int
    count: int
    scale: tuple[float, float, float]
    variety: float
    designs: tuple[str, ...] = images.TRAINING_DESIGNS


@dataclass(frozen=True)
class Recipe:
    """Phases in order; the learning rate rises for the share `warm_up` of the time, then falls to 0 in a line.

    Not as a cosine: the last phase, at another size, needs a real learning rate.
    """

    phases: tuple[Phase, ...]
    rate: float = 1.3e-3
    warm_up: float = 0.02
    weight_decay: float = 0.02

    def rate_at(self, share: float) -> float:
        """Learning rate after `share` (0..1) of the time."""
        if share < self.warm_up:
            return self.rate * max(share / self.warm_up, 0.01)
        done = (share - self.warm_up) / (1 - self.warm_up)
        return self.rate * (1 - min(done, 1.0))


# Small pictures hold objects nearly as large in pixels as those of 300 px do: what is learnt on them holds there.
RECIPES = {
    "short": Recipe(  # half an hour on two cores is enough for one design only
        (
            Phase(0.50, 128, 12, (0.25, 0.5, 0.8), 0.25),
            Phase(0.34, 160, 8, (0.3, 0.6, 0.95), 0.15, ("noto",)),
            Phase(0.16, 300, 4, SCALE, 0.15, ("noto",)),
        )
    ),
    "long": Recipe(
        (
            Phase(0.30, 128, 16, (0.25, 0.5, 0.8), 0.5),
            Phase(0.30, 160, 16, (0.3, 0.6, 0.95), 0.8),
            Phase(0.40, 300, 8, SCALE, 1.0),
        )
    ),
}


def scene(phase: Phase, number: int, seed: int) -> tuple[np.ndarray, list[Box]]:
    """The training's picture `number`: uint8 [size, size, 3], and its boxes."""
    rng = np.random.default_rng([seed, number])
    design = phase.designs[rng.integers(len(phase.designs))]
    return images.scene(
        phase.size,
        int(rng.integers(1 << 31)) + _TRAINING_SEEDS,
        most=_MOST,
        design=design,
        variety=float(rng.uniform(0, phase.variety)),
        scale=phase.scale,
    )


def own_scene(voc: VocFolder, phase: Phase, number: int, seed: int) -> tuple[np.ndarray, list[Box]]:
    """A random picture of `voc`, stretched to the phase's size and perhaps mirrored: uint8 [size, size, 3], boxes."""
    rng = np.random.default_rng([seed, number])
    picture, boxes = voc.read(int(rng.integers(len(voc.names))))
    array = np.asarray(picture.resize((phase.size, phase.size), Image.Resampling.BILINEAR))
    if rng.random() < 0.5:
        array = np.ascontiguousarray(array[:, ::-1])
        boxes = [box._replace(x1=1 - box.x2, x2=1 - box.x1) for box in boxes]
    return array, boxes
