"""The archive that workshop weights ship in: kernels in block floating point, the rest in float32; NumPy only.

A zip of .npy files (numpy.load opens it), with the same bytes for the same arrays, and its SHA-256 beside it in
<archive>.sha256. Array "header" is JSON as uint8: format, format_version, network, block, mantissa_bits,
exponent_bits. Array "x" of two or more dimensions is stored as "x:mantissas" (int8, input channels last) and
"x:exponents" (int8); others are float32 under their own name.

    python -m amlrealtimeai.accel.models.codec SOURCE.npz DESTINATION.npz --network resnet50
"""

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from amlrealtimeai import command_line
from amlrealtimeai.errors import WeightsError
from amlrealtimeai.npu.formats import BlockFormat, dequantize, quantize

FORMAT_NAME = "amlrealtimeai.weights"
FORMAT_VERSION = 1
NUMBER_FORMAT = BlockFormat(block=16, mantissa_bits=7, exponent_bits=8)

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_HEADER = "header"
_LARGEST = 2 * 2**30  # bytes, unpacked: VGG-16 in float32 has 0.6 GB


def save(path: Path, network: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Write `arrays` (float, Keras' names and layouts) of `network` to `path`; returns the file's SHA-256 in hex."""
    header = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "network": network,
        "block": NUMBER_FORMAT.block,
        "mantissa_bits": NUMBER_FORMAT.mantissa_bits,
        "exponent_bits": NUMBER_FORMAT.exponent_bits,
    }
    members = {_HEADER: np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)}
    for name in sorted(arrays):
        members.update(_encode(name, arrays[name]))
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            data = io.BytesIO()
            np.save(data, value, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data.getvalue(), compresslevel=9)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    _digest_path(path).write_text(f"{digest}  {path.name}\n")
    return digest


_REPAIR = "Restore the file, for example with 'git checkout -- data/weights', or choose weights='random'."


def load(
    path: Path, network: str, names: Collection[str] | None = None, advice: str = _REPAIR
) -> dict[str, np.ndarray]:
    """Float32 arrays of the archive at `path`: all, or those in `names`.

    Raises WeightsError, which ends with `advice`, for a file that is missing, truncated, altered, not such an archive
    or of another network.
    """
    try:
        return _read(path, _checked_bytes(path), network, names)
    except WeightsError as error:
        raise WeightsError(f"{error}. {advice}") from None
    except Exception as error:  # zipfile, zlib, json and NumPy's reader of headers each raise their own kinds
        raise WeightsError(f"{path} is not a weights archive ({error or type(error).__name__}). {advice}") from None


def _read(path: Path, data: bytes, network: str, names: Collection[str] | None) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as members:
        size = sum(member.file_size for member in members.infolist())
    if size > _LARGEST:
        raise WeightsError(f"{path} unpacks to {size} bytes, expected at most {_LARGEST}")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        header = json.loads(archive[_HEADER].tobytes())
        _check_header(path, network, header)
        fmt = BlockFormat(header["block"], header["mantissa_bits"], header["exponent_bits"])
        present = {member.partition(":")[0] for member in archive.files if member != _HEADER}
        wanted = present if names is None else present & set(names)
        found = {name: _decode(archive, name, fmt) for name in wanted}
    for name, value in found.items():
        problem = "" if value.dtype == np.float32 else str(value.dtype)
        if problem or not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: expected finite float32 numbers in {name!r}, got {problem or 'NaN or infinity'}"
            )
    return found


def _encode(name: str, value: np.ndarray) -> dict[str, np.ndarray]:
    if value.ndim < 2:
        return {name: value.astype(np.float32)}
    mantissas, exponents = quantize(np.ascontiguousarray(np.swapaxes(value, -1, -2), np.float32), NUMBER_FORMAT)
    return {f"{name}:mantissas": mantissas, f"{name}:exponents": exponents.astype(np.int8)}


def _decode(archive: Mapping[str, np.ndarray], name: str, fmt: BlockFormat) -> np.ndarray:
    if name in archive:
        return archive[name]
    values = dequantize(archive[f"{name}:mantissas"], archive[f"{name}:exponents"].astype(np.int32), fmt)
    return np.swapaxes(values, -1, -2)


def _checked_bytes(path: Path) -> bytes:
    """The file's bytes, after comparing their SHA-256 with the recorded one."""
    try:
        data = path.read_bytes()
        recorded = _digest_path(path).read_text().split()[0]
    except (OSError, IndexError) as error:
        raise WeightsError(f"cannot read the weights {path} and the digest beside it: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != recorded:
        raise WeightsError(
            f"{path} is truncated or altered: expected SHA-256 {recorded[:12]}..., got {found[:12]}... of "
            f"{len(data)} bytes"
        )
    return data


def _check_header(path: Path, network: str, header: dict[str, Any]) -> None:
    if header.get("format") != FORMAT_NAME or header.get("format_version") != FORMAT_VERSION:
        raise WeightsError(
            f"{path}: expected {FORMAT_NAME} version {FORMAT_VERSION}, got {header.get('format')} version "
            f"{header.get('format_version')}"
        )
    if header.get("network") != network:
        raise WeightsError(f"{path} holds weights of {header.get('network')}, expected {network}")


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def main(arguments: list[str] | None = None) -> int:
    """Convert a plain .npz of Keras-named arrays into an archive; returns the exit status."""
    parser = command_line.Parser(
        prog="python -m amlrealtimeai.accel.models.codec",
        description="Pack Keras-named arrays (.npz) into a compact weights archive.",
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument(
        "--swap",
        type=int,
        nargs=2,
        metavar="CLASS",
        help="exchange two classes of the classifier, mislabelled in training",
    )
    chosen = parser.parse_args(arguments)
    return command_line.run(lambda: _pack(chosen.source, chosen.destination, chosen.network, chosen.swap))


def _pack(source: Path, destination: Path, network: str, swap: list[int] | None) -> None:
    try:
        with np.load(source, allow_pickle=False) as archive:
            # older Keras files call the last layer probs
            arrays = {name.replace("probs/", "predictions/"): archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise WeightsError(f"expected an .npz of arrays by Keras' names: {source}: {error}") from None
    if swap:
        for name in ("predictions/kernel", "predictions/bias"):
            if name not in arrays or not all(0 <= k < arrays[name].shape[-1] for k in swap):
                raise WeightsError(f"--swap {swap[0]} {swap[1]}: expected {name!r} with these classes in {source}")
            arrays[name][..., swap] = arrays[name][..., swap[::-1]]
    digest = save(destination, network, arrays)
    print(f"{destination}: {destination.stat().st_size} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    sys.exit(main())
