"""The old path of amlrealtimeai.accel.models.ssdvgg, with the original's form of the anchors."""

from collections.abc import Sequence

import numpy as np

from amlrealtimeai.accel.models.ssdvgg import IMAGE, anchors, postprocess
from amlrealtimeai.errors import InvalidInputError

__all__ = ["compute_anchors", "postprocess"]


def compute_anchors(img_shape: Sequence[int] = (IMAGE, IMAGE)) -> list[tuple[np.ndarray, ...]]:
    """Of each block: centres y and x, float32 [s, s, 1], heights and widths, float32 [a], in shares of img_shape.

    img_shape: height and width in pixels. Raises InvalidInputError for another one.
    """
    sizes = np.asarray(img_shape)
    if sizes.shape != (2,) or sizes.dtype.kind not in "iuf" or not (sizes > 0).all():
        raise InvalidInputError(f"img_shape: expected a height and a width in pixels, got {img_shape!r:.60}")
    height, width = (np.float32(IMAGE / size) for size in sizes)
    return [
        (
            block[:, :, :1, 0] * height,
            block[:, :, :1, 1] * width,
            block[0, 0, :, 2] * height,
            block[0, 0, :, 3] * width,
        )
        for block in anchors()
    ]
