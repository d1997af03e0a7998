"""Keras' weight files: reading a .h5, and finding or downloading the ImageNet ones of keras.applications."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai import resources
from amlrealtimeai.accel.models import download, shipped
from amlrealtimeai.errors import WeightsError

_BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"

_LARGEST = 2**28  # numbers of one array: the largest of VGG-16 has 2**27

# Keras' order inside a layer; names inside older files differ, the order never did.
_BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_LINEAR = ("kernel", "bias")
# Older files call the last layer probs (ResNet) or fc1000 (DenseNet), and DenseNet's first ones conv1/conv, conv1/bn.
_NEW_NAMES = {"probs": "predictions", "fc1000": "predictions"}


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays of a Keras .h5 (save_weights or save) as "layer/kernel", float32. Raises WeightsError if unreadable."""
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            arrays = {}
            for layer in map(_text, root.attrs["layer_names"]):
                group = root[layer]
                stored = [_array(group[_text(name)]) for name in group.attrs["weight_names"]]
                kinds = _BATCH_NORM if len(stored) == len(_BATCH_NORM) else _LINEAR
                name = _NEW_NAMES.get(layer, layer.replace("/", "_"))
                arrays.update({f"{name}/{kind}": value for kind, value in zip(kinds, stored, strict=False)})
            return arrays
    except Exception as error:  # h5py and NumPy each raise their own kinds
        raise WeightsError(
            f"{path} is not a Keras weights file ({error or type(error).__name__}). "
            "Write one with model.save_weights('weights.h5') under TF_USE_LEGACY_KERAS=1"
        ) from None


def imagenet(network: str, published: tuple[str, str] | None, folder: Path) -> Path:
    """The ImageNet weights of keras.applications: from `folder`, Keras' cache, or the internet into `folder`.

    published: path under keras-applications/ and MD5. Offline, raises WeightsError within seconds, naming the remedy;
    likewise for a network that keras.applications does not have (None).
    """
    if published is None:
        raise WeightsError(
            f"there are no ImageNet weights of {network}: keras.applications does not have it. "
            "Choose weights='random', or a folder that save_weights wrote to"
        )
    address, digest = _BASE_URL + published[0], published[1]
    name = address.rsplit("/", 1)[1]
    home = resources.user_home()
    for path in (folder / name, *([home / ".keras" / "models" / name] if home else [])):
        if path.is_file():
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != digest:
                raise WeightsError(f"{path} is damaged: its MD5 is not {digest}. Delete it and download it again")
            return path
    target = folder / name
    try:
        download.fetch(address, target, digest)
    except OSError as error:  # urllib's errors are some
        rounded = "weights='photographs', the same but rounded, or " if shipped.ships("photographs", network) else ""
        raise WeightsError(
            f"the ImageNet weights of {network} are not on this computer and cannot be downloaded ({error}). "
            f"Where there is internet run 'curl -O {address}' and put the file at {target}; or use "
            f"{rounded}{offline_choice(network)}"
        ) from None
    return target


def _array(dataset: Any) -> np.ndarray:
    """Its numbers as float32; a file of a few bytes may state any size."""
    if dataset.size > _LARGEST:
        raise ValueError(f"{dataset.name} has {dataset.size} numbers, expected at most {_LARGEST}")
    values = np.asarray(dataset, np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{dataset.name} holds NaN or infinity")
    return values


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def offline_choice(network: str) -> str:
    """The weights that a network has on every computer: "weights='workshop'" where such ship, else random ones."""
    return f"weights={'workshop' if shipped.ships('workshop', network) else 'random'!r}"
