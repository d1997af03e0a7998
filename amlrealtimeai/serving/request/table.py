"""Which models a server has: routing by name, and the state of every version."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.serving.protocol.headers import ROUTE_HEADER, ROUTE_PREFIX
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.answers import RequestError

# ModelVersionStatus.State
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50


@dataclass(frozen=True)
class Served:
    """One model under its name; a request keeps the one it found, so that a replaced one finishes its work."""

    name: str
    version: int
    model: ConvertedModel | Pool
    keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Served({self.name!r}, version={self.version}, keys={len(self.keys)})"


class ModelTable:
    """Models by name, one version of each at a time; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served: dict[str, Served] = {}
        self._states: dict[str, dict[int, tuple[int, str]]] = {}
        self._noted_keys: dict[str, tuple[str, ...]] = {}  # of what is loading or failed to load

    def put(self, served: Served) -> None:
        """Serve this version from now on; the previous one ends when its requests have finished."""
        with self._lock:
            states = self._states.setdefault(served.name, {})
            for version in states:
                if version != served.version and states[version][0] == AVAILABLE:
                    states[version] = (END, "")
            states[served.version] = (AVAILABLE, "")
            self._served[served.name] = served
            self._noted_keys.pop(served.name, None)

    def remove(self, name: str) -> bool:
        """Forget a model; False when there is none of this name."""
        with self._lock:
            self._states.pop(name, None)
            self._noted_keys.pop(name, None)
            return self._served.pop(name, None) is not None

    def note(self, name: str, version: int, state: int, text: str = "", keys: tuple[str, ...] = ()) -> None:
        """Record that a version is loading, or that it failed and why; the served version stays.

        keys: who may ask about it, as long as no version is served.
        """
        with self._lock:
            served = self._served.get(name)
            if served is None or served.version != version:
                self._states.setdefault(name, {})[version] = (state, text)
            if served is None:
                self._noted_keys[name] = keys

    def close(self, name: str, version: int, text: str) -> None:
        """Serve a model no longer, and say why."""
        with self._lock:
            self._served.pop(name, None)
            self._states[name] = {version: (END, text)}

    def end_replicas(self) -> None:
        """End the processes of models that have several; nobody asks them any more."""
        with self._lock:
            models = [served.model for served in self._served.values()]
        for model in models:
            if isinstance(model, Pool):
                model.end()

    def names(self) -> list[str]:
        """The names that are served."""
        with self._lock:
            return list(self._served)

    def get(self, name: str) -> Served | None:
        """The served model of this name."""
        with self._lock:
            return self._served.get(name)

    def gate_keys(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """Every key that opens some model, or none if some model is open: who has none of them need not wait."""
        with self._lock:
            own = [served.keys or default for served in self._served.values()]
        if not own:
            return default
        return tuple(key for keys in own for key in keys) if all(own) else ()

    def all_keys(self, default: tuple[str, ...]) -> tuple[str, ...]:
        """Every key that opens something here."""
        with self._lock:
            own = [*(served.keys for served in self._served.values()), *self._noted_keys.values(), default]
        return tuple(dict.fromkeys(key for keys in own for key in keys))

    def keys_of(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Who may ask about this name. A name that is unknown here needs a key, too, if any name does."""
        with self._lock:
            served = self._served.get(name)
            keys = served.keys if served else self._noted_keys.get(name)
        return self.all_keys(default) if keys is None else keys or default

    def states(self, name: str) -> dict[int, tuple[int, str]]:
        """State and error text of every known version, newest first."""
        with self._lock:
            return dict(sorted(self._states.get(name, {}).items(), reverse=True))

    def name_of(self, spec: Any, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Whom a request is for: the route header, else model_spec.name, else the only model.

        Old clients always send the header, with any name or none: where there is only one model, it is for that one
        unless model_spec says otherwise.
        """
        names = self.names()
        routed = _routed(metadata)
        if routed and (routed in names or len(names) > 1):
            return routed
        if spec.name:
            return str(spec.name)
        if len(names) == 1:
            return names[0]
        if routed:
            return routed
        if not names:
            raise RequestError(grpc.StatusCode.NOT_FOUND, "Servable not found for request: this server has no model")
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"this server has {len(names)} models: say which one, in model_spec.name or as service_name of the client",
        )

    def find(self, name: str, spec: Any) -> Served:
        """The model, in the version that is asked for, or RequestError in TensorFlow Serving's words."""
        check_label(spec)
        served = self.get(name)
        specific = spec.HasField("version")
        if served is None and any(state == LOADING for state, _ in self.states(name).values()):
            text = f"{name:.100} is being loaded; try again a little later"
            raise RequestError(grpc.StatusCode.UNAVAILABLE, text)
        if served is None or (specific and spec.version.value != served.version):
            wanted = f"Specific({name:.100}, {spec.version.value})" if specific else f"Latest({name:.100})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return served


def check_label(spec: Any) -> None:
    """Raise RequestError for a ModelSpec that asks for a label, in TensorFlow Serving's words."""
    if spec.WhichOneof("version_choice") == "version_label":
        raise RequestError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"Unrecognized servable version label: {spec.version_label:.100}. Versions here have no labels.",
        )


def _routed(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    for key, value in metadata:
        if key == ROUTE_HEADER:
            text = value if isinstance(value, str) else value.decode("latin-1")
            return text.removeprefix(ROUTE_PREFIX).strip("/").split("/")[0]
    return ""
