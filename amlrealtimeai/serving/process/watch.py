"""Several models in one server, controlled by a file: what a cluster's parent process writes, the server serves.

The file is JSON; replace it atomically (write beside it, then rename):

    {"generation": 7,
     "services": {"name": {"model": "/path/name.accelonnx", "version": 2, "keys": ["..."], "replicas": 3}}}

A new or changed service is loaded and warmed up before it takes over; one that fails to load leaves the old one
serving. With "replicas" (a number, or what replicas.scaling.Bounds has) so many of its requests run at once, each in a
process of its own where there can be more than one; without, it shares the server's workers with the others. What
became of it is in GetModelStatus, and in FILE.status, which is replaced when the whole file has been applied, and when
the number of replicas has changed:

    {"generation": 7, "error": "", "services":
     {"name": {"version": 2, "state": "AVAILABLE", "error": "", "wanted": 3, "ready": 3}}}

A version that could not be loaded has the state END, and `served`, the version that goes on in its place, if one does.
`generation` is whatever the file said, so that the writer sees that its change is in effect. Keys make the file secret:
write it readable by its owner only.
"""

import json
import threading
from pathlib import Path
from typing import Any

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import AmlRealtimeAiError, ConfigError
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.replicas.scaler import Scaler
from amlrealtimeai.serving.replicas.scaling import Bounds
from amlrealtimeai.serving.request.answers import log
from amlrealtimeai.serving.server import Server

POLL_SECONDS = 0.1
_FAILED = "this version could not be loaded; the server's log says why"  # for clients: without paths
_Mark = tuple[int, int, int]


class Watcher:
    """Keeps a server's models equal to a file, and its certificate equal to its files, until stopped."""

    def __init__(
        self,
        server: Server,
        path: Path | None,
        threads: int | None = None,
        tls_files: tuple[Path, ...] | None = None,
    ) -> None:
        self._server = server
        self._path = path
        self._threads = threads
        self._tls_files = tls_files
        self._mark = _mark(path) if path else None
        self._tls_marks = [_mark(file) for file in tls_files or ()]
        self._applied: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, tuple[int, str]] = {}  # version and what is wrong with it
        self._marks: dict[int, _Mark | None] = {}  # which state of its file a model was loaded from
        self._scaler = Scaler(server)
        self._status: dict[str, Any] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="amlrealtimeai-watch", daemon=True)

    def start(self) -> None:
        """Apply the file once, then go on watching in a thread."""
        self.apply()
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """Identifies its thread, from `start` on: what is logged there is about its server."""
        return self._thread.ident

    def stop(self, seconds: float | None = None) -> None:
        """Load nothing more, and end the thread; a model that is being loaded is waited for, at most so long."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    @property
    def is_alive(self) -> bool:
        """Whether its thread has not ended yet."""
        return self._thread.is_alive()

    def apply(self) -> None:
        """Make the server's models those of the file, and write FILE.status; an unusable file changes nothing."""
        if self._path is None:
            return
        generation, error = None, ""
        try:
            generation, services = read_services(self._path)
        except ConfigError as problem:
            error = str(problem)
            log.error("%s", error)
        else:
            for name in [name for name in self._applied if name not in services]:
                self._scaler.remove(name)
                self._server.remove_model(name)
                self._errors.pop(name, None)
                del self._applied[name]
            for name, service in services.items():
                if self._stopped.is_set():
                    return
                self._apply_one(name, service)
        self._tell(self._path, {"generation": generation, "error": error, "services": self._states()})

    def _tell(self, path: Path, status: dict[str, Any]) -> None:
        if status != self._status:
            _write_status(path, status)
            self._status = status

    def _apply_one(self, name: str, service: dict[str, Any]) -> None:
        before = self._applied.get(name)
        if before == service:
            self._errors.pop(name, None)  # of a change that was taken back
            return
        version, keys = service.get("version", 1), service.get("keys")
        try:
            self._check_keys(name, version, keys)
            bounds = Bounds.of(service.get("replicas"))
            served = self._server.table.get(name)
            model: ConvertedModel | Pool | None = None
            if before and served and before["model"] == service["model"] and served.version == version:
                model = self._scaler.kept(name, served.model, bounds)
            if model is None:
                self._server.note_loading(name, version, keys)
                model = self._scaler.started(name, Path(service["model"]), self._threads, bounds)
            if model is None:
                model = self._loaded(service["model"]) or self._load(service["model"])
            self._server.add_model(name, model, version, keys)
            self._scaler.follow(name, model, bounds)
            self._applied[name] = service
            self._errors.pop(name, None)
        except Exception as error:  # whatever is wrong with one model, the others go on
            expected = isinstance(error, AmlRealtimeAiError)
            text = str(error)  # a log record that is kept must not keep what the error's frames refer to
            log.error("cannot serve %r version %s: %s", name, version, text, exc_info=None if expected else error)
            self._errors[name] = (version, text if expected else "it failed unexpectedly; see the log")
            self._server.note_failed(name, version, _FAILED, keys)
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

    def _loaded(self, path: str) -> ConvertedModel | None:
        """The model of another service with the very same file; both may use it at once."""
        for name, service in self._applied.items():
            served = self._server.table.get(name)
            if served is None or isinstance(served.model, Pool):
                continue
            if service["model"] == path and self._marks.get(id(served.model)) == _mark(Path(path)):
                return served.model
        return None

    def _load(self, path: str) -> ConvertedModel:
        mark = _mark(Path(path))
        model = ConvertedModel.load(path, self._threads, self._server.limits.max_pixels)
        model.warm_up()
        alive = {id(served.model) for name in self._applied if (served := self._server.table.get(name))}
        self._marks = {key: kept for key, kept in self._marks.items() if key in alive} | {id(model): mark}
        return model

    def _states(self) -> dict[str, dict[str, Any]]:
        states = {}
        for name in self._applied:
            served = self._server.table.get(name)
            if name in self._errors:
                version, text = self._errors[name]
                states[name] = {"version": version, "state": "END", "error": text}
                states[name] |= {"served": served.version} if served else {}
            elif served is not None:
                counts = self._scaler.counts(name)
                states[name] = {"version": served.version, "state": "AVAILABLE", "error": "", **counts}
        return states

    def _run(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self._look()
            except Exception:
                log.exception("watching %s failed; it goes on", self._path)

    def _look(self) -> None:
        if self._path and (mark := _mark(self._path)) != self._mark:
            self._mark = mark
            self.apply()
        self._scaler.look()
        if self._path and self._status:
            self._tell(self._path, {**self._status, "services": self._states()})
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
