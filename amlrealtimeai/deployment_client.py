"""The first edition's DeploymentClient (2018), on the same store, server and targets as the later API."""

import contextlib
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlrealtimeai.core import ComputeTarget, Model, Webservice, Workspace
from amlrealtimeai.core.arguments import check_path, check_text, known_keywords
from amlrealtimeai.core.certificates import local_name
from amlrealtimeai.core.compute import AksUpdateConfiguration, SslConfiguration, own
from amlrealtimeai.core.pem import self_signed
from amlrealtimeai.core.stored import split_id
from amlrealtimeai.core.webservice import deployment
from amlrealtimeai.core.webservice.wish import Wish, check_service_name
from amlrealtimeai.errors import (
    DeploymentError,
    InUseError,
    InvalidInputError,
    NotFoundError,
    WebserviceInputError,
    WebserviceNotFoundError,
)
from amlrealtimeai.serving.ports.tls import Tls
from amlrealtimeai.store.locks import LifeLock
from amlrealtimeai.targets.base import HEALTHY, STOPPED
from amlrealtimeai.targets.hosts import NOTEBOOK, PROCESS

_EDITION = "first-edition"
_LOCAL = "127.0.0.1"
_SECONDS = 10.0
_END = "-----END CERTIFICATE-----"
_STATES = {HEALTHY: "Succeeded"}
_KEY_TYPES = {"primary": ("primary",), "secondary": ("secondary",), None: ("primary", "secondary")}


@dataclass(frozen=True)
class Service:
    """A service as it was when it was asked for. Keys are None without TLS, and never shown by repr.

    state: "Succeeded" when it answers, else "Transitioning", "Unhealthy", "Failed" or "Stopped". ipAddress: the name or
    address to connect to; with TLS one that is in the certificate. rootCertificates: PEM for a client to trust, if the
    certificate's chain holds its own CA.
    """

    id: str
    name: str
    modelId: str
    ipAddress: str
    port: int
    state: str
    sslEnabled: bool
    primaryKey: str | None = field(repr=False)
    secondaryKey: str | None = field(repr=False)
    numReplicas: int
    error: str | None
    createdAt: str
    updatedAt: str
    rootCertificates: str | None = field(repr=False)


