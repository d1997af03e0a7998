"""From the bytes of an image file to the RGB pixels of a window of it."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin

from amlrealtimeai.artifact.images import gif, jpeg, png
from amlrealtimeai.artifact.images.errors import DamagedError, RefusedError
from amlrealtimeai.errors import InvalidInputError

Box = tuple[int, int, int, int]  # left, top, right, bottom

_BLOCK = 1 << 16  # bytes that are decoded between two looks at the deadline
_BLOCK_OF_MANY_SCANS = 1 << 10  # twenty bytes may go over the whole picture
_SCANS_AT_LARGEST = 16  # of an image with as many pixels as are allowed; a smaller one may have more
_BASE64 = 'it is base64 text; send the bytes that it stands for, in JSON as {"b64": "..."}'
# What people send instead, by how it begins.
_INSTEAD = (
    (b"/9j/", _BASE64),
    (b"iVBORw0KGgo", _BASE64),
    (b"R0lGOD", _BASE64),
    (b"data:", "it is a data: URI; send the bytes that the base64 behind its comma stands for"),
    (b"\xc3\xbf\xc3\x98", "its bytes were made into text; open the file in binary mode"),
    (b"\xc2\x89PNG", "its bytes were made into text; open the file in binary mode"),
    (b"\xef\xbf\xbd", "its bytes were made into text, and lost; open the file in binary mode"),
    (b"b'\\x", "it is Python's way to print bytes; send the bytes themselves"),
    (b"<", "it is a web page or XML, perhaps what a failed download left"),
    (b"RIFF", "it may be a WebP file; save it as PNG"),
    (b"BM", "it may be a BMP file; save it as PNG"),
    (b"II*\0", "it is a TIFF file; save it as PNG"),
    (b"MM\0*", "it is a TIFF file; save it as PNG"),
    (b"%PDF", "it is a PDF file; save its picture as PNG"),
    (b"\0\0\1\0", "it may be an icon; save it as PNG"),
    (b"\0\0\0\x0cjP", "it is a JPEG 2000 file; save it as PNG"),
)
_ISO_MEDIA = b"ftyp"  # behind the four bytes of a size


class _File(io.BytesIO):
    """The bytes that Pillow reads; it does not have them all at once, so that a deadline can come between."""

    def __init__(self, data: bytes, check: Callable[[], None], block: int) -> None:
        super().__init__(data)
        self._check = check
        self._block = block
        self._checked = -block  # place of the last look at the deadline: a header is read in many small pieces
        self.ended: BaseException | None = None

    def read(self, size: int | None = -1) -> bytes:
        """As BytesIO's, unless the reading has to end."""
        if self.tell() - self._checked >= self._block:
            self._checked = self.tell()
            try:
                self._check()
            except BaseException as error:
                self.ended = error  # Pillow may take it for a damaged file
                raise
        return super().read(size)


