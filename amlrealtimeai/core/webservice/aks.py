"""AksWebservice: a webservice on a cluster."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.core.arguments import check_kind, known_keywords
from amlrealtimeai.core.cloud import needs_azure
from amlrealtimeai.core.compute import ComputeTarget
from amlrealtimeai.core.image import Image
from amlrealtimeai.core.model import Model
from amlrealtimeai.core.webservice import deployment
from amlrealtimeai.core.webservice.deployment import check_key
from amlrealtimeai.core.webservice.scaling import AutoScaler, check_replicas, check_scaling
from amlrealtimeai.core.webservice.webservice import Webservice
from amlrealtimeai.core.webservice.wish import wished
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import UnsupportedError

_ASKED = (
    *("autoscale_enabled", "autoscale_min_replicas", "autoscale_max_replicas", "autoscale_refresh_seconds"),
    *("autoscale_target_utilization", "collect_model_data", "cpu_cores", "memory_gb", "enable_app_insights"),
    *("scoring_timeout_ms", "replica_max_concurrent_requests", "max_request_wait_time", "gpu_cores"),
    *("period_seconds", "initial_delay_seconds", "timeout_seconds", "success_threshold", "failure_threshold"),
    *("namespace", "token_auth_enabled", "cpu_cores_limit", "memory_gb_limit", "blobfuse_enabled"),
)
"""Keywords that are passed on to the target, by name; False asks for nothing, or takes back what was asked for."""


@dataclass(frozen=True)
class AksServiceDeploymentConfiguration:
    """How a service is to run; auth_enabled None: with keys if the cluster has TLS. asked: what is up to the target."""

    num_replicas: int = 1
    auth_enabled: bool | None = None
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    def own_target(self, workspace: Workspace, name: str) -> ComputeTarget | None:
        """The target of a service that is deployed without one; None where people have to name it."""
        return None

    def check_target(self, target: ComputeTarget) -> None:
        """WebserviceInputError for a target that cannot serve in the way that this asks for."""


@needs_azure("container_resource_requirements liveness_probe_requirements data_collection")
@needs_azure("max_concurrent_requests_per_container max_request_wait_time scoring_timeout_ms")
@needs_azure("token_auth_enabled enable_app_insights app_insights_enabled namespace is_default traffic_percentile")
@needs_azure("public_ip public_fqdn", "See scoring_uri and ip_address.")
class AksWebservice(Webservice):
    """A webservice on a cluster of emulated FPGAs."""

    @staticmethod
    @known_keywords
    def deploy_configuration(
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: float | None = None,
        autoscale_target_utilization: float | None = None,
        collect_model_data: bool | None = None,
        auth_enabled: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        enable_app_insights: bool | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
        blobfuse_enabled: bool | None = None,
    ) -> AksServiceDeploymentConfiguration:
        """Describe a service.

        num_replicas: emulated FPGAs that it claims (default 1). auth_enabled: default on when the cluster has TLS.
        primary_key, secondary_key: keys of your own, at least 8 characters.
        autoscale_enabled (default off): replicas by load instead of num_replicas, between autoscale_min_replicas
        (default 1) and autoscale_max_replicas (default and at most: all of the cluster's FPGAs), so that about
        autoscale_target_utilization percent (default 70) are busy. Every autoscale_refresh_seconds (default 1, may be a
        fraction here) the requests in flight are counted: more replicas come at once, fewer after 60 counts in a row.
        What the other keywords ask for is up to the target: deploying warns of those that mean nothing there.
        """
        given = _wishes(locals())
        check_scaling(given, num_replicas)
        keys = {"primary": primary_key, "secondary": secondary_key}
        return AksServiceDeploymentConfiguration(
            num_replicas=check_replicas(1 if num_replicas is None else num_replicas),
            auth_enabled=auth_enabled,
            keys={name: check_key(key) for name, key in keys.items() if key is not None},
            tags=tags,
            properties=properties,
            description=description,
            asked={name: value for name, value in given.items() if value is not False},
        )

    @known_keywords
    def update(  # type: ignore[override]
        self,
        image: Image | None = None,
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: float | None = None,
        autoscale_target_utilization: float | None = None,
        collect_model_data: bool | None = None,
        auth_enabled: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        enable_app_insights: bool | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        models: "Model | Iterable[Model] | None" = None,
        inference_config: Any = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
        blobfuse_enabled: bool | None = None,
    ) -> None:
        """Change the service in place: requests in flight finish, none is refused. A stopped service is deployed again.

        With a new image the old model serves until the new one is loaded and warm; wait_for_deployment waits for that.
        inference_config: converts `models` first where they are not. What the other keywords ask for is up to the
        target: a warning names those that mean nothing there.
        """
        given = _wishes(locals())
        check_scaling({**self._row["settings"].get("asked", {}), **given}, num_replicas)
        if models is not None and inference_config is not None:
            models = deployment.converted(self.workspace, models, inference_config)
        super().update(
            image=image,
            models=models,
            num_replicas=num_replicas,
            auth_enabled=auth_enabled,
            tags=tags,
            properties=properties,
            description=description,
            _asked=given,
        )

    @property
    def autoscaler(self) -> AutoScaler:
        """How the number of replicas follows the load."""
        return AutoScaler.of(self._row["settings"].get("asked", {}))

    @staticmethod
    @known_keywords
    def dry_run(
        workspace: Workspace,
        name: str,
        image: Image,
        deployment_config: AksServiceDeploymentConfiguration | None = None,
        deployment_target: ComputeTarget | None = None,
        folder: str | Path = ".",
    ) -> list[Path]:
        """Write what deploy_from_image would apply to an attached cluster; nothing is pushed, applied or listed.

        The files are `name`.yaml, which the API server has checked and which holds the keys (its owner alone can read
        it), the Helm chart `name`-chart and, for a service without TLS, KServe's `name`-kserve.yaml. Raises
        DeploymentError for what the cluster would refuse, UnsupportedError for another target.
        """
        expected = "an attached cluster, AksCompute.attach_configuration()"
        target = check_kind("deployment_target", deployment_target, ComputeTarget, expected)
        runner = target.runner()
        if not hasattr(runner, "dry_run"):
            raise UnsupportedError(f"{target.name!r} has no manifests; only {expected} has")
        image = Image.given(workspace, image)
        model = deployment.model_of(workspace, image, None)
        wish = wished(workspace, name, model, image, deployment_config, target)
        return list(runner.dry_run(deployment.planned(workspace, wish), Path(folder)))

    def get_token(self) -> Any:
        """Azure Active Directory tokens do not exist here."""
        raise UnsupportedError("there are no tokens without Azure Active Directory. Use keys: get_keys().")


def _wishes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of the keywords that are passed on; NumPy's numbers as Python's."""
    given = {name: arguments[name] for name in _ASKED if arguments[name] is not None}
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
