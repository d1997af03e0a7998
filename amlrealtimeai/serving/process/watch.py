"""Several models in one server, controlled by a file: what a cluster's parent process writes, the server serves.

The file is JSON; replace it atomically (write beside it, then rename):

    {"generation": 7,
     "services": {"name": {"model": "/path/name.accelonnx", "version": 2, "keys": ["..."], "replicas": 3}}}

A new or changed service is loaded and warmed up before it takes over, each in its own time; one that fails to load
leaves the old one serving. Keys that are asked for are in force at once. With "replicas" (a number, or what
replicas.scaling.Bounds has) so many of its requests run at once, each in a process of its own where there can be more
than one; without, it shares the server's workers with the others. What became of it is in GetModelStatus, and in
FILE.status, which is replaced whenever something in it has changed:

    {"generation": 7, "seen": 7, "error": "", "services":
     {"name": {"version": 2, "state": "AVAILABLE", "error": "", "wanted": 3, "ready": 3}}}

A version that is being loaded has the state LOADING, one that could not be loaded END; both have `served`, the version
that goes on in its place, if one does. `seen` is whatever the file said when it was last read; `generation` is the same
when the whole file is in effect, but for what has been loading for PATIENCE_SECONDS. Keys make the file secret: write
it readable by its owner only.
"""

import json
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.artifact.watch import Check
from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.process.load import Load, Wanted
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.replicas.scaler import Scaler, Work
from amlrealtimeai.serving.replicas.scaling import Bounds
from amlrealtimeai.serving.request.answers import log
from amlrealtimeai.serving.server import Server

POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
_GIVEN_UP = "given up: the service has been changed meanwhile"
_FAILED = "this version could not be loaded; the server's log says why"  # for clients: without paths
_Mark = tuple[int, int, int]


