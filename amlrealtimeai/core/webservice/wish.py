"""What the arguments of a deployment ask for, checked."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from amlrealtimeai.core.arguments import check_kind, check_name
from amlrealtimeai.core.compute import ComputeTarget
from amlrealtimeai.core.image import Image
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import WebserviceInputError

if TYPE_CHECKING:
    from amlrealtimeai.core.webservice.aks import AksServiceDeploymentConfiguration

_NAME = r"[a-z][a-z0-9-]{1,30}[a-z0-9]"


@dataclass(frozen=True)
class Wish:
    """What a caller wants to run; auth None: keys where there is TLS. asked: further keywords of the configuration."""

    name: str
    model: Model
    image: Image | None
    target: ComputeTarget
    replicas: int = 1
    auth: bool | None = None
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)


def wished(
    workspace: Workspace,
    name: str,
    model: Model,
    image: Image | None,
    config: "AksServiceDeploymentConfiguration | None",
    target: ComputeTarget | None,
) -> Wish:
    """What the arguments of a deployment ask for, checked."""
    from amlrealtimeai.core.webservice.aks import AksServiceDeploymentConfiguration, AksWebservice

    check_service_name(name)
    if config is not None:
        check_kind(
            "deployment_config", config, AksServiceDeploymentConfiguration, "AksWebservice.deploy_configuration()"
        )
    if target is None and config is not None:
        target = config.own_target(workspace, name)
    if not isinstance(target, ComputeTarget):
        raise WebserviceInputError(
            f"deployment_target: expected a compute target, got {target!r}. Create one: "
            "ComputeTarget.create(workspace, 'aks', AksCompute.provisioning_configuration())."
        )
    target.check_listed()
    config = AksWebservice.deploy_configuration() if config is None else config
    config.check_target(target)
    return Wish(
        name=name,
        model=model,
        image=image,
        target=target,
        replicas=config.num_replicas,
        auth=config.auth_enabled,
        keys=config.keys,
        tags=config.tags,
        properties=config.properties,
        description=config.description,
        asked=config.asked,
    )


def check_service_name(name: str) -> None:
    """InvalidInputError for a name that a service cannot have."""
    check_name("service name", name, _NAME, "3 to 32 lower-case letters, digits and '-', with a letter first")
