"""azureml.telemetry: what old notebooks call first."""

from typing import Any


def set_diagnostics_collection(send_diagnostics: bool = True, *arguments: Any, **keywords: Any) -> None:
    """Nothing is collected, whatever is asked for; says so."""
    print("Diagnostics: nothing is collected or sent from this machine.")
