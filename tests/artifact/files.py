"""Image files made by hand, for what no encoder writes."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.serving.models import encode, picture

SMALL = picture(60, 50)
WIDTH, HEIGHT = 23, 17


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    depth: int,
    colour: int,
    rows: bytes,
    before: bytes = b"",
    after: bytes = b"",
    size: tuple = (WIDTH, HEIGHT),
    adam7=0,
) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, adam7)
    parts = [chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)), after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rows(bits: int, seed: int = 0) -> bytes:
    """Unfiltered rows of random pixels."""
    random = np.random.default_rng(seed)
    return b"".join(b"\0" + random.bytes((WIDTH * bits + 7) // 8) for _ in range(HEIGHT))


def interlaced(pixels: np.ndarray) -> bytes:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


def gif(
    frame: tuple[int, int] = (20, 20),
    place: tuple[int, int] = (0, 0),
    *,
    screen: tuple[int, int] = (20, 20),
    local: bool = False,
    transparent: int | None = None,
    colours: int = 4,
    frames: int = 1,
) -> bytes:
    """A GIF of indices 0 to 3 in codes of three bits, cleared so often that they stay three bits wide."""
    flags = 0x80 | (colours.bit_length() - 2)
    table = bytes(range(10, 10 + 3 * colours))
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0 if local else flags, 1, 0) + (b"" if local else table)
    image = b"" if transparent is None else b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    image += b"\x2c" + struct.pack("<HHHHB", *place, *frame, flags if local else 0) + (table if local else b"")
    bits = (
        "".join(
            f"{code:03b}"[::-1]
            for index in range(frame[0] * frame[1])
            for code in ([4] if index % 2 == 0 else []) + [index * 7 // 3 % 4]
        )
        + f"{5:03b}"[::-1]
    )
    codes = bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    blocks = [codes[start : start + 255] for start in range(0, len(codes), 255)]
    image += b"\x02" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return data + image * frames + b";"


def adobe(jpeg: bytes, transform: int) -> bytes:
    """With Adobe's marker, which says how colours are coded."""
    if b"Adobe" in jpeg:
        place = jpeg.index(b"Adobe") + 11
        return jpeg[:place] + bytes([transform]) + jpeg[place + 1 :]
    return jpeg[:2] + b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + jpeg[2:]


