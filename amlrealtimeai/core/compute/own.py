"""A cluster for one service alone, where an edition gave each service an address and a certificate of its own.

It has the service's name and a region of its own, "<edition>/<name>", so that no FPGA quota counts it.
"""

import contextlib
from typing import Any

from amlrealtimeai.core.compute.aks import AksProvisioningConfiguration
from amlrealtimeai.core.compute.target import ComputeTarget
from amlrealtimeai.core.workspace import Workspace
from amlrealtimeai.errors import InUseError, NotFoundError
from amlrealtimeai.store.rows import Row


def make(workspace: Workspace, edition: str, name: str, **settings: Any) -> ComputeTarget:
    """The cluster of a service; one that a killed process left before it listed the service is replaced."""
    if edition_of(workspace, name) == edition:
        ComputeTarget(workspace, name).delete()
    return ComputeTarget.create(workspace, name, AksProvisioningConfiguration(location=f"{edition}/{name}", **settings))


def enlarge(target: ComputeTarget, agents: int) -> ComputeTarget:
    """The cluster of a service with so many FPGAs at least: nobody else counts on how many it has."""

    def changes(row: Row) -> Row:
        return {"settings": {**row["settings"], "agent_count": max(agents, row["settings"]["agent_count"])}}

    target.workspace.store.change("compute_targets", {"name": target.name}, changes)
    return ComputeTarget(target.workspace, target.name)


def edition_of(workspace: Workspace, target: str) -> str | None:
    """The edition of a service's own cluster; None for a cluster that people made, and where there is none."""
    row = workspace.store.find("compute_targets", name=target)
    edition, own, _ = row["settings"].get("location", "").partition("/") if row else ("", "", "")
    return edition if own else None


def discard_unused(workspace: Workspace, name: str) -> None:
    """Delete the cluster of a service that could not be deployed, or that was deployed elsewhere instead."""
    if edition_of(workspace, name):
        with contextlib.suppress(InUseError, NotFoundError):  # also of somebody else's service of this name
            ComputeTarget(workspace, name).delete()