class Watcher:
    """Keeps a server's models equal to a file, and its certificate equal to its files, until `stopped` is set."""

    def __init__(
        self,
        server: Server,
        path: Path | None,
        threads: int | None = None,
        tls_files: tuple[Path, ...] | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self._server = server
        self._path = path
        self._threads = threads
        self._tls_files = tls_files
        self._mark = _mark(path) if path else None
        self._tls_marks = [_mark(file) for file in tls_files or ()]
        self._applied: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, tuple[int, str]] = {}  # version and what is wrong with it
        self._loads: dict[str, Load] = {}
        self._begun: weakref.WeakSet[Load] = weakref.WeakSet()
        self._one_at_a_time = threading.Lock()
        self._models: weakref.WeakValueDictionary[tuple[str, _Mark | None], ConvertedModel]
        self._models = weakref.WeakValueDictionary()  # by the state of the file that each was loaded from
        self._scaler = Scaler(server)
        self._seen: Any = None
        self._generation: Any = None
        self._error = ""
        self._status: dict[str, Any] = {}
        self._stopped = stopped or threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="amlrealtimeai-watch", daemon=True)

    def start(self) -> None:
        """Apply the file once, wait a while for what it asks for, then go on watching in a thread."""
        self.apply()
        ends = time.monotonic() + PATIENCE_SECONDS
        while self._loads and not self._stopped.is_set() and time.monotonic() < ends:
            self._pause()
            self._report()
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """Identifies its thread, from `start` on: what is logged there is about its server."""
        return self._thread.ident

    def stop(self, seconds: float | None = None) -> None:
        """Load nothing more, and end the threads; a model that is being loaded is waited for, at most so long."""
        self._stopped.set()
        self._woken.set()
        for load in list(self._begun):
            load.give_up()
        ends = None if seconds is None else time.monotonic() + seconds
        for thread in (self._thread, *self._begun):
            if thread.is_alive():
                thread.join(None if ends is None else max(0.0, ends - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Whether one of its threads has not ended yet."""
        return self._thread.is_alive() or any(load.is_alive() for load in list(self._begun))

    def apply(self) -> None:
        """Begin to make the server's models those of the file; an unusable file changes nothing."""
        if self._path is None:
            return
        try:
            self._seen, services = read_services(self._path)
            self._error = ""
        except ConfigError as problem:
            self._seen, self._error = None, str(problem)
            log.error("%s", problem)
        else:
            for name in {*self._applied, *self._loads} - services.keys():
                self._remove(name)
            for name, entry in services.items():
                if self._stopped.is_set():
                    return
                self._apply_one(name, entry)
        self._report()

    def _remove(self, name: str) -> None:
        if load := self._loads.pop(name, None):
            load.give_up()
        self._scaler.remove(name)
        self._server.remove_model(name)
        self._errors.pop(name, None)
        self._applied.pop(name, None)

    def _apply_one(self, name: str, entry: dict[str, Any]) -> None:
        before = self._loads.get(name)
        if before is not None and before.wanted.entry == entry:
            return
        if before is not None:
            del self._loads[name]
            before.give_up()
            self._server.note_failed(name, before.wanted.version, _GIVEN_UP, before.wanted.entry.get("keys"))
        if self._applied.get(name) == entry:
            self._errors.pop(name, None)  # of a change that was taken back
            return
        try:
            self._load(name, entry, before)
        except Exception as error:  # whatever is wrong with one model, the others go on
            self._note_failed(name, entry, error)

    def _load(self, name: str, entry: dict[str, Any], before: Load | None) -> None:
        """Begin to load what the file says of a service. before: what was begun for it, and given up."""
        version, keys = entry.get("version", 1), entry.get("keys")
        self._check_keys(name, version, keys)
        bounds = Bounds.of(entry.get("replicas"))
        self._ask_for(name, keys)
        kept = self._kept(name, entry, bounds)
        work: Work | None
        if kept is None:
            self._server.note_loading(name, version, keys)
            work = self._scaler.start(name, Path(entry["model"]), self._threads, bounds)
        else:
            work = self._scaler.growth(kept, bounds)
        after = before if before is not None and before.wanted.grows else None
        wanted = Wanted(entry, bounds, grows=isinstance(kept, Pool))
        load = Load(wanted, work or partial(self._loaded, entry["model"]), self._woken.set, after)
        self._loads[name] = load
        self._begun.add(load)
        if work is None and not self._thread.is_alive():
            load.run()  # who is told to end while it starts must not leave native code behind in a thread
        else:
            load.start()

    def _ask_for(self, name: str, keys: list[str] | None) -> None:
        """Let a service have its new keys now, whatever else has to be loaded; never open it before."""
        served, applied = self._server.table.get(name), self._applied.get(name)
        if served and applied and keys and tuple(keys) != served.keys:
            self._server.add_model(name, served.model, served.version, keys)
            self._applied[name] = {**applied, "keys": keys}

    def _kept(self, name: str, entry: dict[str, Any], bounds: Bounds | None) -> ConvertedModel | Pool | None:
        """The model that is served, if the file asks for the same."""
        served, applied = self._server.table.get(name), self._applied.get(name)
        if not served or not applied or applied["model"] != entry["model"] or served.version != entry.get("version", 1):
            return None
        return served.model if self._scaler.keeps(served.model, bounds) else None

    def _take_over(self) -> None:
        """Serve what has been loaded."""
        for name, load in [(name, load) for name, load in self._loads.items() if load.has_ended]:
            if self._stopped.is_set():
                return
            del self._loads[name]
            wanted = load.wanted
            try:
                model = load.take()
                self._server.add_model(name, model, wanted.version, wanted.entry.get("keys"))
                self._scaler.follow(name, model, wanted.bounds)
                self._applied[name] = wanted.entry
                self._errors.pop(name, None)
            except Exception as error:
                self._note_failed(name, wanted.entry, error)

    def _note_failed(self, name: str, entry: dict[str, Any], error: Exception) -> None:
        version = entry.get("version", 1)
        expected = isinstance(error, AmlRealtimeAiError)
        text = str(error)  # a log record that is kept must not keep what the error's frames refer to
        log.error("cannot serve %r version %s: %s", name, version, text, exc_info=None if expected else error)
        self._errors[name] = (version, text if expected else "it failed unexpectedly; see the log")
        self._server.note_failed(name, version, _FAILED, entry.get("keys"))
        self._applied.setdefault(name, {"model": None})

    def _check_keys(self, name: str, version: int, keys: Any) -> None:
        """Raise ConfigError for keys that cannot be asked for; what is served without them is closed, not left open."""
        try:
            self._server.check_keys(keys)
        except ConfigError:
            self._scaler.remove(name)
            self._server.close_model(name, version, _FAILED)
            self._applied[name] = {"model": None}
            raise

    def _loaded(self, path: str, check: Check) -> ConvertedModel:
        """The model of a file; services with the very same file share it."""
        with self._one_at_a_time:
            check()
            key = path, _mark(Path(path))
            model = self._models.get(key)
            if model is None:
                model = ConvertedModel.load(path, self._threads, self._server.limits.max_pixels)
                model.warm_up()
                self._models[key] = model
            return model

    def _report(self) -> None:
        """Take over what has been loaded, and say how things are."""
        self._take_over()
        if self._path is None:
            return
        if not any(load.seconds < PATIENCE_SECONDS for load in self._loads.values()):
            self._generation = self._seen
        status = {"generation": self._generation, "seen": self._seen, "error": self._error, "services": self._states()}
        if status != self._status:
            _write_status(self._path, status)
            self._status = status

    def _states(self) -> dict[str, dict[str, Any]]:
        states = {}
        for name in {**self._applied, **self._loads}:
            served, load, counts = self._server.table.get(name), self._loads.get(name), self._scaler.counts(name)
            if load is not None:
                states[name] = {"version": load.wanted.version, "state": "LOADING", "error": ""}
                states[name] |= {"served": served.version} if served else {}
                states[name] |= {"ready": counts["ready"]} if counts else {}
            elif name in self._errors:
                version, text = self._errors[name]
                states[name] = {"version": version, "state": "END", "error": text}
                states[name] |= {"served": served.version} if served else {}
            elif served is not None:
                states[name] = {"version": served.version, "state": "AVAILABLE", "error": "", **counts}
        return states

    def _pause(self) -> None:
        """Until it is time to look again, or a load has ended."""
        self._woken.wait(POLL_SECONDS)
        self._woken.clear()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._pause()
            try:
                self._look()
            except Exception:
                log.exception("watching %s failed; it goes on", self._path)

    def _look(self) -> None:
        if self._path and (mark := _mark(self._path)) != self._mark:
            self._mark = mark
            self.apply()
        self._report()
        self._scaler.look(growing=[name for name, load in self._loads.items() if load.wanted.grows])
        marks = [_mark(file) for file in self._tls_files or ()]
        if marks != self._tls_marks and self._tls_files:
            self._tls_marks = marks
            try:
                self._server.replace_tls(Tls.from_files(*self._tls_files))
                log.info("the TLS certificate was replaced")
            except AmlRealtimeAiError as error:  # half of a pair has been written so far, or it is wrong
                log.warning("the old TLS certificate stays: %s", error)


def _mark(path: Path) -> _Mark | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read_services(path: Path) -> tuple[Any, dict[str, dict[str, Any]]]:
    """A watch file's generation and its services; raises ConfigError for a file that cannot be used."""
    try:
        content = json.loads(path.read_bytes())
        services = content["services"]
        for service in services.values():
            if not isinstance(service["model"], str) or not isinstance(service.get("version", 1), int):
                raise TypeError("expected a path as model and a number as version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else repr(error)
        raise ConfigError(
            f'cannot use {path}: {why}; expected {{"services": {{name: {{"model": path, "version": 1}}}}}}'
        ) from None
    return content.get("generation"), services


def _write_status(path: Path, status: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".status.tmp")
    temporary.write_text(json.dumps(status))
    temporary.replace(path.with_name(path.name + ".status"))
