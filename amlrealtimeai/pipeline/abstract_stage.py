"""The old path of what all stages have in common."""

import json
from typing import Any

from amlrealtimeai.pipeline.stages import Stage as AbstractStage

__all__ = ["AbstractStage", "StageEncoder"]


class StageEncoder(json.JSONEncoder):
    """Writes a stage as its kind and its name."""

    def default(self, o: Any) -> Any:
        """Plain values for a stage."""
        return {"type": type(o).__name__, "name": o.name} if isinstance(o, AbstractStage) else super().default(o)
