"""The server: TensorFlow Serving's gRPC services, health and reflection on one port, REST and probes on two others."""

import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import ConfigError, DeploymentError
from amlrealtimeai.serving.ports.address import address_of
from amlrealtimeai.serving.ports.connections import Crowd, Listener
from amlrealtimeai.serving.ports.grpc_port import GrpcPort
from amlrealtimeai.serving.ports.standing import Health, Reflection, Standing
from amlrealtimeai.serving.ports.tls import Credentials, Tls
from amlrealtimeai.serving.replicas.pool import Pool
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.request.servicer import Observer, Servicer
from amlrealtimeai.serving.request.table import END, LOADING, ModelTable, Served

if TYPE_CHECKING:
    from amlrealtimeai.serving.ports.http_port import HttpPort
    from amlrealtimeai.serving.ports.rest import RestApi

log = logging.getLogger("amlrealtimeai.serving")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_IDLE_SECONDS = 0.1  # long enough for a request that was accepted to have reached its thread
_SILENT_SECONDS = 5.0  # in which no polling thread has run: far beyond what a busy machine does
_LAST_SECONDS = 0.1  # for answers that are on their way when the port is closed


class Server:
    """Serves converted models by name.

    host, port     where to listen; port 0 takes a free one, which `port` then says
    tls            certificate and key; without it everything is plain text, so keys are refused (ConfigError)
    keys           any of these opens every model that has no keys of its own; none: open to everyone who can connect
    limits         see Limits
    rest_port      also answer TensorFlow Serving's REST API, /metrics and /healthz there; port 0 takes a free one
    plain_keys     take keys without TLS, too, on this computer's loopback address (old code asks for that)
    shared_port    another server may have the same port, too: the one that replaces this one, or is replaced
    admin_port     also answer /livez, /readyz and /metrics there, without TLS and keys, on admin_host (this computer)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        keys: Sequence[str] | None = None,
        limits: Limits | None = None,
        rest_port: int | None = None,
        admin_port: int | None = None,
        admin_host: str = "127.0.0.1",
        plain_keys: bool = False,
        shared_port: bool = False,
    ) -> None:
        self.host = host
        self._shared_port = shared_port
        self._plain_keys = plain_keys and host in _LOOPBACK
        self.limits = limits or Limits()
        self.table = ModelTable()
        self._wanted = (port, rest_port, admin_port)
        self._admin_host = admin_host
        self._tls = tls
        self._credentials = Credentials(tls) if tls else None
        self._servicer = Servicer(self.table, self.limits, self._checked_keys(keys))
        self._port: int | None = None
        self._grpc: GrpcPort | None = None
        self._rest: HttpPort | None = None
        self._api: RestApi | None = None
        self._admin: HttpPort | None = None
        self._listener = Listener()
        self._stopped = False
        self._lock = threading.Lock()

    def start(self) -> "Server":
        """Listen and answer; raises DeploymentError, saying who has the port if it is taken; all are free then."""
        if self._port is not None:
            raise DeploymentError(f"this server was started already, on {self.address}")
        self._bind()
        if self.host not in _LOOPBACK and self._credentials is None:
            log.warning("serving on %s without TLS: anyone who reaches this computer can call and read", self.address)
        return self

    def _bind(self) -> None:
        port, rest_port, admin_port = self._wanted
        servicer, limits = self._servicer, self.limits
        try:
            if rest_port is not None or admin_port is not None:
                self._open_http(rest_port, admin_port)
            standing = Standing(limits.max_standing_streams)
            self._health = Health(servicer, standing, lambda: self.answers and not servicer.draining)
            self._grpc = GrpcPort(
                servicer, self._health.methods | Reflection(servicer, standing).methods, self._shared_port
            )
            with self._listener:
                bound = self._grpc.bind(self.host, port, self._credentials.grpc if self._credentials else None)
            self._listener.keep(bound)
        except BaseException:
            for http in filter(None, (self._rest, self._admin)):
                http.stop()
            self._rest = self._admin = self._grpc = None
            raise
        self._port = bound
        self._crowd = Crowd(self._listener, limits.max_connections)
        self._grpc.on_look, self._grpc.on_admitted = self._look, self._crowd.know
        self._grpc.start()
        for http in filter(None, (self._rest, self._admin)):
            http.start()

    def _open_http(self, rest_port: int | None, admin_port: int | None) -> None:
        # Here: h11 and Prometheus's client take a tenth of a second to load, for which only these ports wait.
        from amlrealtimeai.serving.ports.http_port import HttpPort
        from amlrealtimeai.serving.ports.pages import Admin, admin_pages, public_pages
        from amlrealtimeai.serving.ports.rest import RestApi
        from amlrealtimeai.serving.request.metrics import Metrics

        metrics = Metrics(self._servicer)
        if rest_port is not None:
            self._api = RestApi(self._servicer, public_pages(self, self._servicer, metrics))
            context = None if self._tls is None else self._tls.context()
            self._rest = HttpPort(self._api.handle, self.limits, self.host, rest_port, context, self._api.pause)
        if admin_port is not None:
            admin = Admin(admin_pages(self, metrics))
            self._admin = HttpPort(admin.handle, self.limits, self._admin_host, admin_port)

    def stop(self, grace: float = 5.0) -> None:
        """Turn health to NOT_SERVING, let requests in flight finish for at most `grace` seconds, and close the port."""
        with self._lock:
            if self._grpc is None or self._stopped:
                return
            self._stopped = True
        self._servicer.draining = True
        self._health.tell()
        end = time.monotonic() + grace
        self._wait_until_idle(end)
        if self._rest is not None and self._api is not None:
            self._rest.stop()
            self._api.close()
        self._listener.close()
        self._grpc.stop(max(0.0, min(end - time.monotonic(), _LAST_SECONDS)))
        self.table.end_replicas()
        if self._admin is not None:
            self._admin.stop()

    def _look(self) -> None:
        """Several times a second."""
        self._health.tell()
        if self.table.all_keys(self._servicer.keys):
            self._crowd.look()

    def _wait_until_idle(self, end: float) -> None:
        """Until no request has been unfinished for a moment, or until `end`; new ones are refused meanwhile."""
        idle_since = time.monotonic()
        while time.monotonic() < end and time.monotonic() - idle_since < _IDLE_SECONDS:
            if self._servicer.unfinished:
                idle_since = time.monotonic()
            time.sleep(0.005)

    @property
    def port(self) -> int:
        """The port that was bound."""
        if self._port is None:
            raise DeploymentError("this server has no port yet; call start() first")
        return self._port

    @property
    def rest_port(self) -> int | None:
        """The port of the REST API, if there is one."""
        return self._rest.port if self._rest else None

    @property
    def admin_port(self) -> int | None:
        """The port of the probes, if there is one."""
        return self._admin.port if self._admin else None

    @property
    def address(self) -> str:
        """host:port"""
        return address_of(self.host, self.port)

    @property
    def secure(self) -> bool:
        """Whether clients have to use TLS."""
        return self._credentials is not None

    @property
    def answers(self) -> bool:
        """Whether the threads that answer Predict move: they poll, and some worker ends its request in time."""
        polls = self._grpc is None or self._grpc.silent_seconds < _SILENT_SECONDS
        return polls and self._servicer.admission.stuck_seconds < self.limits.max_seconds

    @property
    def draining(self) -> bool:
        """Whether it has been told to stop."""
        return self._servicer.draining

    def add_model(
        self, name: str, model: ConvertedModel | Pool, version: int = 1, keys: Sequence[str] | None = None
    ) -> None:
        """Serve `model` as `name`, in place of what had that name before; its requests in flight finish undisturbed.

        keys: any of these opens this model (only with TLS). Load and warm up the model before.
        """
        if not name or "/" in name:
            raise ConfigError(f"expected a service name without '/', got {name!r}")
        self.table.put(Served(name, version, model, self._checked_keys(keys)))
        log.info("serving %r version %d", name, version)

    def remove_model(self, name: str) -> bool:
        """Serve it no longer; its requests in flight finish. False when there is none of this name."""
        return self.table.remove(name)

    def set_workers(self, name: str, workers: int | None, pooled: bool = False) -> None:
        """Let so many requests for this name run at once; None: it shares the server's workers with all others.

        pooled: each in a process of its own.
        """
        self._servicer.set_workers(name, workers, pooled)
        count = self._servicer.admission.worker_count
        if self._grpc is not None:
            self._grpc.allow(count)
        if self._api is not None:
            self._api.allow(count)

    def in_flight_of(self, name: str) -> int:
        """Requests for a name with workers of its own that run or wait."""
        return self._servicer.admission.in_flight_of(name)

    def note_loading(self, name: str, version: int, keys: Sequence[str] | None = None) -> None:
        """Let GetModelStatus say that this version is being loaded, to whoever has one of the keys."""
        self.table.note(name, version, LOADING, keys=self._askable(keys))

    def note_failed(self, name: str, version: int, reason: str, keys: Sequence[str] | None = None) -> None:
        """Let GetModelStatus say that this version failed to load, and why; the old one goes on."""
        self.table.note(name, version, END, reason, self._askable(keys))

    def close_model(self, name: str, version: int, reason: str) -> None:
        """Serve it no longer, and let GetModelStatus say why: its keys cannot be asked for, so nobody may call it."""
        self.table.close(name, version, reason)

    def replace_tls(self, tls: Tls) -> None:
        """Use this certificate, and this CA for clients, for new connections; the open ones stay."""
        if self._credentials is None:
            raise ConfigError("this server was started without TLS; start another with tls=")
        self._credentials.replace(tls)
        self._tls = tls
        if self._rest is not None:
            self._rest.tls = tls.context()

    def add_observer(self, observer: Observer) -> None:
        """Call `observer(record)` after every request, in the request's thread: metrics, logs, tests."""
        self._servicer.observers.append(observer)

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        where = self.address if self._port else f"{self.host}, not started"
        return f"Server({where}, tls={self.secure}, models={self.table.names()})"

    def check_keys(self, keys: Sequence[str] | None) -> None:
        """Raise ConfigError for keys that this server cannot ask for."""
        self._checked_keys(keys)

    def _askable(self, keys: Sequence[str] | None) -> tuple[str, ...]:
        """The keys, where they may be asked for: nobody should be led to send one in plain text."""
        return tuple(keys or ()) if self.secure or self._plain_keys else ()

    def _checked_keys(self, keys: Sequence[str] | None) -> tuple[str, ...]:
        if keys is not None and not isinstance(keys, list | tuple):  # false or 0 would open the service to everyone
            raise ConfigError(f"expected a list of keys, got {type(keys).__name__}")
        checked = tuple(keys or ())
        if any(not isinstance(key, str) or not key.strip() for key in checked):
            raise ConfigError("expected keys to be non-empty strings; an empty one would open the service to everyone")
        if checked and self._credentials is None and not self._plain_keys:
            raise ConfigError(
                "keys need TLS: without it everyone on the way can read them. "
                "Give a certificate and key (tls=), or serve without keys"
            )
        return checked
