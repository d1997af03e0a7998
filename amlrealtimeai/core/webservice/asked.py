"""Where a deployed service is, how much of it, and asking it, for people who have no client at hand."""

from typing import Any
from urllib.parse import urlsplit

from amlrealtimeai.core.webservice.scaling import counts


class Asked:
    """Part of Webservice, which has the scoring_uri, the keys and the certificate."""

    @property
    def ip_address(self: Any) -> str:
        """Name or address to connect to; with TLS the one that is in the certificate."""
        return urlsplit(self.scoring_uri).hostname or ""

    @property
    def ipAddress(self: Any) -> str:
        """The same as ip_address."""
        return self.ip_address

    @property
    def port(self: Any) -> int:
        """Port to connect to."""
        return urlsplit(self.scoring_uri).port or 0

    @property
    def deployment_status(self: Any) -> dict[str, int]:
        """{"wantedReplicas": ..., "readyReplicas": ...} of now."""
        return counts(self._status())

    def run(self: Any, input_data: Any) -> Any:
        """Ask with one picture (its path, its bytes, or an open file) or with a batch of arrays as `images`.

        One array, or a list in the order of the outputs' names; of a picture without the batch dimension.
        """
        from amlrealtimeai.client import ServiceClient

        with ServiceClient(
            self.scoring_uri,
            access_token=self.get_keys()[0] if self.auth_enabled else "",
            service_name=self.name,
            root_certificates=self.root_certificates,
        ) as client:
            return client.run(input_data)