class DeploymentClient:
    """Registers models and runs services on this computer.

    subscription_id, resource_group and model_management_account name the workspace, which is made on first use; it is
    one of those that `Workspace.list()` shows. location and service_principal_params mean nothing without a cloud; old
    code may pass the principal fourth.
    run_in (ours): "notebook" serves from this process, "process" from a child process; keep_running: the child goes on
    when this process ends, until the service is deleted.
    """

    @known_keywords
    def __init__(
        self,
        subscription_id: str,
        resource_group: str,
        model_management_account: str,
        location: Any = None,
        service_principal_params: Any = None,
        *,
        run_in: str = NOTEBOOK,
        keep_running: bool = False,
    ) -> None:
        for name, value in (
            ("subscription_id", subscription_id),
            ("resource_group", resource_group),
            ("model_management_account", model_management_account),
        ):
            if not value or not isinstance(value, str):
                raise InvalidInputError(f"{name}: expected a text, got {value!r}")
        if run_in not in (NOTEBOOK, PROCESS) or (keep_running and run_in != PROCESS):
            raise InvalidInputError("run_in: expected 'notebook' or 'process'; keep_running=True needs 'process'")
        self._workspace = Workspace.create(
            model_management_account,
            subscription_id=subscription_id,
            resource_group=resource_group,
            location=location if isinstance(location, str) else "local",
            exist_ok=True,
        )
        self._run_in = run_in
        self._keep_running = bool(keep_running)

    def __repr__(self) -> str:
        return f"DeploymentClient({self._workspace.name!r})"

    def register_model(self, model_name: str, service_def_path: str | Path) -> str:
        """Store a service definition (the zip of ServiceDefinition.save) and return the model's id, "name:version".

        The same bytes are stored once. Raises InvalidInputError for a file that is no converted model.
        """
        from amlrealtimeai.artifact.converted import ConvertedModel

        path = check_path("service_def_path", service_def_path)
        ConvertedModel.load(path, threads=1)
        return Model.register(self._workspace, path, model_name).id

    def list_models(self) -> Sequence[Model]:
        """All models of the workspace, oldest first."""
        return Model.list(self._workspace)

    def delete_model(self, model_id: str) -> None:
        """Forget a model; InUseError while a service uses it."""
        self._model(model_id).delete()

    @known_keywords
    def create_service(
        self,
        service_name: str,
        model_id: str,
        ssl_enabled: bool = False,
        ssl_certificate: str | None = None,
        ssl_key: str | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
    ) -> Service:
        """Serve a model; returns when the service answers.

        ssl_certificate and ssl_key are PEM text. With TLS the service has two keys: the given ones, else random ones.
        Raises InvalidInputError (a ValueError) for ssl_enabled without certificate and key, for keys without TLS, for
        a name that is taken; DeploymentError when the service does not come up, which leaves nothing behind.
        """
        check_service_name(service_name)
        model = self._model(model_id)
        tls = _tls(ssl_enabled, ssl_certificate, ssl_key)
        keys = _keys(primary_key, secondary_key, ssl_enabled)
        with self._turn(service_name):
            if self._workspace.store.find("webservices", name=service_name) is not None:
                raise WebserviceInputError(
                    f"there is a service {service_name!r} already. Change it with update_service({service_name!r}, "
                    "model_id), or delete it with delete_service()."
                )
            target = self._cluster(service_name, tls)
            wish = Wish(service_name, model, None, target, auth=tls is not None, keys=keys)
            made: Webservice | None = None
            try:
                deployment.deploy(self._workspace, wish, overwrite=False)
                made = Webservice(self._workspace, service_name)
                made.wait_for_deployment()
            except BaseException:
                with contextlib.suppress(NotFoundError, InUseError):  # the first reason is the one to be told
                    if made is not None:
                        made.delete()
                    target.delete()
                raise
        return self.get_service_by_id(service_name)

    @known_keywords
    def update_service(
        self,
        service_id: str,
        model_id: str,
        ssl_enabled: bool | None = None,
        ssl_certificate: str | None = None,
        ssl_key: str | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
    ) -> Service:
        """Change model, certificate or keys in place: the address stays and no request is lost; None keeps what is.

        TLS cannot be switched on or off in place, because all clients have to change with it: InvalidInputError.
        """
        with self._turn(self._service(service_id).name):
            self._update(service_id, model_id, ssl_enabled, ssl_certificate, ssl_key, primary_key, secondary_key)
        return self.get_service_by_id(service_id)

    def _update(
        self,
        service_id: str,
        model_id: str,
        ssl_enabled: bool | None,
        ssl_certificate: str | None,
        ssl_key: str | None,
        primary_key: str | None,
        secondary_key: str | None,
    ) -> None:
        service, target = self._service(service_id), self._target(service_id)
        model = self._model(model_id)
        secure = service.ssl_enabled
        if ssl_enabled is not None and ssl_enabled != secure:
            raise InvalidInputError(
                f"the service {service_id!r} was created {'with' if secure else 'without'} TLS, which cannot change in "
                "place: delete it and create it again"
            )
        given = ssl_certificate is not None or ssl_key is not None
        tls = _tls(secure, ssl_certificate, ssl_key) if given else None
        keys = _keys(primary_key, secondary_key, secure)
        if tls is not None:
            configuration = SslConfiguration("Enabled", tls[0], tls[1], local_name(tls[0]))
            target.update(AksUpdateConfiguration(configuration))
            _wait_for_certificate(self.get_service_by_id(service_id).port, tls[0])
        if service.models[0].id != model.id or service.state == STOPPED:
            service.update(models=[model])
        if keys:
            deployment.change(self._workspace, service._row, lambda row: {}, keys)
        service.wait_for_deployment()

    def get_service_by_id(self, service_id: str) -> Service:
        """The service; NotFoundError when there is none."""
        service = self._service(service_id)
        status = service._status()
        keys = self._workspace.store.secrets("webservices", service_id) if service.auth_enabled else {}
        port = int(status.address.rpartition(":")[2]) if status.address else 0
        certificate = service._target.certificate
        return Service(
            id=service.name,
            name=service.name,
            modelId=service.models[0].id,
            ipAddress=local_name(certificate) if certificate else _LOCAL,
            port=port,
            state=_STATES.get(status.state, status.state),
            sslEnabled=service.ssl_enabled,
            primaryKey=keys.get("primary"),
            secondaryKey=keys.get("secondary"),
            numReplicas=service.num_replicas,
            error=status.reason or None,
            createdAt=service._row["created"],
            updatedAt=service._row["updated"],
            rootCertificates=certificate if certificate and self_signed(certificate) else None,
        )

    def get_service_by_name(self, service_name: str) -> Service | None:
        """The service of this name, or None."""
        return next(iter(self.get_services_by_name(service_name)), None)

    def get_services_by_name(self, service_name: str) -> Sequence[Service]:
        """Services of this name: one or none, since a name is taken once in a workspace."""
        return [service for service in self.list_services() if service.name == service_name]

    def list_services(self) -> Sequence[Service]:
        """All services that a DeploymentClient of this workspace created, oldest first."""
        services = []
        for row in self._workspace.store.select("webservices"):
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                if self._is_ours(row["compute_target"]):
                    services.append(self.get_service_by_id(row["name"]))
        return services

    def delete_service(self, service_id: str) -> None:
        """Finish its requests, close its port and forget it."""
        with self._turn(self._service(service_id).name):
            service, target = self._service(service_id), self._target(service_id)
            service.delete()
            target.delete()

    def get_auth_keys(self, service_id: str) -> dict[str, str]:
        """{"primaryKey": ..., "secondaryKey": ...}; both are valid. ConfigError for a service without TLS."""
        primary, secondary = self._service(service_id).get_keys()
        return {"primaryKey": primary, "secondaryKey": secondary}

    def regenerate_auth_keys(self, service_id: str, key_type: str | None = None) -> dict[str, str]:
        """Replace the "Primary" or the "Secondary" key, or both (None), and return both.

        Replaced one at a time, with clients changing over in between, no request is refused.
        """
        names = _KEY_TYPES.get(key_type.lower() if isinstance(key_type, str) else key_type)
        if names is None:
            raise InvalidInputError(f"key_type: expected 'Primary', 'Secondary' or None, got {key_type!r}")
        service = self._service(service_id)
        for name in names:
            service.regen_key(name)
        return self.get_auth_keys(service_id)

    @contextlib.contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """One process and thread at a time makes, changes or deletes a service of this name."""
        lock = LifeLock(self._workspace.store.run / f"changing-{name}.lock")
        try:
            yield
        finally:
            lock.release()

    def _model(self, model_id: str) -> Model:
        name, version = split_id(model_id, "model")
        model = Model(self._workspace, name, version=version)
        if not model.is_converted:
            raise InvalidInputError(
                f"the model {model_id!r} is no service definition; register the zip that ServiceDefinition.save wrote"
            )
        return model

    def _service(self, service_id: str) -> Webservice:
        check_text("service id", service_id)
        row = self._workspace.store.find("webservices", name=service_id)
        if row is None or not self._is_ours(row["compute_target"]):
            known = ", ".join(service.id for service in self.list_services()) or "none"
            raise WebserviceNotFoundError(
                f"no service {service_id!r}; there are: {known}. Create it with create_service()."
            )
        return Webservice(self._workspace, service_id)

    def _target(self, service_id: str) -> Any:
        return ComputeTarget(self._workspace, self._service(service_id).compute_name)

    def _is_ours(self, target: str) -> bool:
        return own.edition_of(self._workspace, target) == _EDITION

    def _cluster(self, name: str, tls: tuple[str, str] | None) -> Any:
        """A cluster for one service alone, because certificate and port belong to the service in this edition."""
        return own.make(
            self._workspace,
            _EDITION,
            name,
            run_in=self._run_in,
            keep_running=self._keep_running,
            ssl_cname=local_name(tls[0]) if tls else None,
            certificate=tls[0] if tls else None,
            key=tls[1] if tls else None,
        )