def repeated_scans(times: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = encode(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * times + b"\xff\xd9"


def animation(kind: str) -> bytes:
    return encode(SMALL, kind, save_all=True, append_images=[SMALL.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])


def accepted() -> dict[str, bytes]:
    """What TensorFlow's decode_jpeg(channels=3) takes."""
    jpeg, bomb = encode(SMALL, "JPEG", quality=90), zlib.compress(bytes(4 << 20))
    cmyk = encode(SMALL.convert("CMYK"), "JPEG")
    middle = len(jpeg) // 2
    made = {
        "gif": encode(SMALL.convert("P"), "GIF"),
        "gif interlaced": encode(SMALL.convert("P"), "GIF", interlace=1),
        "gif transparent": encode(SMALL.convert("P"), "GIF", transparency=5),
        "gif grey": encode(SMALL.convert("L"), "GIF"),
        "gif without its end": gif()[:-1],
        "gif and more": gif() + b"more",
        "gif, small frame": gif((10, 8), (3, 4)),
        "gif, frame larger than screen": gif((30, 10), (3, 4)),
        "gif, frame outside": gif((5, 5), (9, 9)),
        "gif, local colours": gif(local=True),
        "gif, transparent index": gif((10, 8), (3, 4), transparent=2),
        "gif, transparent index beyond the table": gif(transparent=3, colours=4),
        "gif 1x1": gif((1, 1), screen=(1, 1)),
        "gif, empty screen": gif((5, 5), screen=(0, 0)),
        "png 16 bit": png(16, 2, rows(48)),
        "png 16 bit, alpha": png(16, 6, rows(64)),
        "png 16 bit grey, alpha": png(16, 4, rows(32)),
        "png 16 bit grey": png(16, 0, rows(16)),
        "png 16 bit grey, tRNS": png(16, 0, rows(16), chunk(b"tRNS", b"\0\5")),
        "png tRNS": png(8, 2, rows(24), chunk(b"tRNS", b"\0\1\0\2\0\3")),
        "png few colours": png(8, 3, bytes(HEIGHT * (WIDTH + 1)), chunk(b"PLTE", bytes(range(9)))),
        "png interlaced": png(8, 2, interlaced(np.asarray(picture(WIDTH, HEIGHT))), adam7=1),
        "png 1x1 interlaced": png(8, 2, b"\0abc", size=(1, 1), adam7=1),
        "png animation": animation("PNG"),
        "png gamma": png(8, 2, rows(24), chunk(b"gAMA", struct.pack(">I", 45455))),
        "png zTXt bomb": png(8, 2, rows(24), chunk(b"zTXt", b"a\0\0" + bomb)),
        "png iTXt bomb": png(8, 2, rows(24), chunk(b"iTXt", b"a\0\1\0\0\0" + bomb)),
        "png iCCP bomb": png(8, 2, rows(24), chunk(b"iCCP", b"a\0\0" + bomb)),
        "png text behind": png(8, 2, rows(24), after=chunk(b"zTXt", b"a\0\0" + bomb)),
        "png long text": png(8, 2, rows(24), chunk(b"tEXt", b"a\0" + b"b" * 2_000_000)),
        "png wrong sum of a text": png(8, 2, rows(24), chunk(b"tEXt", b"a\0b")[:-1] + b"\0"),
        "png too much data": png(8, 2, rows(24) + bytes(100_000)),
        "png and more": png(8, 2, rows(24)) + b"more",
        "png empty IDAT": png(8, 2, rows(24), chunk(b"IDAT", b"")),
        "jpeg RGB": encode(SMALL, "JPEG", keep_rgb=True),
        "jpeg CMYK progressive": encode(SMALL.convert("CMYK"), "JPEG", progressive=True),
        "jpeg YCCK": adobe(cmyk, 2),
        "jpeg Adobe RGB": adobe(jpeg, 0),
        "jpeg Adobe YCC": adobe(jpeg, 1),
        "jpeg grey Adobe": adobe(encode(SMALL.convert("L"), "JPEG"), 0),
        "jpeg and more": jpeg + b"more",
        "jpeg twice": jpeg + jpeg,
        "jpeg MPO": encode(SMALL, "MPO", save_all=True, append_images=[SMALL]),
        "jpeg altered": jpeg[:middle] + bytes([jpeg[middle] ^ 0xFF]) + jpeg[middle + 1 :],
        "jpeg stray restart": jpeg[:middle] + b"\xff\xd0" + jpeg[middle + 2 :],
        "jpeg restarts": encode(SMALL, "JPEG", restart_marker_blocks=1),
        "jpeg comments": jpeg[:2] + b"\xff\xfe\0\4ab" * 1000 + jpeg[2:],
        "jpeg profile": encode(SMALL, "JPEG", icc_profile=bytes(200_000)),
        "jpeg fill bytes": jpeg[:2] + b"\xff\xff\xff" + jpeg[3:],
        "jpeg rubbish between segments": jpeg[:20] + b"rubbish" + jpeg[20:],
        "jpeg many scans": repeated_scans(100),
        "jpeg 1x2000": encode(picture(1, 2000), "JPEG"),
        "png 2000x1": encode(picture(2000, 1), "PNG"),
    }
    for depth in (1, 2, 4, 8):
        colours = np.random.default_rng(1).bytes(3 << depth)
        see_through = chunk(b"tRNS", np.random.default_rng(2).bytes(1 << depth))
        made[f"png {depth} bit grey"] = png(depth, 0, rows(depth))
        made[f"png {depth} bit colours"] = png(depth, 3, rows(depth), chunk(b"PLTE", colours))
        made[f"png {depth} bit colours, tRNS"] = png(depth, 3, rows(depth), chunk(b"PLTE", colours) + see_through)
    return made


def refused() -> dict[str, bytes]:
    """What TensorFlow's decode_jpeg refuses."""
    jpeg, frame = encode(SMALL, "JPEG"), gif()
    start = jpeg.index(b"\xff\xc0")
    return {
        "gif film": animation("GIF"),
        "gif film by hand": gif(frames=3),
        "gif cut off": frame[: len(frame) // 2],
        "gif without colours": frame[:10] + b"\0" + frame[11:13] + frame[25:],
        "gif, colours beyond the table": gif(colours=2),
        "gif without frame": frame[:25] + b";",
        "bmp": encode(SMALL, "BMP"),
        "webp": encode(SMALL, "WEBP"),
        "tiff": encode(SMALL, "TIFF"),
        "ppm": encode(SMALL, "PPM"),
        "ico": encode(SMALL, "ICO"),
        "png without end": png(8, 2, rows(24))[:-12],
        "png without sum of the end": png(8, 2, rows(24))[:-2],
        "png unknown chunk": png(8, 2, rows(24), chunk(b"ABCD", b"x")),
        "png too little data": png(8, 2, rows(24)[:-100]),
        "png of no width": png(8, 2, b"", size=(0, 5)),
        "png of 3 bits": png(3, 0, rows(8)),
        "jpeg without end": jpeg[:-2],
        "jpeg cut off": jpeg[: len(jpeg) * 3 // 4],
        "jpeg behind a byte": b"\0" + jpeg,
        "jpeg lossless": jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1),
        "jpeg 12 bit": jpeg[: start + 4] + b"\x0c" + jpeg[start + 5 :],
        "jpeg of no height": jpeg[: start + 5] + b"\0\0" + jpeg[start + 7 :],
        "text": b"hello",
        "svg": b"<svg/>",
    }
