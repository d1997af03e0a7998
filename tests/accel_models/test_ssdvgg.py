"""Anchors, boxes and non-maximum suppression of SSD-VGG: NumPy only."""

import subprocess
import sys

import numpy as np
import pytest

from amlrealtimeai.accel.models import ssdvgg
from amlrealtimeai.errors import InvalidInputError

SITES = (37, 19, 10, 5, 3, 1)
ANCHORS = (4, 6, 6, 6, 4, 4)


def background():
    """Twelve outputs that see nothing: background has a logit of 10, boxes are the anchors."""
    scores = [np.zeros((1, s, s, a, 21), np.float32) for s, a in zip(SITES, ANCHORS, strict=True)]
    for array in scores:
        array[..., 0] = 10
    return scores + [np.zeros((1, s, s, a, 4), np.float32) for s, a in zip(SITES, ANCHORS, strict=True)]


def test_anchors_are_those_of_the_paper():
    found = ssdvgg.anchors()

    assert [block.shape for block in found] == [(s, s, a, 4) for s, a in zip(SITES, ANCHORS, strict=True)]
    assert sum(block[..., 0].size for block in found) == 8432  # the paper has 8732, with 38 sites in block 4
    np.testing.assert_allclose(found[0][0, 1, 0], [4 / 300, 12 / 300, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(found[1][2, 0, 1], [40 / 300, 8 / 300, 0.2720294, 0.2720294], rtol=1e-6)
    np.testing.assert_allclose(found[5][0, 0, 0], [0.5, 0.5, 0.88, 0.88], rtol=1e-6)
    # a ratio of 2 is wide: height 60 / sqrt(2), width 60 * sqrt(2)
    np.testing.assert_allclose(found[1][0, 0, 2, 2:], [0.14142136, 0.28284271], rtol=1e-6)
    np.testing.assert_allclose(found[1][0, 0, 5, 2:], [0.34641016, 0.11547005], rtol=1e-6)


def test_a_box_by_hand():
    """Block 11 has one site in the middle: offsets (x, y, w, h) move and stretch its square of 0.88."""
    offsets = np.zeros((1, 1, 4, 4), np.float32)
    offsets[0, 0, 0] = [1, -2, 0, np.log(0.5) / 0.2]

    y1, x1, y2, x2 = ssdvgg.decode(offsets, 5)[0, 0, 0]

    assert [y1, x1, y2, x2] == pytest.approx([0.324 - 0.22, 0.588 - 0.44, 0.324 + 0.22, 0.588 + 0.44], abs=1e-6)


def test_encode_is_the_inverse_of_decode():
    offsets = np.random.default_rng(0).normal(0, 1, (5, 5, 6, 4))

    np.testing.assert_allclose(ssdvgg.encode(ssdvgg.decode(offsets, 3), 3), offsets, atol=1e-4)


def test_objects_come_best_first_and_overlaps_go():
    result = background()
    result[4][0, 1, 1, 0, 15] = 14  # a person at the centre of block 10
    result[4][0, 1, 1, 1, 15] = 12  # the next larger square there: the same person
    result[4][0, 1, 1, 2, 8] = 13  # a cat in the same place stays: another class
    result[0][0, 5, 30, 0, 3] = 12  # a small bird

    classes, scores, boxes = ssdvgg.postprocess(result)

    assert classes.tolist() == [15, 8, 3]
    assert scores[0] == pytest.approx(np.exp(14) / (np.exp(14) + np.exp(10) + 19), rel=1e-5)
    assert boxes[0].tolist() == pytest.approx([0.5 - 0.355, 0.5 - 0.355, 0.5 + 0.355, 0.5 + 0.355], abs=1e-6)
    assert boxes[2].tolist() == pytest.approx([44 / 300 - 0.05, 244 / 300 - 0.05, 44 / 300 + 0.05, 244 / 300 + 0.05])
    assert (classes.dtype, scores.dtype, boxes.dtype) == (np.int64, np.float32, np.float32)
    both, _, _ = ssdvgg.postprocess(result, nms_threshold=1.0)
    assert both.tolist() == [15, 8, 15, 3] or both.tolist() == [15, 8, 3, 15]
    sure, _, _ = ssdvgg.postprocess(result, select_threshold=0.9)
    assert sure.tolist() == [15, 8]


def test_nothing_seen_is_three_empty_arrays():
    classes, scores, boxes = ssdvgg.postprocess([array[0] for array in background()])

    assert (classes.shape, scores.shape, boxes.shape) == ((0,), (0,), (0, 4))


def test_wrong_outputs_are_named():
    result = background()
    with pytest.raises(InvalidInputError, match="expected the network's 12 outputs, got 11"):
        ssdvgg.postprocess(result[:11])
    with pytest.raises(InvalidInputError, match=r"output 0 of SSD-VGG: expected the shape \(37, 37, 4, 21\)"):
        ssdvgg.postprocess(result[6:] + result[:6])
    with pytest.raises(InvalidInputError, match="select_threshold is a share"):
        ssdvgg.postprocess(result, select_threshold=50)
    result[3][0, 0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInputError, match="output 3 of SSD-VGG has numbers that are not finite"):
        ssdvgg.postprocess(result)


def test_the_old_path_and_no_tensorflow():
    code = (
        "import sys; from amlrealtimeai.accel._external import ssdvgg_utils; "
        "from amlrealtimeai.accel.models import ssdvgg; "
        "print(ssdvgg_utils.postprocess is ssdvgg.postprocess, 'tensorflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "True False\n"
