"""Compute targets: where services run. On this machine a cluster is a number of emulated FPGAs behind one address."""

from amlrealtimeai.core.cloud import names_of_azure
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

__getattr__ = names_of_azure(
    __name__,
    {
        "AmlCompute BatchCompute DataFactoryCompute DatabricksCompute AdlaCompute HDInsightCompute RemoteCompute "
        "ComputeInstance": "Services run on an AksCompute or an EdgeCompute; training runs in this process.",
    },
)
