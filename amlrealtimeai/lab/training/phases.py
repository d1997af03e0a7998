"""How far a training is, and which of its phases that is: counted by its pictures or by the clock."""

import time
from collections.abc import Sequence
from typing import Protocol, TypeVar


class _Phase(Protocol):
    @property
    def share(self) -> float: ...


AnyPhase = TypeVar("AnyPhase", bound=_Phase)


def phase_at(phases: Sequence[AnyPhase], share: float) -> tuple[AnyPhase, float]:
    """The phase after `share` (0..1) of the training, and the share (0..1) of that phase which is over."""
    begin = 0.0
    for phase in phases[:-1]:
        if share < begin + phase.share:
            return phase, (share - begin) / phase.share
        begin += phase.share
    return phases[-1], min(1.0, (share - begin) / (1 - begin))


class Progress:
    """Pictures and seconds of a training so far, those before an interruption included.

    pictures: how many the training has, or minutes: how many it takes, whichever is given.
    """

    def __init__(self, pictures: int | None = None, minutes: float | None = None) -> None:
        self.pictures, self.minutes = pictures, minutes
        self.images, self.seconds = 0, 0.0
        self._clock = time.monotonic()

    def start(self) -> None:
        """The clock runs from now on."""
        self._clock = time.monotonic()

    def add(self, images: int) -> None:
        """So many pictures more, and the time since the last call."""
        now = time.monotonic()
        self.images, self.seconds, self._clock = self.images + images, self.seconds + now - self._clock, now

    def share_at(self, images: int) -> float:
        """How much is over, 0..1, once `images` pictures are; by the clock, how much is over now."""
        if self.minutes is not None:
            return self.seconds / (60 * self.minutes)
        assert self.pictures is not None
        return images / self.pictures

    @property
    def share(self) -> float:
        """How much is over, 0..1."""
        return self.share_at(self.images)
