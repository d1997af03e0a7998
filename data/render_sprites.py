"""Render the sprites: every emoji of labels/emoji_classes.json as sprites/<code point in hex>.png, RGBA 136 x 128.

python data/render_sprites.py /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_DATA = Path(__file__).resolve().parent
_BITMAP_SIZE = 109  # the font's only size
_SPRITE_SIZE = (136, 128)


def main(font_path: str) -> None:
    """Write all sprites."""
    classes = json.loads((_DATA / "labels" / "emoji_classes.json").read_text(encoding="utf-8"))
    font = ImageFont.truetype(font_path, _BITMAP_SIZE)
    emoji = {symbol for entry in classes["imagenet"] for symbol in entry["emoji"]} | set(classes["voc"].values())
    for symbol in sorted(emoji):
        sprite = Image.new("RGBA", _SPRITE_SIZE)
        draw = ImageDraw.Draw(sprite)
        left, top, _, _ = draw.textbbox((0, 0), symbol, font=font, embedded_color=True)
        draw.text((-left, -top), symbol, font=font, embedded_color=True)
        sprite.save(_DATA / "sprites" / f"{ord(symbol):x}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
