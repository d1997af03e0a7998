"""The old path of amlrealtimeai.accel.client."""

from amlrealtimeai.accel.client import PredictionClient, client_from_service

__all__ = ["PredictionClient", "client_from_service"]
