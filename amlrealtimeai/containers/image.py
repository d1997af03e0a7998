"""Build a container image from one converted model: four layers, the lower three remembered between builds."""

import errno
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from amlrealtimeai.containers import app, base, packages, sbom
from amlrealtimeai.containers.archive import write_image
from amlrealtimeai.containers.bytecode import compiled
from amlrealtimeai.containers.cache import LayerCache, default_folder
from amlrealtimeai.containers.configuration import ModelFile, check_model, check_reference, configuration
from amlrealtimeai.containers.files import replacing
from amlrealtimeai.containers.layer import CHUNK, Entry, Packed, fingerprint, pack
from amlrealtimeai.errors import ContainerError

# Measured on the four layers: level 6 is 3 % smaller and takes twice as long.
_LEVEL = 4


@dataclass(frozen=True)
class LayerInfo:
    """One layer: kind (base, packages, app, model), digest of the tar.gz, bytes packed and unpacked."""

    kind: str
    digest: str
    size: int
    content_size: int
    cached: bool


@dataclass(frozen=True)
class ImageInfo:
    """A built image: the tar at `path`, its manifest `digest` and configuration `id` ("sha256:..."), bytes, seconds.

    sbom: what is in it, a CycloneDX document, as it also lies in the image (sbom.PLACE).
    """

    path: Path
    digest: str
    size: int
    seconds: float
    layers: tuple[LayerInfo, ...]
    name: str
    tag: str
    id: str
    sbom: str = field(default="", repr=False)

    @property
    def reference(self) -> str:
        """`name:tag`."""
        return f"{self.name}:{self.tag}"

    def __str__(self) -> str:
        cached = sum(layer.cached for layer in self.layers)
        return (
            f"{self.reference}  {self.size / 1e6:.1f} MB in {self.seconds:.1f} s  {self.digest}  "
            f"({len(self.layers)} layers, {cached} from the cache)"
        )


class _Progress:
    """A tqdm bar over content bytes, fed by two threads at once; silent when not asked for."""

    def __init__(self, total: int, show: bool) -> None:
        self._lock = Lock()
        self._bar: Any = None
        if show:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, desc="container image")

    def add(self, count: int) -> None:
        """`count` more bytes are in the image."""
        if self._bar is not None:
            with self._lock:
                self._bar.total = max(self._bar.total, self._bar.n + count)
                self._bar.update(count)

    def close(self) -> None:
        """End the bar; what it counted is the whole."""
        if self._bar is not None:
            self._bar.total = self._bar.n
            self._bar.close()


def build_image(model: str | Path, out: str | Path, *, name: str, tag: str, show_progress: bool = False) -> ImageInfo:
    """Write the OCI image that serves the converted model `model` to the tar file `out`.

    The same inputs give the same bytes. `out` appears whole or not at all. Raises InvalidInputError for a bad name, tag
    or model file, NotFoundError for a missing model, UnsupportedError on a system whose interpreter cannot go into a
    Linux image (use `dockerfile` there), ContainerError when the image cannot be written.
    """
    started = time.perf_counter()
    out = Path(out)
    check_reference(name, tag)
    architecture = base.architecture()
    checked = check_model(model)
    try:
        with ExitStack() as stack:
            file = stack.enter_context(replacing(out))
            contents = _contents()
            bill = sbom.document(checked, name, tag, _libraries(contents["base"]))
            layers = _layers(checked, contents, bill, stack, out.parent, show_progress)
            config = configuration(checked, name, tag, architecture)
            image = write_image(file, f"{name}:{tag}", config, [(packed, source) for _, packed, source, _ in layers])
    except OSError as error:
        raise ContainerError(f"the image {out} could not be written: {_reason(error, out)}") from error
    infos = tuple(LayerInfo(kind, p.digest, p.size, p.content_size, cached) for kind, p, _, cached in layers)
    seconds = time.perf_counter() - started
    return ImageInfo(out, image.digest, out.stat().st_size, seconds, infos, name, tag, image.id, bill.decode())


