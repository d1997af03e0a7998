"""BrainwaveWebservice: a service with an address of its own, as the middle edition's FPGA services had."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.certificates import local_name
from amlrealtimeai.core.compute import AksUpdateConfiguration, ComputeTarget, SslConfiguration, own
from amlrealtimeai.core.compute.listing import pem_pair
from amlrealtimeai.core.image import Image
from amlrealtimeai.core.webservice import AksServiceDeploymentConfiguration, Webservice
from amlrealtimeai.core.webservice.scaling import check_replicas
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import WebserviceInputError

_EDITION = "brainwave"


@dataclass(frozen=True)
class BrainwaveDeploymentConfiguration(AksServiceDeploymentConfiguration):
    """How a service is to run, with its certificate chain and private key as PEM texts."""

    certificate: str | None = None
    key: str | None = field(default=None, repr=False)

    def own_target(self, workspace: Workspace, name: str) -> ComputeTarget:
        """The cluster of the service that is there already, else a new one for it alone."""
        before = workspace.store.find("webservices", name=name)
        if before is not None and own.edition_of(workspace, before["compute_target"]) == _EDITION:
            return self._fitting(ComputeTarget(workspace, before["compute_target"]), name)
        return own.make(
            workspace,
            _EDITION,
            name,
            agent_count=self.num_replicas,
            ssl_cname=local_name(self.certificate) if self.certificate else None,
            certificate=self.certificate,
            key=self.key,
        )

    def check_target(self, target: ComputeTarget) -> None:
        """WebserviceInputError for a target that would serve without the TLS that was asked for."""
        if self.certificate is not None and self.certificate != target.certificate:
            has = "another certificate" if target.ssl_enabled else "no TLS"
            raise WebserviceInputError(
                f"ssl_enabled=True, but {target.name!r} has {has}: "
                "leave deployment_target out, so that the service has an address and this certificate of its own."
            )

    def _fitting(self, target: ComputeTarget, name: str) -> ComputeTarget:
        """The cluster, with enough FPGAs; WebserviceInputError where it would serve with another TLS than asked for."""
        _check_same_tls(name, target, self.certificate is not None)
        if self.certificate != target.certificate:
            raise WebserviceInputError(
                f"the service {name!r} has another certificate. Replace it in place: BrainwaveWebservice(workspace, "
                f"{name!r}).update(ssl_certificate=..., ssl_key=...), with the PEM texts."
            )
        return own.enlarge(target, self.num_replicas)


class BrainwaveWebservice(Webservice, edition=_EDITION):
    """A service with an address, a port and perhaps a certificate of its own."""

    @staticmethod
    @known_keywords
    def deploy_configuration(
        num_replicas: int | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        ssl_enabled: bool = False,
        ssl_cert_pem_file: str | Path | None = None,
        ssl_key_pem_file: str | Path | None = None,
    ) -> BrainwaveDeploymentConfiguration:
        """Describe a service. With ssl_enabled it has TLS under a name that is in its certificate, and keys.

        Raises InvalidInputError for ssl_enabled without both files, or files without it; FileNotFoundError.
        """
        given = [file for file in (ssl_cert_pem_file, ssl_key_pem_file) if file is not None]
        if len(given) != (2 if ssl_enabled else 0):
            raise WebserviceInputError("ssl_enabled=True, ssl_cert_pem_file and ssl_key_pem_file belong together")
        certificate, key = (None, None)
        if ssl_cert_pem_file is not None and ssl_key_pem_file is not None:
            certificate, key = pem_pair(ssl_cert_pem_file, ssl_key_pem_file)
        return BrainwaveDeploymentConfiguration(
            num_replicas=check_replicas(1 if num_replicas is None else num_replicas),
            tags=tags,
            properties=properties,
            description=description,
            certificate=certificate,
            key=key,
        )

    @property
    def ssl(self) -> bool:
        """The same as ssl_enabled."""
        return self.ssl_enabled

    @known_keywords
    def update(  # type: ignore[override]
        self,
        image: Image | None = None,
        num_replicas: int | None = None,
        tags: dict[str, str] | None = None,
        description: str | None = None,
        ssl_enabled: bool | None = None,
        ssl_certificate: str | None = None,
        ssl_key: str | None = None,
        models: Any = None,
    ) -> None:
        """Change the service in place; ssl_certificate and ssl_key are PEM texts. models: ours, without an image.

        TLS cannot be switched on or off in place, because all clients have to change with it: InvalidInputError.
        """
        if ssl_enabled is not None:
            _check_same_tls(self.name, self._target, ssl_enabled)
        if (ssl_certificate is None) != (ssl_key is None) or (ssl_certificate is not None and not self.ssl_enabled):
            raise WebserviceInputError("ssl_certificate and ssl_key belong together, and to a service with TLS")
        given = ssl_certificate is not None and ssl_key is not None
        pair = pem_pair(ssl_certificate, ssl_key) if given else None
        if num_replicas is not None:
            own.enlarge(self._target, check_replicas(num_replicas))
        super().update(image=image, models=models, num_replicas=num_replicas, tags=tags, description=description)
        if pair is not None:  # last: nothing of an update that is refused is done
            configuration = SslConfiguration("Enabled", *pair, local_name(pair[0]))
            self._target.update(AksUpdateConfiguration(configuration))  # type: ignore[attr-defined]

    def delete(self) -> None:
        """Stop the service and forget it, with its address."""
        self.update_deployment_state()  # else its cluster would be what is missing
        target = self._target
        super().delete()
        target.delete()


def _check_same_tls(name: str, target: ComputeTarget, wanted: bool) -> None:
    if wanted != target.ssl_enabled:
        raise WebserviceInputError(
            f"the service {name!r} was deployed with{'' if target.ssl_enabled else 'out'} TLS, which cannot change in "
            "place: delete it and deploy it again"
        )
