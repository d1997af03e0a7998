"""Keeps the replicas of a server's services at what their bounds and their load ask for."""

import os
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.watch import Check
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.replicas.scaling import Bounds, Looks
from amlrealtimeai.serving.request.answers import log

if TYPE_CHECKING:
    from amlrealtimeai.serving.server import Server


Work = Callable[[Check], ConvertedModel | Pool]
"""Gives a model; `check` is called now and then, and raises when nobody wants it any more."""


class Scaler:
    """The services of one server whose replicas are counted; for the one thread that follows the server's file."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._looks: dict[str, Looks] = {}
        self._pools: dict[str, Pool] = {}

    def keeps(self, model: ConvertedModel | Pool, bounds: Bounds | None) -> bool:
        """Whether a model stays as it is served, or grows, when a service gets these bounds."""
        return isinstance(model, Pool) == _needs_pool(bounds)

    def growth(self, model: ConvertedModel | Pool, bounds: Bounds | None) -> Callable[[Check], ConvertedModel | Pool]:
        """What gives a kept model as many replicas as the bounds ask for at least, if it has any."""

        def grow(check: Check) -> ConvertedModel | Pool:
            if isinstance(model, Pool):
                assert bounds is not None
                model.grow(bounds.clipped(model.wanted), check)
            return model

        return grow

    def start(self, name: str, path: Path, threads: int | None, bounds: Bounds | None) -> Work | None:
        """What starts warm replicas for a service that may have several, as many as it has now; None for others."""
        if bounds is None or not _needs_pool(bounds):
            return None
        limits, before = self._server.limits, self._pools.get(name)
        count = bounds.clipped(before.wanted if before else 1)
        return partial(Pool, path, count, threads, limits.max_pixels)

    def follow(self, name: str, model: ConvertedModel | Pool, bounds: Bounds | None) -> None:
        """From here on a service has this model and these bounds."""
        self._pools.pop(name, None)
        if isinstance(model, Pool):
            self._pools[name] = model
        if bounds is None:
            self.remove(name)
            return
        self._looks.setdefault(name, Looks(bounds)).bounds = bounds
        self._tell(name, bounds)

    def remove(self, name: str) -> None:
        """Forget a service; its pool ends with the last request that has it."""
        self._pools.pop(name, None)
        self._looks.pop(name, None)
        self._server.set_workers(name, None)

    def look(self, growing: Collection[str] = ()) -> None:
        """To be called often. growing: services whose pool is being given another size."""
        now = time.monotonic()
        for name, pool in self._pools.items():
            in_flight = self._server.in_flight_of(name)
            wanted = self._looks[name].wanted(in_flight, now)
            if wanted != pool.wanted and name not in growing:
                log.info("serving %r with %d replicas, not %d: %d in flight", name, wanted, pool.wanted, in_flight)
                pool.wanted = wanted
            pool.look()
            self._tell(name, self._looks[name].bounds)

    def counts(self, name: str) -> dict[str, int]:
        """{"wanted": ..., "ready": ...} of a service whose replicas are counted."""
        if name not in self._looks:
            return {}
        pool, least = self._pools.get(name), self._looks[name].bounds.least
        return {"wanted": pool.wanted if pool else least, "ready": pool.ready if pool else least}

    def _tell(self, name: str, bounds: Bounds) -> None:
        """Let as many requests run at once as there are replicas; at least one, which waits while a dead one is
        replaced.
        """
        pool = self._pools.get(name)
        if pool is None:
            self._server.set_workers(name, bounds.least)
        else:
            self._server.set_workers(name, max(1, min(pool.ready, pool.wanted)), pooled=True)


def _needs_pool(bounds: Bounds | None) -> bool:
    """Whether a service has processes of its own. On Windows, whose sockets no child inherits, it has threads."""
    return bounds is not None and bounds.most > 1 and os.name != "nt"