def _reason(error: OSError, out: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        places = f"{out.parent}, {default_folder()} and {tempfile.gettempdir()}"
        return f"{error.strerror}. It needs about 300 MB in {places} together."
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} was removed meanwhile; build the image again"
    return f"{error}; check that {out.parent} and {default_folder()} can be written"


_Made = tuple[str, Packed, BinaryIO, bool]


def _contents() -> dict[str, list[Entry]]:
    """What goes into the layers that images share."""
    site = packages.entries()
    extensions = [entry.data for entry in site if isinstance(entry.data, Path) and packages.is_library(entry.name)]
    return {"base": base.entries(extensions), "packages": site, "app": app.entries()}


def _libraries(entries: list[Entry]) -> list[str]:
    """The shared libraries among them, without Python's own extension modules."""
    names = [entry.name for entry in entries if packages.is_library(entry.name)]
    return [name for name in names if not name.startswith(base.STDLIB)]


def _layers(
    model: ModelFile,
    contents: dict[str, list[Entry]],
    bill: bytes,
    stack: ExitStack,
    folder: Path,
    show_progress: bool,
) -> list[_Made]:
    """(kind, what was packed, the tar.gz, from the cache or not), lowest layer first; `stack` closes the files."""
    model_entry = Entry(f"model/{model.path.name}", model.path)
    total = sum(entry.size for entries in contents.values() for entry in entries) + model_entry.size
    progress = _Progress(total, show_progress)
    cache = LayerCache(default_folder())
    stack.callback(progress.close)
    work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amlrealtimeai-")))
    with ThreadPoolExecutor(2) as threads:
        jobs = [
            threads.submit(_remembered, cache, kind, entries, work, progress.add)
            for kind, entries in sorted(contents.items(), key=lambda item: item[0] != "packages")
        ]
        made = {result[0]: result for result in (job.result() for job in jobs)}
    for result in made.values():
        stack.enter_context(result[2])
    # A file without a name: a killed build leaves nothing of it.
    file = stack.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
    packed = pack([model_entry, Entry(sbom.PLACE, bill)], file, _model_level(model.path), progress.add)
    file.seek(0)
    return [made["base"], made["packages"], made["app"], ("model", packed, file, False)]


def _remembered(
    cache: LayerCache, kind: str, entries: list[Entry], work: Path, on_bytes: Callable[[int], None]
) -> _Made:
    key = fingerprint(entries, kind, _recipe())
    if found := cache.find(kind, key):
        on_bytes(found[0].content_size)
        return kind, *found, True

    def write(file: BinaryIO) -> Packed:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            packed = pack(entries + compiled(entries, Path(folder)), file, _LEVEL, on_bytes)
        if fingerprint(entries, kind, _recipe()) != key:
            raise _ChangedError(f"files of the {kind} layer changed while they were packed; build the image again")
        return packed

    try:
        return kind, *cache.store(kind, key, write), False
    except _ChangedError:
        key = fingerprint(entries, kind, _recipe())
        return kind, *cache.store(kind, key, write), False


class _ChangedError(ContainerError):
    """Somebody edits the files that go into a layer."""


def _recipe() -> str:
    """Changes when layers are made differently: this room's code, the compressor, the byte code's version."""
    room = Path(__file__).resolve().parent
    code = [Entry(path.name, path) for path in room.glob("*.py")]
    return fingerprint(code, zlib.ZLIB_RUNTIME_VERSION, base.VERSION, str(_LEVEL))


def _model_level(path: Path) -> int:
    """0 (gzip without compression) for a model that hardly shrinks, judged by a piece from its middle.

    Weights shrink by about 7 %, and compressing them takes longer than all the rest.
    """
    with path.open("rb") as file:
        file.seek(path.stat().st_size // 2)
        sample = file.read(CHUNK)
    return 0 if len(zlib.compress(sample, 1)) > 0.85 * len(sample) else 1
