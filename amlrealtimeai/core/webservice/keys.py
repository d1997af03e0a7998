"""The two keys of a deployed service: reading them, and replacing one while the other stays valid."""

from typing import Any

from amlrealtimeai.core.arguments import known_keywords
from amlrealtimeai.core.webservice import deployment
from amlrealtimeai.errors import ConfigError, InvalidInputError
from amlrealtimeai.targets.base import STOPPED

_NAMES = {"primary": "primary", "secondary": "secondary", "primary key": "primary", "secondary key": "secondary"}


class Keyed:
    """Part of Webservice, which has the row in the workspace."""

    def get_keys(self) -> tuple[str, str]:
        """Primary and secondary key; both are valid. ConfigError for a service without keys."""
        keys = self._keys()
        return keys["primary"], keys["secondary"]

    @known_keywords
    def regen_key(self: Any, key: str, set_key: str | None = None) -> None:
        """Replace the "Primary" or the "Secondary" key; the other one stays valid, so that clients can change over."""
        name = _NAMES.get(str(key).lower())
        if name is None:
            raise InvalidInputError("regen_key: expected 'Primary' or 'Secondary'")
        self._keys()
        fresh = deployment.new_keys({} if set_key is None else {name: set_key})
        running = self.state != STOPPED
        self._row = deployment.change(self.workspace, self._row, lambda row: {}, {name: fresh[name]})
        if running:
            self.wait_for_deployment()  # the old key is refused from here on

    def _keys(self: Any) -> dict[str, str]:
        self._row = deployment.same_service(self.workspace, self._row)
        if not self.auth_enabled:
            raise ConfigError(f"the service {self.name!r} has no keys: it was deployed with auth_enabled=False.")
        keys: dict[str, str] = self.workspace.store.secrets("webservices", self.name)
        return keys
