"""How many replicas a service should have: as Azure's autoscaler decided, eager to add and slow to remove."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.errors import ConfigError

DEFAULT_TARGET = 70
DEFAULT_SECONDS = 1.0
QUIET_LOOKS = 60
"""So many looks in a row have to find fewer replicas enough before there are fewer."""


@dataclass(frozen=True)
class Bounds:
    """At least `least` and at most `most` replicas, about `target` percent of them busy; a look every `seconds`."""

    least: int
    most: int
    target: float = DEFAULT_TARGET
    seconds: float = DEFAULT_SECONDS

    @classmethod
    def of(cls, value: Any) -> "Bounds | None":
        """From the "replicas" of a watched file: a number, or an object with these names; None: nothing was said."""
        if value is None:
            return None
        try:
            bounds = cls(value, value) if isinstance(value, int) else cls(**value)
            if not (1 <= bounds.least <= bounds.most and 0 < bounds.target <= 100 and bounds.seconds > 0):
                raise ValueError
        except (TypeError, ValueError):
            expected = '{"least": 1, "most": 3, "target": 70, "seconds": 1}'
            raise ConfigError(f"replicas: expected a number of at least 1, or {expected}; got {value!r:.200}") from None
        return bounds

    def clipped(self, count: int) -> int:
        """The nearest number of replicas that it may have."""
        return min(self.most, max(self.least, count))


class Looks:
    """What the looks at one service found."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._found: deque[int] = deque(maxlen=QUIET_LOOKS)
        self._next = 0.0

    def wanted(self, in_flight: int, now: float) -> int:
        """Replicas for what is in flight; the most that any of the last looks found. now: seconds, monotonic."""
        bounds = self.bounds
        if now >= self._next:
            self._next = now + bounds.seconds
            self._found.append(math.ceil(100 * in_flight / bounds.target))
        return bounds.clipped(max(self._found))
