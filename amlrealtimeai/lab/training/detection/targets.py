"""What each anchor should say of a picture: its class and its box's offsets; NumPy only."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.lab.images import Box

_OVERLAP, _DOUBTFUL = 0.5, 0.4
IGNORED = -1
"""The class of an anchor that overlaps an object too little to have it, too much to be background."""


def sites(size: int) -> list[int]:
    """Sites along a side of each block that a picture of `size` pixels reaches: [37, 19, 10, 5, 3, 1] for 300.

    Fewer blocks for smaller pictures: the last two have no padding, and their anchors are larger than such pictures.
    """
    if size >= ssdvgg.IMAGE:
        return list(ssdvgg.SITES.values())
    block4 = size // 8
    found = [block4, -(-block4 // 2)]
    while len(found) < 4:
        found.append((found[-1] + 1) // 2)
    return found


@cache
def anchors(size: int) -> np.ndarray:
    """Anchors [n, 4] of a picture of `size` pixels, in shares of it: as large in pixels as those of 300 are."""
    blocks = [block[:s, :s].reshape(-1, 4) for block, s in zip(ssdvgg.anchors(), sites(size), strict=False)]
    return np.concatenate(blocks) * np.float32(ssdvgg.IMAGE / size)


def targets(boxes: Sequence[Box], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes int64 [n], 0 for the background, and offsets float32 [n, 4], 0 there, of all anchors.

    An anchor has the object that it overlaps most, by half or more; and every object has at least its best anchor.
    Anchors that overlap one by 0.4 to 0.5 are IGNORED: learning goes faster without them.
    """
    base = anchors(size)
    labels = np.zeros(len(base), np.int64)
    offsets = np.zeros((len(base), 4), np.float32)
    if not boxes:
        return labels, offsets
    corners = np.array([box[1:] for box in boxes], np.float32)
    half = base[:, 2:] / 2
    shared = ssdvgg.overlaps(np.concatenate([base[:, :2] - half, base[:, :2] + half], axis=1), corners)
    most = shared.max(axis=1)
    owner = np.where(most >= _OVERLAP, shared.argmax(axis=1), -1)
    for number in np.argsort(shared.max(axis=0)):  # of two objects that want one anchor, the better fit has it
        owner[shared[:, number].argmax()] = number
    taken = owner >= 0
    labels[most >= _DOUBTFUL] = IGNORED
    labels[taken] = np.array([box.label for box in boxes])[owner[taken]]
    offsets[taken] = ssdvgg.offsets_from(corners[owner[taken]], base[taken])
    return labels, offsets
