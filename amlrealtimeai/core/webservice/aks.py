"""AksWebservice: a webservice on a cluster."""

from dataclasses import dataclass, field
from typing import Any

from amlrealtimeai.core.arguments import known_keywords, warn_without_meaning
from amlrealtimeai.core.webservice.deployment import check_key
from amlrealtimeai.core.webservice.webservice import Webservice, check_replicas


@dataclass(frozen=True)
class AksServiceDeploymentConfiguration:
    """How a service is to run; auth_enabled None: with keys if the cluster has TLS."""

    num_replicas: int = 1
    auth_enabled: bool | None = None
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    tags: dict[str, str] | None = None
    properties: dict[str, str] | None = None
    description: str | None = None


class AksWebservice(Webservice):
    """A webservice on a cluster of emulated FPGAs."""

    @staticmethod
    @known_keywords
    def deploy_configuration(
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
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
    ) -> AksServiceDeploymentConfiguration:
        """Describe a service.

        num_replicas: emulated FPGAs that it claims (default 1). auth_enabled: default on when the cluster has TLS.
        primary_key, secondary_key: keys of your own, at least 8 characters. Keywords about scaling and resources of a
        real cluster mean nothing here: one warning names them.
        """
        warn_without_meaning(
            "AksWebservice.deploy_configuration",
            autoscale_enabled=autoscale_enabled or None,  # False asks for nothing
            autoscale_min_replicas=autoscale_min_replicas,
            autoscale_max_replicas=autoscale_max_replicas,
            autoscale_refresh_seconds=autoscale_refresh_seconds,
            autoscale_target_utilization=autoscale_target_utilization,
            collect_model_data=collect_model_data or None,
            cpu_cores=cpu_cores,
            memory_gb=memory_gb,
            enable_app_insights=enable_app_insights or None,
            scoring_timeout_ms=scoring_timeout_ms,
            replica_max_concurrent_requests=replica_max_concurrent_requests,
            max_request_wait_time=max_request_wait_time,
            gpu_cores=gpu_cores,
            period_seconds=period_seconds,
            initial_delay_seconds=initial_delay_seconds,
            timeout_seconds=timeout_seconds,
            success_threshold=success_threshold,
            failure_threshold=failure_threshold,
            namespace=namespace,
            token_auth_enabled=token_auth_enabled or None,
        )
        keys = {"primary": primary_key, "secondary": secondary_key}
        return AksServiceDeploymentConfiguration(
            num_replicas=check_replicas(1 if num_replicas is None else num_replicas),
            auth_enabled=auth_enabled,
            keys={name: check_key(key) for name, key in keys.items() if key is not None},
            tags=tags,
            properties=properties,
            description=description,
        )

    def get_token(self) -> Any:
        """Azure Active Directory tokens do not exist here."""
        from amlrealtimeai.errors import UnsupportedError

        raise UnsupportedError("there are no tokens without Azure Active Directory. Use keys: get_keys().")
