"""A model on its way into a server, in a thread of its own: one that hangs holds up no other."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.replicas.replica import UnwantedError
from amlrealtimeai.serving.replicas.scaler import Work
from amlrealtimeai.serving.replicas.scaling import Bounds


@dataclass(frozen=True)
class Wanted:
    """What a watched file says of one service. entry: its words; grows: the pool that is served gets another size."""

    entry: dict[str, Any]
    bounds: Bounds | None
    grows: bool

    @property
    def version(self) -> int:
        """The service's version."""
        version: int = self.entry.get("version", 1)
        return version


class Load(threading.Thread):
    """work(check) gives the model; `check` raises UnwantedError once the load has been given up.

    on_end is called in the load's thread. after: another load, which has to end first.
    """

    def __init__(
        self,
        wanted: Wanted,
        work: Work,
        on_end: Callable[[], None],
        after: "Load | None" = None,
    ) -> None:
        super().__init__(name="amlrealtimeai-load", daemon=True)
        self.wanted = wanted
        self.has_ended = False
        self._work = work
        self._on_end = on_end
        self._after = after
        self._begun = time.monotonic()
        self._given_up = threading.Event()
        self._model: ConvertedModel | Pool | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """Load in the thread that calls."""
        try:
            if self._after is not None:
                self._after.join()
            self._model = self._work(self._check)
        except Exception as error:
            self._error = error
        self._after = None
        self.has_ended = True
        self._on_end()

    def take(self) -> ConvertedModel | Pool:
        """The model, once; raises what loading it has raised."""
        model, error = self._model, self._error
        self._model = self._error = None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its frames refer to this one
        assert model is not None, "it has ended without an error"
        return model

    def give_up(self) -> None:
        """Nobody wants the model any more."""
        self._given_up.set()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begun

    def _check(self) -> None:
        if self._given_up.is_set():
            raise UnwantedError
