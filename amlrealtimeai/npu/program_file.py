"""One file per program: a zip of program.json and NumPy arrays (.npy), checked on load; nothing is unpickled."""

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from amlrealtimeai.errors import InvalidInputError, NotFoundError, StoreError
from amlrealtimeai.npu.config import NpuConfig
from amlrealtimeai.npu.formats import BlockFormat
from amlrealtimeai.npu.instructions import Chain, Instruction, Matrix, Port, Window

if TYPE_CHECKING:
    from amlrealtimeai.npu.program import Program

FORMAT = "amlrealtimeai.npu"
FORMAT_VERSION = 1
_LARGEST_HEADER = 16 * 2**20
_LARGEST_FILE = 2 * 2**30
_Made = TypeVar("_Made")


def _arrays(program: "Program") -> dict[str, np.ndarray]:
    arrays = {}
    for name, matrix in program.matrices.items():
        arrays[f"matrices/{name}/mantissas"] = matrix.mantissas
        # E fits an int8 (at most 48 either way), which keeps the file small
        arrays[f"matrices/{name}/exponents"] = matrix.exponents.astype(np.int8)
    arrays |= {f"vectors/{name}": vector for name, vector in program.vectors.items()}
    arrays |= {f"indices/{name}": positions for name, positions in program.indices.items()}
    return {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}


def _header(program: "Program") -> dict[str, Any]:
    return {
        "name": program.name,
        "config": asdict(program.config),
        "inputs": [_used(asdict(port), "shape") for port in program.input_ports],
        "outputs": [_used(asdict(port), "shape") for port in program.output_ports],
        "tensors": {name: list(shape) for name, shape in program.tensors.items()},
        "chains": [
            {"name": chain.name, "instructions": [_used(asdict(i), "values") for i in chain.instructions]}
            for chain in program.chains
        ],
        "matrices": {
            name: {"kernel": m.kernel, "channels": m.channels, "blocking": m.blocking}
            | ({"groups": m.groups} if m.groups != 1 else {})
            for name, m in program.matrices.items()
        },
        "vectors": list(program.vectors),
        **({"indices": list(program.indices)} if program.indices else {}),
    }


def _used(document: dict[str, Any], optional: str) -> dict[str, Any]:
    """`document` without the field `optional` where that is empty: files and digests from before it keep their form."""
    return {key: value for key, value in document.items() if key != optional or value}


def _canonical(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def digest(program: "Program") -> str:
    """SHA-256 (hex) over the header and every array with its name, type and shape."""
    return _digest(_header(program), _arrays(program))


def _digest(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    total = hashlib.sha256(_canonical(header))
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def save(program: "Program", path: Path) -> None:
    """Write `program` to `path`: the bytes depend on nothing but the program; the rename comes last."""
    if path.exists() and not path.is_file():
        raise StoreError(f"cannot write the program to {path}: it is no file, and stays")
    contents = {
        "program.json": _canonical(
            {"format": FORMAT, "format_version": FORMAT_VERSION, "digest": program.digest, "program": _header(program)}
        )
    }
    for name, array in _arrays(program).items():
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, allow_pickle=False)
        contents[f"{name}.npy"] = buffer.getvalue()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                with zipfile.ZipFile(file, "w") as archive:
                    for name, data in contents.items():
                        archive.writestr(zipfile.ZipInfo(name), data)
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StoreError(f"cannot write the program to {path}: {error.strerror or error}") from error


def load(path: Path, make: Callable[[dict[str, Any]], _Made]) -> _Made:
    """What `make` makes of the fields that `save` wrote; its errors are those of amlrealtimeai.npu.load."""
    try:
        document, arrays = _read(path)
        header = document["program"]
        if document["digest"] != _digest(header, arrays):
            raise InvalidInputError("its content does not have the digest that it states")
        return make(_fields(header, arrays))
    except FileNotFoundError as error:
        raise NotFoundError(f"no program file at {path}; write one with Program.save(path)") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}. Compile the model again.") from error
    except (
        zipfile.BadZipFile,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        EOFError,
    ) as error:
        raise InvalidInputError(
            f"{path} is not a whole NPU program file ({type(error).__name__}: {error}). Compile the model again."
        ) from error
    except (NotImplementedError, RuntimeError, MemoryError, RecursionError, OverflowError) as error:
        raise InvalidInputError(f"{path} is damaged ({type(error).__name__}). Compile the model again.") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > _LARGEST_FILE or any(info.compress_type for info in infos):
            raise InvalidInputError("expected a stored archive of at most 2 GiB")
        if archive.getinfo("program.json").file_size > _LARGEST_HEADER:
            raise InvalidInputError("its header is larger than 16 MiB")
        document = json.loads(archive.read("program.json"))
        found = (document.get("format"), document.get("format_version"))
        if found != (FORMAT, FORMAT_VERSION):
            raise InvalidInputError(f"expected format {(FORMAT, FORMAT_VERSION)}, found {found}")
        arrays = {}
        for info in infos:
            if info.filename != "program.json":
                # read whole first: that checks the member's CRC before NumPy parses its header
                member = io.BytesIO(archive.read(info))
                arrays[info.filename.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
    return document, arrays


def _fields(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    config = dict(header["config"])
    config["number_format"] = BlockFormat(**config["number_format"])
    matrices = {
        name: Matrix(
            arrays[f"matrices/{name}/mantissas"],
            arrays[f"matrices/{name}/exponents"].astype(np.int32),
            tuple(m["kernel"]),
            m["channels"],
            m["blocking"],
            m.get("groups", 1),
        )
        for name, m in header["matrices"].items()
    }
    return {
        "name": header["name"],
        "config": NpuConfig(**config),
        "input_ports": tuple(_port(port) for port in header["inputs"]),
        "output_ports": tuple(_port(port) for port in header["outputs"]),
        "tensors": {name: tuple(shape) for name, shape in header["tensors"].items()},
        "chains": tuple(_chain(chain) for chain in header["chains"]),
        "matrices": matrices,
        "vectors": {name: arrays[f"vectors/{name}"] for name in header["vectors"]},
        "indices": {name: arrays[f"indices/{name}"] for name in header.get("indices", [])},
    }


def _port(document: dict[str, Any]) -> Port:
    return Port(**{**document, "shape": tuple(document.get("shape", ()))})


def _chain(document: dict[str, Any]) -> Chain:
    instructions = [
        Instruction(
            i["op"],
            tuple(i["operands"]),
            Window(**{key: tuple(value) for key, value in i["window"].items()}) if i["window"] else None,
            tuple(i.get("values", ())),
        )
        for i in document["instructions"]
    ]
    return Chain(document["name"], tuple(instructions))
