"""Compute targets: where services run. On this machine a cluster is a number of emulated FPGAs behind one address."""

from amlrealtimeai.core.compute.aks import (
    FPGA_QUOTA,
    FPGA_REGIONS,
    FPGA_VM_SIZE,
    AksCompute,
    AksProvisioningConfiguration,
    AksUpdateConfiguration,
    SslConfiguration,
)
from amlrealtimeai.core.compute.edge import EdgeCompute, EdgeProvisioningConfiguration
from amlrealtimeai.core.compute.target import ComputeTarget

__all__ = [
    "FPGA_QUOTA",
    "FPGA_REGIONS",
    "FPGA_VM_SIZE",
    "AksCompute",
    "AksProvisioningConfiguration",
    "AksUpdateConfiguration",
    "ComputeTarget",
    "EdgeCompute",
    "EdgeProvisioningConfiguration",
    "SslConfiguration",
]
