"""The gRPC server: TensorFlow Serving's services, health and reflection on one port."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from amlrealtimeai.artifact.converted import ConvertedModel
from amlrealtimeai.errors import ConfigError, DeploymentError
from amlrealtimeai.serving.ports.address import address_of, bind_error
from amlrealtimeai.serving.ports.connections import close_port
from amlrealtimeai.serving.ports.fastpath import FastPredict
from amlrealtimeai.serving.ports.handlers import handlers
from amlrealtimeai.serving.ports.rest import RestServer
from amlrealtimeai.serving.ports.tls import Credentials, Tls
from amlrealtimeai.serving.protocol import protos
from amlrealtimeai.serving.request.limits import Limits
from amlrealtimeai.serving.request.metrics import Metrics
from amlrealtimeai.serving.request.servicer import Observer, Servicer
from amlrealtimeai.serving.request.table import END, LOADING, ModelTable, Served

log = logging.getLogger("amlrealtimeai.serving")

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SPARE_THREADS = 8  # beside those of the requests in flight: refusals, health and metadata are quick
_IDLE_SECONDS = 0.1  # long enough for a request that was accepted to have reached its thread
_SILENT_SECONDS = 5.0  # in which no polling thread has run: far beyond what a busy machine does
_LAST_SECONDS = 0.1  # for answers that are on their way when the port is closed
_HEALTH_NAMES = ("", protos.PREDICTION_SERVICE, protos.MODEL_SERVICE)


class Server:
    """Serves converted models by name.

    host, port     where to listen; port 0 takes a free one, which `port` then says
    tls            certificate and key; without it everything is plain text, so keys are refused (ConfigError)
    keys           any of these opens every model that has no keys of its own; none: open to everyone who can connect
    limits         see Limits
    rest_port      also answer TensorFlow Serving's REST API, /metrics and /healthz there; port 0 takes a free one
    fast           False: serve Predict by grpc.server alone, as everything else (see fastpath.py)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: Tls | None = None,
        keys: Sequence[str] | None = None,
        limits: Limits | None = None,
        fast: bool = True,
        rest_port: int | None = None,
    ) -> None:
        self.host = host
        self.limits = limits or Limits()
        self.table = ModelTable()
        self._wanted_port = port
        self._port: int | None = None
        self._credentials = Credentials(tls) if tls else None
        self._servicer = Servicer(self.table, self.limits, self._checked_keys(keys))
        self._threads: ThreadPoolExecutor | None = None
        self._grpc: Any = None
        self._fast: FastPredict | None = None
        self._fast_wanted = fast
        self._tls = tls
        self._wanted_rest = rest_port
        self._rest: RestServer | None = None
        self._health: Any = None

    def start(self) -> "Server":
        """Listen and answer; raises DeploymentError, saying who has the port if it is taken."""
        if self._grpc is not None:
            raise DeploymentError(f"this server was started already, on {self.address}")
        count = self.limits.max_in_flight + _SPARE_THREADS
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="amlrealtimeai-serving")
        self._grpc = grpc.server(
            self._threads,
            handlers=handlers(self._servicer),
            maximum_concurrent_rpcs=4 * count,
            options=[
                ("grpc.max_receive_message_length", self.limits.max_message_bytes),
                ("grpc.max_send_message_length", self.limits.max_message_bytes),
                ("grpc.max_concurrent_streams", self.limits.max_streams),
                ("grpc.max_allowed_incoming_connections", self.limits.max_connections),
                ("grpc.so_reuseport", 0),  # else a second server would share the port and take half the requests
            ],
        )
        self._add_health()
        reflection.enable_server_reflection(_reflected_names(), self._grpc, pool=_reflection_pool())
        if self._wanted_rest is not None:
            self._rest = RestServer(self._servicer, Metrics(self._servicer), self.host, self._wanted_rest, self._tls)
        self._port = self._bind()
        fast = _fast_predict(self._grpc, self._servicer) if self._fast_wanted else None
        self._grpc.start()
        if fast is not None:
            fast.start()
            self._fast = fast
        if self._rest is not None:
            self._rest.start()
        if self.host not in _LOOPBACK and self._credentials is None:
            log.warning("serving on %s without TLS: anyone who reaches this computer can call and read", self.address)
        return self

    def stop(self, grace: float = 5.0) -> None:
        """Turn health to NOT_SERVING, let requests in flight finish for at most `grace` seconds, and close the port."""
        if self._grpc is None:
            return
        self._servicer.draining = True
        self._health.enter_graceful_shutdown()
        end = time.monotonic() + grace
        self._wait_until_idle(end)
        if self._rest is not None:
            self._rest.stop()
        close_port(self.port)
        if self._fast is not None:
            self._fast.stopping = True
        stopped = self._grpc.stop(max(0.0, min(end - time.monotonic(), _LAST_SECONDS)))
        stopped.wait()  # streams that never end, such as health's Watch, have been cancelled by then
        if self._fast is not None:
            self._fast.stop()
        self._servicer.close()
        assert self._threads is not None
        self._threads.shutdown(wait=True, cancel_futures=True)

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
        polls = self._fast is None or self._fast.silent_seconds < _SILENT_SECONDS
        return polls and self._servicer.admission.stuck_seconds < self.limits.max_seconds

    def add_model(self, name: str, model: ConvertedModel, version: int = 1, keys: Sequence[str] | None = None) -> None:
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

    def note_loading(self, name: str, version: int) -> None:
        """Let GetModelStatus say that this version is being loaded."""
        self.table.note(name, version, LOADING)

    def note_failed(self, name: str, version: int, reason: str) -> None:
        """Let GetModelStatus say that this version failed to load, and why; the old one goes on."""
        self.table.note(name, version, END, reason)

    def replace_tls(self, tls: Tls) -> None:
        """Use this certificate for new connections; the open ones stay."""
        if self._credentials is None:
            raise ConfigError("this server was started without TLS; start another with tls=")
        self._credentials.replace(tls)
        if self._rest is not None:
            self._rest.replace_tls(tls)

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

    def _checked_keys(self, keys: Sequence[str] | None) -> tuple[str, ...]:
        if isinstance(keys, str):
            raise ConfigError("expected a list of keys, got one string")
        checked = tuple(keys or ())
        if any(not isinstance(key, str) or not key.strip() for key in checked):
            raise ConfigError("expected keys to be non-empty strings; an empty one would open the service to everyone")
        if checked and self._credentials is None:
            raise ConfigError(
                "keys need TLS: without it everyone on the way can read them. "
                "Give a certificate and key (tls=), or serve without keys"
            )
        return checked

    def _add_health(self) -> None:
        self._health = health.HealthServicer(experimental_non_blocking=True)
        for name in _HEALTH_NAMES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)

    def _bind(self) -> int:
        address = address_of(self.host, self._wanted_port)
        try:
            if self._credentials is not None:
                port = self._grpc.add_secure_port(address, self._credentials.grpc)
            else:
                port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if not port:
            raise bind_error(self.host, self._wanted_port)
        return int(port)


def _fast_predict(server: Any, servicer: Servicer) -> FastPredict | None:
    try:
        return FastPredict(server, servicer)
    except (ImportError, AttributeError, TypeError) as error:
        log.warning(
            "Predict takes the slower way: this grpcio (%s) is not the one that is pinned: %s", grpc.__version__, error
        )
        return None


def _reflected_names() -> list[str]:
    return [protos.PREDICTION_SERVICE, protos.MODEL_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]


def _reflection_pool() -> descriptor_pool.DescriptorPool:
    """Our private descriptors and, for whoever lists all services, those of health and reflection."""
    pool = descriptor_pool.DescriptorPool()
    for data in protos.FILES:
        pool.AddSerializedFile(data)
    for module in (health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
