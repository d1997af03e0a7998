"""Webservices: a converted model behind a gRPC address, on a compute target."""

from amlrealtimeai.core.webservice.aks import AksServiceDeploymentConfiguration, AksWebservice
from amlrealtimeai.core.webservice.webservice import Webservice

__all__ = ["AksServiceDeploymentConfiguration", "AksWebservice", "Webservice"]
