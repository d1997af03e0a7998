"""The original's ways to log in. Nothing on this computer asks for them: what old code passes as auth= is ignored."""

from typing import Any


class AbstractAuthentication:
    """Takes what the original took, and keeps none of it."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        pass

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class InteractiveLoginAuthentication(AbstractAuthentication):
    """InteractiveLoginAuthentication(force=False, tenant_id=None)."""


class AzureCliAuthentication(AbstractAuthentication):
    """AzureCliAuthentication()."""


class MsiAuthentication(AbstractAuthentication):
    """MsiAuthentication()."""


class ServicePrincipalAuthentication(AbstractAuthentication):
    """ServicePrincipalAuthentication(tenant_id, service_principal_id, service_principal_password)."""