class Picture:
    """A picture whose pixels have not been decoded: `width`, `height`."""

    kind = ""

    def __init__(
        self, plugin: Any, data: bytes, width: int, height: int, check: Callable[[], None], block: int = _BLOCK
    ) -> None:
        """`plugin`: Pillow's class for the format; Pillow's own bound on pixels is not asked."""
        self.width = width
        self.height = height
        self._file = _File(data, check, block)
        self._image = self._guarded(lambda: plugin(self._file))
        self._image.decodermaxblock = block

    def rgb(self, box: Box) -> np.ndarray:
        """Decode; the uint8 RGB pixels of the box. Raises InvalidInputError for a damaged file."""
        with _damage_named(self.kind):
            self._guarded(self._image.load)
            return self._window(box)

    def _window(self, box: Box) -> np.ndarray:
        image = self._image
        if box != (0, 0, image.width, image.height):
            image = image._new(image.im.crop(box))  # crop() itself would ask Pillow's own bound on pixels
        return self._colours(image)

    def _colours(self, window: Any) -> np.ndarray:
        if window.mode == "CMYK":
            return _rgb_of_cmyk(np.asarray(window), adobe="adobe" in self._image.info)
        if window.mode.startswith("I"):  # 16 bit grey
            grey = (np.asarray(window) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.asarray(window.convert("RGB") if window.mode != "RGB" else window)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """Do Pillow's work; whatever it raises says that the file is damaged, unless the reading had to end."""
        try:
            return work()
        except Exception as error:  # OSError, SyntaxError, struct.error and others
            if self._file.ended is not None:
                raise self._file.ended from None
            raise DamagedError(str(error)) from None


class _GifPicture(Picture):
    """A frame in the place that it has in a picture of its own size; what it does not cover is black."""

    def __init__(self, frame: gif.Gif, check: Callable[[], None]) -> None:
        super().__init__(GifImagePlugin.GifImageFile, frame.data, frame.width, frame.height, check)
        self._frame = frame

    def _window(self, box: Box) -> np.ndarray:
        frame, canvas = self._frame, np.zeros((self.height, self.width, 3), np.uint8)
        indices = np.asarray(self._image)[: max(self.height - frame.top, 0), : max(self.width - frame.left, 0)]
        if not frame.allowed[indices].all():
            raise DamagedError("it has pixels of colours that are not in its table")
        canvas[frame.top :, frame.left :] = frame.colours[indices]
        left, top, right, bottom = box
        return canvas[top:bottom, left:right]


def open_picture(data: Any, max_pixels: int, check: Callable[[], None]) -> Picture:
    """Read the header of an image file. `check` is called while decoding: what it raises ends it.

    Raises InvalidInputError for what is not a whole JPEG, PNG or GIF of one frame, or has more than `max_pixels`.
    """
    if not isinstance(data, bytes):
        raise InvalidInputError(f"expected the bytes of a JPEG or PNG file, got {type(data).__name__}")
    if not data:
        raise InvalidInputError("expected the bytes of a JPEG or PNG file, got none")
    kind = next((kind for kind, (magic, _) in _KINDS.items() if data.startswith(magic)), None)
    if kind is None:
        raise InvalidInputError(
            f"not a JPEG or PNG image, nor a GIF ({len(data)} bytes that begin with {data[:8]!r}): {_hint(data)}"
        )
    with _damage_named(kind):
        picture = _KINDS[kind][1](data, max_pixels, check)
        picture.kind = kind
        return picture


def _hint(data: bytes) -> str:
    if data[4:8] == _ISO_MEDIA:
        return "it may be a telephone's photograph (HEIC, AVIF) or a film; save it as JPEG"
    return next((hint for beginning, hint in _INSTEAD if data.startswith(beginning)), "send the file as it is")


def _open_jpeg(data: bytes, max_pixels: int, check: Callable[[], None]) -> Picture:
    found = jpeg.read(data)
    _check_size(found.width, found.height, max_pixels)
    if found.scans * found.width * found.height > _SCANS_AT_LARGEST * max_pixels:
        raise RefusedError(
            f"it goes over its {found.width} x {found.height} pixels {found.scans} times, too often for its size "
            f"(max_pixels = {max_pixels}); save it anew, or as baseline JPEG"
        )
    block = _BLOCK if found.scans <= _SCANS_AT_LARGEST else _BLOCK_OF_MANY_SCANS
    return Picture(JpegImagePlugin.JpegImageFile, found.data, found.width, found.height, check, block)


def _open_png(data: bytes, max_pixels: int, check: Callable[[], None]) -> Picture:
    needed, width, height = png.read(data)
    _check_size(width, height, max_pixels)
    return Picture(PngImagePlugin.PngImageFile, needed, width, height, check)


def _open_gif(data: bytes, max_pixels: int, check: Callable[[], None]) -> Picture:
    frame = gif.read(data)
    _check_size(frame.width, frame.height, max_pixels)
    return _GifPicture(frame, check)


_KINDS = {"JPEG": (jpeg.MAGIC, _open_jpeg), "PNG": (png.MAGIC, _open_png), "GIF": (gif.MAGIC, _open_gif)}


@contextmanager
def _damage_named(kind: str) -> Iterator[None]:
    try:
        yield
    except DamagedError as error:
        raise InvalidInputError(f"a damaged {kind} image: {error}; send the file as it is") from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if not width * height:
        raise DamagedError(f"it has {width} x {height} pixels")
    if width * height > max_pixels:
        raise RefusedError(
            f"{width} x {height} has more than {max_pixels} pixels, the limit (max_pixels = {max_pixels}); "
            "send a smaller image"
        )


def _rgb_of_cmyk(pixels: np.ndarray, adobe: bool) -> np.ndarray:
    """TensorFlow's conversion (jpeg_mem.cc); Pillow inverts what comes with Adobe's marker."""
    ink = pixels.astype(np.uint16)
    if adobe:
        ink = 255 - ink
    return (ink[:, :, :3] * ink[:, :, 3:] // 255).astype(np.uint8)
