"""Webservices: a converted model behind a gRPC address, on a compute target."""

from amlrealtimeai.core.cloud import names_of_azure
from amlrealtimeai.core.webservice.aks import AksServiceDeploymentConfiguration, AksWebservice
from amlrealtimeai.core.webservice.webservice import Webservice

__all__ = ["AksServiceDeploymentConfiguration", "AksWebservice", "Webservice"]

__getattr__ = names_of_azure(
    __name__,
    {"AciWebservice LocalWebservice AksEndpoint": "Converted models are served on a cluster: use AksWebservice."},
)
