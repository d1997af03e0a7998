"""What people may ask of the number of replicas, and how they read it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from amlrealtimeai.core.arguments import check_count
from amlrealtimeai.errors import WebserviceInputError
from amlrealtimeai.serving.replicas.scaling import DEFAULT_SECONDS, DEFAULT_TARGET
from amlrealtimeai.targets.base import Status


@dataclass(frozen=True)
class AutoScaler:
    """How the replicas of a service follow its load; max_replicas None: as many FPGAs as its cluster has."""

    autoscale_enabled: bool
    min_replicas: int | None
    max_replicas: int | None
    refresh_period_seconds: float | None
    target_utilization: float | None

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> "AutoScaler":
        """From the keywords of a deployment; only what is set where it is switched on."""
        if not asked.get("autoscale_enabled"):
            return cls(False, None, None, None, None)
        return cls(
            True,
            asked.get("autoscale_min_replicas", 1),
            asked.get("autoscale_max_replicas"),
            asked.get("autoscale_refresh_seconds", DEFAULT_SECONDS),
            asked.get("autoscale_target_utilization", DEFAULT_TARGET),
        )


def counts(status: Status) -> dict[str, int]:
    """The replicas of a service, in the words of old code."""
    return {"wantedReplicas": status.wanted, "readyReplicas": status.ready}


def check_replicas(count: Any, name: str = "num_replicas") -> int:
    """A number of replicas of at least one; WebserviceInputError for anything else."""
    found = check_count(count)
    if found is None:
        raise WebserviceInputError(f"{name}: expected a number of at least 1, got {count!r}")
    return found


def check_scaling(asked: Mapping[str, Any], num_replicas: int | None) -> None:
    """WebserviceInputError for wishes about replicas that contradict each other or mean nothing."""
    bounds = ("autoscale_min_replicas", "autoscale_max_replicas")
    least, most = (None if asked.get(name) is None else check_replicas(asked[name], name) for name in bounds)
    _number("autoscale_refresh_seconds", asked.get("autoscale_refresh_seconds"), 3600)
    _number("autoscale_target_utilization", asked.get("autoscale_target_utilization"), 100)
    if least is not None and most is not None and least > most:
        raise WebserviceInputError(f"autoscale_min_replicas={least} is greater than autoscale_max_replicas={most}")
    if asked.get("autoscale_enabled") and num_replicas is not None:
        raise WebserviceInputError(
            f"num_replicas={num_replicas} and autoscale_enabled=True: replicas are either given or follow the load. "
            "Leave num_replicas out, or give autoscale_enabled=False."
        )


def _number(name: str, value: Any, most: float) -> None:
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= most:
        raise WebserviceInputError(f"{name}: expected a number above 0, at most {most}, got {value!r}")