def store_refresh_token(*token: Any) -> None:
    """The original kept a login to the cloud for later. There is none here: nothing is kept."""


def _tls(enabled: bool, certificate: str | None, key: str | None) -> tuple[str, str] | None:
    if not enabled:
        if certificate is not None or key is not None:
            raise InvalidInputError("ssl_certificate and ssl_key are given, but ssl_enabled is not True")
        return None
    if not certificate or not key:
        raise InvalidInputError("ssl_enabled=True needs ssl_certificate and ssl_key, both as PEM text")
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in (certificate, key)]
    Tls(texts[0].encode(), texts[1].encode())
    return texts[0], texts[1]


def _keys(primary: str | None, secondary: str | None, secure: bool) -> dict[str, str]:
    keys = {name: key for name, key in (("primary", primary), ("secondary", secondary)) if key is not None}
    if keys and not secure:
        raise InvalidInputError("keys need TLS: without it everyone on the way can read them. Pass ssl_enabled=True")
    return {name: deployment.check_key(key) for name, key in keys.items()}


def _wait_for_certificate(port: int, certificate: str) -> None:
    """Until new connections are given this certificate; the server looks for it several times a second."""
    wanted = ssl.PEM_cert_to_DER_cert(certificate[: certificate.index(_END) + len(_END)])
    end = time.monotonic() + _SECONDS
    while port and ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((_LOCAL, port), timeout=5.0)) != wanted:
        if time.monotonic() > end:
            raise DeploymentError(f"the server goes on with its old certificate after {_SECONDS:.0f} s; see its log")
        time.sleep(0.05)
