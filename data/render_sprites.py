"""Render the sprites: every emoji of labels/emoji_classes.json as sprites/<design>/<code point in hex>.png.

npm install --prefix /tmp/emoji @iconify-json/{twemoji@1.2.5,fluent-emoji@1.2.7,fluent-emoji-flat@1.2.6} \
    @iconify-json/{emojione@1.2.3,noto-v1@1.2.5,openmoji@1.2.29}
apt-get install fonts-noto-color-emoji librsvg2-bin
python data/render_sprites.py /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf /tmp/emoji/node_modules/@iconify-json

Noto comes from its font, RGBA 136 x 128; the others from SVG, 128 x 128 with 256 colours. A design that ended before
Unicode 11 lacks some of the emoji; librsvg 2.54 cannot draw Fluent's umbrella.
"""

import io
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_DATA = Path(__file__).resolve().parent
_BITMAP_SIZE = 109  # the font's only size
_NOTO_SIZE = (136, 128)
_SVG_SIZE = 128
_DESIGNS = {
    "twemoji": "twemoji",
    "fluent": "fluent-emoji",
    "emojione": "emojione",
    "blobs": "noto-v1",
    "openmoji": "openmoji",
}
_NAMED = ("twemoji", "fluent-emoji-flat", "openmoji")  # packages that list the names of code points


def _symbols() -> list[str]:
    classes = json.loads((_DATA / "labels" / "emoji_classes.json").read_text(encoding="utf-8"))
    listed = [entry["emoji"] for entry in classes["imagenet"]] + list(classes["pets"].values())
    return sorted({symbol for symbols in listed for symbol in symbols} | set(classes["voc"].values()))


def _target(design: str, symbol: str) -> Path:
    path = _DATA / "sprites" / design / f"{ord(symbol):x}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def render_noto(font_path: Path) -> None:
    """Write Noto's sprites."""
    font = ImageFont.truetype(font_path, _BITMAP_SIZE)
    for symbol in _symbols():
        sprite = Image.new("RGBA", _NOTO_SIZE)
        draw = ImageDraw.Draw(sprite)
        left, top, _, _ = draw.textbbox((0, 0), symbol, font=font, embedded_color=True)
        draw.text((-left, -top), symbol, font=font, embedded_color=True)
        sprite.save(_target("noto", symbol), optimize=True)


def render_svg(design: str, packages: Path) -> None:
    """Write the sprites of a design whose drawings are one of the npm packages @iconify-json/*."""
    drawings = json.loads((packages / _DESIGNS[design] / "icons.json").read_text(encoding="utf-8"))
    names = [json.loads((packages / p / "chars.json").read_text(encoding="utf-8")) for p in _NAMED]
    for symbol in _symbols():
        called = [table.get(f"{ord(symbol):x}") for table in names]
        found = [drawings["icons"][name] for name in called if name in drawings["icons"]]
        try:
            if found:
                _quantised(_rendered(drawings, found[0])).save(_target(design, symbol), optimize=True)
        except subprocess.CalledProcessError as error:
            print(f"{design} {symbol} is left out: {error.stderr.decode().strip()}")


def _rendered(drawings: dict, drawing: dict) -> Image.Image:
    width, height = (drawing.get(side, drawings.get(side, 16)) for side in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{drawing["body"]}</svg>'
    )
    command = ["rsvg-convert", "-w", str(_SVG_SIZE), "-h", str(_SVG_SIZE), "--keep-aspect-ratio"]
    png = subprocess.run(command, input=svg.encode(), capture_output=True, check=True).stdout
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _quantised(sprite: Image.Image) -> Image.Image:
    return sprite.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def main(font: Path, packages: Path) -> None:
    """Write all sprites."""
    needed = [font] + [packages / name / "icons.json" for name in _DESIGNS.values()]
    missing = [str(path) for path in needed if not path.is_file()]
    if missing:
        sys.exit(f"expected {', '.join(missing)}, which is not there. The commands that fetch it:\n{__doc__}")
    render_noto(font)
    for design in _DESIGNS:
        render_svg(design, packages)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
