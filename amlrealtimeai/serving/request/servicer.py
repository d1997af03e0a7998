"""What all requests of a server share: its models, keys and limits, who is in flight, and who hears of it."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence

from amlrealtimeai.serving.request.admission import Admission
from amlrealtimeai.serving.request.answers import Record, log
from amlrealtimeai.serving.request.auth import StrangersLine, has_key
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.request.request import Request
from amlrealtimeai.serving.request.table import ModelTable

Observer = Callable[[Record], None]


class Servicer:
    """Shared by the ports of a server; every request ends as a Record that the log and the observers get."""

    def __init__(self, table: ModelTable, limits: Limits, keys: Sequence[str] = ()) -> None:
        self.table = table
        self.limits = limits
        self.keys = tuple(keys)
        self.observers: list[Observer] = []
        self.draining = False
        self.admission = Admission(limits)
        self.strangers = StrangersLine(limits.max_strangers_per_second)
        self._unfinished = 0
        self._lock = threading.Lock()

    @property
    def unfinished(self) -> int:
        """Requests from before draining whose answer has not been sent completely."""
        return self._unfinished

    def begin(self) -> bool:
        """Count a request as unfinished, unless it came during draining; `end` ends it."""
        if self.draining:
            return False
        with self._lock:
            self._unfinished += 1
        return True

    def end(self) -> None:
        """The answer of a counted request has been sent, or nobody waits for it."""
        with self._lock:
            self._unfinished -= 1

    def gate_keys(self) -> tuple[str, ...]:
        """One of these has to be sent with every request; none if there is an open model."""
        return self.table.gate_keys(self.keys)

    def keys_of(self, name: str) -> tuple[str, ...]:
        """One of these has to be sent by whoever asks about this name; none: it is open."""
        return self.table.keys_of(name, self.keys)

    def is_stranger(self, metadata: Iterable[tuple[str, str | bytes]]) -> bool:
        """Whether there are keys here and the caller has sent none of them."""
        keys = self.table.all_keys(self.keys)
        return bool(keys) and not has_key(keys, metadata)

    def work_off(self, request: Request | None) -> None:
        """Do the work of a request that has a worker, then that of those who waited for this worker."""
        while request is not None:
            try:
                request.start()
            except Exception:
                log.exception("a request failed unexpectedly; its worker goes on")
            assert request.lane is not None, "who has a worker has its lane"
            request = self.admission.done(request.lane)

    def set_workers(self, service: str, workers: int | None, pooled: bool = False) -> None:
        """Give a service so many workers of its own; None: it shares those of all others."""
        for request in self.admission.set_workers(service, workers, pooled):
            threading.Thread(target=self.work_off, args=(request,), name="amlrealtimeai-worker", daemon=True).start()

    def expire(self) -> None:
        """Answer those who waited too long."""
        for request in self.admission.expired():
            request.too_late()

    def note(self, record: Record) -> None:
        """Tell the log and the observers about an answered request."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s", record, extra={"record": record})
        for observer in self.observers:
            try:
                observer(record)
            except Exception:
                log.exception("an observer failed on request=%s; its client has the answer", record.request_id)
