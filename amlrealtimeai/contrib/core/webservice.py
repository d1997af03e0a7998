"""Webservices of azureml.contrib.core."""

from amlrealtimeai.core.cloud import names_of_azure

__getattr__ = names_of_azure(
    __name__,
    {
        "IotWebservice IotBaseModuleSettings": "Deploy the image on an EdgeCompute, with Webservice.deploy_from_image; "
        "or run it with podman, docker or runc, as image.run() does."
    },
)
