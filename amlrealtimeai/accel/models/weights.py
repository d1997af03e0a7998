"""Where weights come from: a name of NAMED, a checkpoint's folder, a Keras .h5 file, or an archive.

Named sources use Keras' names and layouts, checkpoints the variables' own names; both end as one list of values.
"""

import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amlrealtimeai.accel.models import codec, keras_file, shipped
from amlrealtimeai.errors import NotFoundError, WeightsError

if TYPE_CHECKING:
    from amlrealtimeai.accel.models.base import Network
    from amlrealtimeai.accel.models.layers import Entry

ENVIRONMENT_VARIABLE = "AMLREALTIMEAI_WEIGHTS"
NAMED = ("workshop", "imagenet", "random", "photographs")

_DEFAULT = "workshop"
_ANOTHER_ARCHIVE = "Give an archive that 'python -m amlrealtimeai.lab.training' wrote, with its .sha256 beside it."
_log = logging.getLogger(__name__)

Source = str | Path


def resolve(weights: str | os.PathLike[str] | None, network: "Network") -> Source:
    """The source that `weights` means: a name of NAMED, or an existing folder, .h5 file or archive (.npz).

    None reads the environment variable AMLREALTIMEAI_WEIGHTS, else "workshop"; a network for which none ship falls back
    to "random", said in one line. Raises WeightsError for a name or path that does not exist.
    """
    chosen = os.fspath(weights) if weights is not None else os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen in NAMED:
        return chosen
    if chosen:
        return _existing(Path(chosen).expanduser())
    if shipped.ships(_DEFAULT, network.name):
        return _DEFAULT
    _log.warning(
        "No workshop weights ship for %s yet: using random ones%s.",
        network.name,
        "; weights='imagenet' downloads real ones" if network.keras_file else "",
    )
    return "random"


def values(source: Source, network: "Network", folder: Path, entries: Sequence["Entry"]) -> list[np.ndarray]:
    """Float32 values for `entries`, in their order. folder: where ImageNet weights may lie beside Keras' own cache.

    Raises WeightsError when the source is missing, damaged or belongs to another network.
    """
    if source == "random":
        _log.warning("%s has random weights: good for measuring time; its predictions mean nothing.", network.name)
        return [_random(e.key, e.shape, e.typical) for e in entries]
    if isinstance(source, Path) and _is_saved(source):
        return _checkpoint_values(source, network, entries)
    arrays = _arrays(source, network, folder)
    found = []
    for entry in entries:
        value = _checked(arrays, entry.key, entry.stored_shape or entry.shape, source, network).reshape(entry.shape)
        if entry.minus in arrays:
            value = value - arrays[entry.minus]
        found.append(value[:, :, ::-1, :] if entry.swap_colours else value)
    return found


def classifier_values(source: Source, network: "Network", folder: Path) -> dict[str, np.ndarray]:
    """The default classifier's arrays by Keras' names. A checkpoint holds no classifier: then the default source's."""
    if isinstance(source, Path) and _is_saved(source):
        source = resolve(None, network)
        source = _DEFAULT if isinstance(source, Path) and _is_saved(source) else source
    shapes = network.classifier_shapes
    if source == "random":
        return {key: _random(key, shape) for key, shape in shapes.items()}
    arrays = _arrays(source, network, folder, list(shapes))
    return {key: _checked(arrays, key, shape, source, network) for key, shape in shapes.items()}


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is the prefix that save_weights returned."""
    return bool(path.name) and path.with_name(f"{path.name}.index").is_file()


def _is_saved(path: Path) -> bool:
    return path.is_dir() or is_checkpoint(path)


def _existing(path: Path) -> Path:
    if _is_saved(path) or (path.suffix in (".h5", ".npz") and path.is_file()):
        return path
    raise WeightsError(
        f"there are no weights {str(path)!r}: expected one of {', '.join(NAMED)}, a folder that save_weights wrote to, "
        "a Keras .h5 file, or an archive .npz that training wrote"
    )


def _archive(source: str, network: str) -> Path:
    try:
        return shipped.archive(source, network)
    except NotFoundError as error:
        raise WeightsError(
            f"no {source} weights for {network}: use {keras_file.offline_choice(network)}. For a network that has "
            f"such: {error}"
        ) from None


def _arrays(
    source: Source, network: "Network", folder: Path, names: Sequence[str] | None = None
) -> Mapping[str, np.ndarray]:
    if isinstance(source, Path):
        if source.suffix == ".npz":
            return codec.load(source, network.name, names, _ANOTHER_ARCHIVE)
        return keras_file.read(source)
    if source == "imagenet":
        return keras_file.read(keras_file.imagenet(network.name, network.keras_file, folder))
    return codec.load(_archive(source, network.name), network.name, names)


def _checked(
    arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...], source: Source, network: "Network"
) -> np.ndarray:
    value = arrays.get(name)
    if value is None or value.shape != shape:
        got = "nothing" if value is None else f"shape {list(value.shape)}"
        raise WeightsError(
            f"the weights {str(source)!r} are not those of {network.name}: expected {name!r} of shape {list(shape)}, "
            f"got {got}. Choose weights saved from {network.name}, or {keras_file.offline_choice(network.name)}"
        )
    return value


def _checkpoint_values(place: Path, network: "Network", entries: Sequence["Entry"]) -> list[np.ndarray]:
    import tensorflow as tf

    prefix = str(place) if is_checkpoint(place) else tf.train.latest_checkpoint(str(place))
    if prefix is None:
        raise WeightsError(
            f"there is no checkpoint in {str(place)!r}. Write one with "
            "model.save_weights(os.path.join(folder, 'weights'), session)"
        )
    try:
        reader = tf.train.load_checkpoint(prefix)
        present = reader.get_variable_to_shape_map()
        arrays = {entry.name: reader.get_tensor(entry.name) for entry in entries if entry.name in present}
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"the checkpoint {prefix} cannot be read ({reason}). Save it again") from None
    return [_checked(arrays, entry.name, entry.shape, prefix, network) for entry in entries]


def _random(key: str, shape: tuple[int, ...], typical: float | None = None) -> np.ndarray:
    """Seeded by the key: kernels scaled to their fan-in (He), everything else close to its usual value."""
    normal = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, np.float32)
    if len(shape) > 1:
        return normal * np.float32(np.sqrt(2 / np.prod(shape[:-1])) * (1.0 if typical is None else typical))
    centre = (1.0 if key.endswith(("gamma", "variance")) else 0.0) if typical is None else typical
    return np.float32(centre) + np.float32(0.1 * (abs(centre) or 1.0)) * np.clip(normal, -3, 3)
