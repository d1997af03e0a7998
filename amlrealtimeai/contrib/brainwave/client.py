"""The middle edition's client: the first edition's, with a score_file for the bytes of a file."""

from pathlib import Path

import numpy as np

from amlrealtimeai.client import PredictionClient as FirstPredictionClient
from amlrealtimeai.client.arrays import as_batch, read_file, without_batch
from amlrealtimeai.serving.protocol import tensors


class PredictionClient(FirstPredictionClient):
    """As amlrealtimeai.PredictionClient."""

    def score_file(self, data: bytes | str | Path, timeout: float | None = 10.0) -> np.ndarray:
        """Send the bytes of one file (or the file of that path); its answer comes without the batch dimension."""
        content = data if isinstance(data, bytes) else read_file(data)
        return without_batch(tensors.from_proto(self._score(as_batch(content), timeout)))
