"""Colours that colour-blind readers tell apart (Okabe and Ito, 2008), each with one meaning in all lessons."""

HOST = "#0072B2"  # blue: the host, float32, what is right
NPU = "#D55E00"  # vermilion: the NPU, narrow numbers, what is lost
MENDED = "#009E73"  # green: what fine-tuning wins back
WIRE = "#E69F00"  # orange: what travels between two places
QUIET = "#666666"  # lines, text of second rank
PAPER = "#FFFFFF"  # behind every drawing, so that it is legible in a dark theme, too
INK = "#1A1A1A"

OBJECTS = (HOST, MENDED, "#CC79A7", WIRE, "#56B4E9")
"""Boxes side by side. Each has its name beside it: a colour only says which box the name belongs to."""
