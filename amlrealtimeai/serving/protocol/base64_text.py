"""Bytes in JSON: base64, and what people send instead of it."""

import base64
import binascii
import re

HOW = 'send {"b64": "..."} with the base64 of the file\'s bytes (base64 -w0 FILE, or base64.b64encode in Python)'

_FOREIGN = re.compile(r"[^A-Za-z0-9+/=]")


def decode(text: str) -> bytes:
    """The bytes that base64 text stands for. Raises ValueError that names what was done to the text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"Unable to base64 decode: {_reason(text)}") from None


def _reason(text: str) -> str:
    foreign = _FOREIGN.search(text)
    if text.lstrip().lower().startswith("data:"):
        return "it begins with a data: URI; send only what follows its comma"
    if foreign is None:
        body = text.rstrip("=")
        if "=" in body:
            return "it goes on after its padding (=); encode every file by itself, whole"
        if len(body) % 4 == 1:
            return f"its {len(text)} characters are no whole number of bytes; part of it is missing"
        return f"its padding is wrong: end it with {-len(body) % 4} times '=', so that its length is a multiple of four"
    if foreign.group().isspace():
        return "it has line breaks or spaces in it; make it in one line (base64 -w0 FILE)"
    if foreign.group() in "-_" and not re.search(r"[^A-Za-z0-9_=-]", text):
        return "it is in the web-safe alphabet (- and _); use the standard one (+ and /), as base64.b64encode does"
    return f"it has {foreign.group()!r} at character {foreign.start()}, so it is not base64; {HOW}"
