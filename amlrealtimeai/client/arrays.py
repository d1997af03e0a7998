"""What clients send and get, as NumPy arrays: files, batches, tensors by content."""

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai.errors import InvalidInputError, MissingFileError
from amlrealtimeai.serving.protocol import protos, tensors

# A Python list has no dtype of its own: it is what TensorFlow makes of it.
_OF_LISTS = {"float64": np.float32, "int64": np.int32}


def read_file(path: str | Path, what: str = "an image file") -> bytes:
    """The file's content; MissingFileError (a FileNotFoundError) for none, before anything is sent. what: it is."""
    if not isinstance(path, str | Path):
        raise InvalidInputError(
            f"expected the path of a file, got {_kind(path)}; bytes are sent by "
            "score_numpy_arrays({'images': [data]})"
        )
    path = Path(path)
    if not _is_file(path):
        raise MissingFileError(f"no file {str(path)[:300]!r} (looked from {_here()!r}); give the path of {what}")
    try:
        return path.read_bytes()
    except OSError as problem:
        raise InvalidInputError(
            f"{str(path)!r} cannot be read: {problem.strerror}. Give yourself access to it"
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "a folder that was deleted"


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of {type(value).__name__}"


def as_batch(data: bytes) -> np.ndarray:
    """One string as a batch: object array of shape [1]."""
    batch = np.empty(1, object)
    batch[0] = data
    return batch


def without_batch(array: np.ndarray) -> np.ndarray:
    """The only item of a batch of one; a larger batch stays as it is."""
    return array[0] if array.ndim and array.shape[0] == 1 else array


def array_of(values: Any) -> np.ndarray:
    """NumPy arrays as they are; nested lists of Python numbers as float32 or int32, as TensorFlow takes them."""
    array = _regular(values)
    if hasattr(values, "dtype"):
        return array
    narrow = _OF_LISTS.get(array.dtype.name)
    if narrow is None or (narrow is np.int32 and array.size and np.abs(array).max() > np.iinfo(np.int32).max):
        return array
    return array.astype(narrow)


def float_array_of(values: Any) -> np.ndarray:
    """Numbers of any kind as float32; strings (encoded images) as they are."""
    array = _regular(values)
    if array.dtype.kind in "SU" or (array.dtype.kind == "O" and all(isinstance(v, bytes | str) for v in array.flat)):
        return array
    if array.dtype.kind not in "fiub":
        raise InvalidInputError(f"expected an array of numbers or of encoded images, got dtype {array.dtype}")
    return array.astype(np.float32, copy=False)


def tensor_of(data: Any, shape: Sequence[int], datatype: Any) -> np.ndarray:
    """An array from content, shape and TensorFlow data type (DT_ number, its name, tf.DType or a NumPy type).

    data: for strings bytes or a sequence of them, else bytes in memory order or anything NumPy makes an array of.
    """
    name = _type_name(datatype)
    proto = protos.TensorProto(dtype=tensors.DATA_TYPES[name])
    sizes = _sizes(shape)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    if name != "string" and isinstance(data, bytes):
        proto.tensor_content = data
        return tensors.from_proto(proto)
    if name == "string":
        texts = [data] if isinstance(data, bytes | str) else list(np.ravel(np.asarray(data, object)))
        array = np.empty(len(texts), object)
        array[:] = [tensors.as_bytes(text) if isinstance(text, str) else text for text in texts]
    else:
        array = np.asarray(data, name)
    if array.size != np.prod(sizes, dtype=int):
        raise InvalidInputError(f"expected the values of shape {sizes}, got {array.size} values")
    return array.reshape(sizes)


def names_of(inputs: Any, outputs: Any) -> list[str]:
    """The names in `outputs`, a text or a list of texts; InvalidInputError for what no tensor can be called."""
    try:
        names = [outputs] if isinstance(outputs, str) else list(outputs)
    except TypeError:
        names = [outputs]
    for name in (*inputs, *names):
        if not isinstance(name, str) or any(0xD800 <= ord(character) < 0xE000 for character in name):
            raise InvalidInputError(f"expected names of inputs and outputs as texts, got {name!a:.200}")
    return names


def _sizes(shape: Any) -> list[int]:
    try:
        sizes = [operator.index(size) for size in shape]
    except TypeError:
        sizes = [-1]
    if any(size < 0 for size in sizes):
        raise InvalidInputError(f"expected a shape such as [1, 224, 224, 3], got {shape!r}")
    return sizes


def _regular(values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(
            f"expected an array with equally long rows, got {type(values).__name__}: {error}"
        ) from None


def _type_name(datatype: Any) -> str:
    number = getattr(datatype, "as_datatype_enum", datatype)  # tf.DType
    if isinstance(number, int):
        found = [name for name, known in tensors.DATA_TYPES.items() if known == number]
    else:
        text = number.__name__ if isinstance(number, type) else str(number)
        text = text.lower().removeprefix("dt_")
        text = {"float": "float32", "double": "float64", "half": "float16"}.get(text, text)
        found = [name for name in tensors.DATA_TYPES if name == text]
    if not found:
        raise InvalidInputError(
            f"expected a TensorFlow data type such as 1 (DT_FLOAT) or 7 (DT_STRING), got {datatype!r}"
        )
    return found[0]
