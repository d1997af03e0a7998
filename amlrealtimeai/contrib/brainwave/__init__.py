"""The middle edition's names over today's classes: models, pipeline, BrainwaveImage, BrainwaveWebservice, client.

A frozen network holds its weights as constants and needs no restore_weights; a service has an address of its own.
"""

from typing import TYPE_CHECKING

from amlrealtimeai import lazy

if TYPE_CHECKING:
    from amlrealtimeai.contrib.brainwave.brainwave_image import BrainwaveImage
    from amlrealtimeai.contrib.brainwave.brainwave_webservice import BrainwaveWebservice

__all__ = ["BrainwaveImage", "BrainwaveWebservice"]

__getattr__ = lazy.attributes(
    __name__, {"BrainwaveImage": "brainwave_image", "BrainwaveWebservice": "brainwave_webservice"}
)
