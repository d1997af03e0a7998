"""Pictures for lessons, tests and training: emoji of known classes on backgrounds, drawn from a seed.

No picture is downloaded; licences of the emoji are in data/README.md. Trainings take photographs, too, where they are.
"""

from amlrealtimeai.lab.images.backgrounds import BACKGROUNDS, Background
from amlrealtimeai.lab.images.compose import compose, compose_stamp, dataset, jpeg_bytes, save_jpeg, stamps_dataset
from amlrealtimeai.lab.images.folders import PETS, Pet, arrays, compose_pet, pets, write_folder, write_pets
from amlrealtimeai.lab.images.photographs import Photographs, Stamps
from amlrealtimeai.lab.images.scenes import Box, VocFolder, read_voc, scene, write_voc
from amlrealtimeai.lab.images.sprites import (
    DESIGNS,
    TRAINING_DESIGNS,
    UNSEEN_DESIGN,
    class_indices,
    emoji,
    labels,
    voc_labels,
)

__all__ = [
    "BACKGROUNDS",
    "DESIGNS",
    "PETS",
    "TRAINING_DESIGNS",
    "UNSEEN_DESIGN",
    "Background",
    "Box",
    "Pet",
    "Photographs",
    "Stamps",
    "VocFolder",
    "arrays",
    "class_indices",
    "compose",
    "compose_pet",
    "compose_stamp",
    "dataset",
    "emoji",
    "jpeg_bytes",
    "labels",
    "pets",
    "read_voc",
    "save_jpeg",
    "scene",
    "stamps_dataset",
    "voc_labels",
    "write_folder",
    "write_pets",
    "write_voc",
]
