"""Anchors, boxes and non-maximum suppression of SSD-VGG: NumPy only."""

import inspect
import math
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from amlrealtimeai.accel._external import ssdvgg_utils
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


def test_anchors_are_those_of_the_sdk():
    found = ssdvgg.anchors()

    assert [block.shape for block in found] == [(s, s, a, 4) for s, a in zip(SITES, ANCHORS, strict=True)]
    assert sum(block[..., 0].size for block in found) == 8432  # the paper has 8732, with 38 sites in block 4
    sizes = [(21, 45), (45, 99), (99, 153), (153, 207), (207, 261), (261, 315)]
    for block, (small, large), step, sites in zip(found, sizes, (8, 16, 32, 64, 100, 300), SITES, strict=True):
        between = (small * large) ** 0.5
        np.testing.assert_allclose(block[0, 0, 0] * 300, [step / 2, step / 2, small, small], rtol=1e-6)
        np.testing.assert_allclose(block[-1, 0, 1] * 300, [(sites - 0.5) * step, step / 2, between, between], rtol=1e-6)
        # a ratio of 2 is wide
        np.testing.assert_allclose(block[0, 0, 2, 2:] * 300, [small / 2**0.5, small * 2**0.5], rtol=1e-6)
        np.testing.assert_allclose(block[0, 0, 3, 2:] * 300, [small * 2**0.5, small / 2**0.5], rtol=1e-6)
        if block.shape[2] == 6:
            np.testing.assert_allclose(block[0, 0, 4, 2:] * 300, [small / 3**0.5, small * 3**0.5], rtol=1e-6)
            np.testing.assert_allclose(block[0, 0, 5, 2:] * 300, [small * 3**0.5, small / 3**0.5], rtol=1e-6)
    box = ssdvgg.decode(np.zeros((37, 37, 4, 4), np.float32), 0)[18, 18, 0]
    np.testing.assert_allclose(box, [0.4583333, 0.4583333, 0.5283333, 0.5283333], atol=1e-6)


def test_a_box_by_hand():
    """Block 11 has one site in the middle: offsets (x, y, w, h) move and stretch its square of 261 pixels, 0.87."""
    offsets = np.zeros((1, 1, 4, 4), np.float32)
    offsets[0, 0, 0] = [1, -2, 0, np.log(0.5) / 0.2]

    y1, x1, y2, x2 = ssdvgg.decode(offsets, 5)[0, 0, 0]

    assert [y1, x1, y2, x2] == pytest.approx([0.326 - 0.2175, 0.587 - 0.435, 0.326 + 0.2175, 0.587 + 0.435], abs=1e-6)


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
    assert boxes[0].tolist() == pytest.approx([0.5 - 0.345, 0.5 - 0.345, 0.5 + 0.345, 0.5 + 0.345], abs=1e-6)
    assert boxes[2].tolist() == pytest.approx([33.5 / 300, 233.5 / 300, 54.5 / 300, 254.5 / 300], abs=1e-6)
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


def by_hand(outputs, threshold, nms):
    """Detections in plain Python, one number at a time, from the description of SSD alone."""
    candidates = []
    sizes = [(21, 45), (45, 99), (99, 153), (153, 207), (207, 261), (261, 315)]
    for block, (small, large), step in zip(range(6), sizes, (8, 16, 32, 64, 100, 300), strict=True):
        shapes = [(small, small), (math.sqrt(small * large),) * 2]
        shapes += [(small / math.sqrt(r), small * math.sqrt(r)) for r in (2, 0.5, 3, 1 / 3)]
        for row, column, anchor in np.ndindex(outputs[block].shape[1:4]):
            logits = [float(value) for value in outputs[block][0, row, column, anchor]]
            powers = [math.exp(value - max(logits)) for value in logits]
            shares = [power / sum(powers) for power in powers]
            best = max(range(21), key=shares.__getitem__)
            labels = range(1, 21) if threshold else [best] if best else []
            x, y, w, h = (float(value) for value in outputs[6 + block][0, row, column, anchor])
            high, wide = shapes[anchor]
            cy, cx = (row + 0.5) * step + y * 0.1 * high, (column + 0.5) * step + x * 0.1 * wide
            high, wide = high * math.exp(0.2 * h), wide * math.exp(0.2 * w)
            edges = (cy - high / 2, cx - wide / 2, cy + high / 2, cx + wide / 2)
            box = [min(max(edge / 300, 0.0), 1.0) for edge in edges]
            candidates += [(shares[label], label, box) for label in labels if shares[label] > (threshold or 0)]
    kept = []
    for score, label, box in sorted(candidates, key=lambda item: -item[0])[:400]:
        if all(label != other or iou(box, rival) < nms for _, other, rival in kept):
            kept.append((score, label, box))
    return kept


def iou(a, b):
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 1.0


def crowd(seed, objects):
    """Outputs with that many anchors that are sure of something, in clusters, and random offsets everywhere."""
    rng = np.random.default_rng(seed)
    result = background()
    for block, array in enumerate(result):
        if block < 6:
            array[..., 0] = 14
        else:
            array[...] = rng.normal(0, 1, array.shape)
    for _ in range(objects):
        block = rng.integers(6)
        site = rng.integers(0, SITES[block], 2)
        result[block][0, site[0], site[1], rng.integers(ANCHORS[block]), rng.integers(1, 4)] = rng.uniform(13, 18)
    return result


@pytest.mark.parametrize(
    ("threshold", "nms", "objects"), [(0.5, 0.45, 60), (None, 0.45, 250), (0.2, 0.3, 900), (0, 1, 40)]
)
def test_detections_are_those_of_an_independent_implementation(threshold, nms, objects):
    for seed in range(2):
        result = crowd(seed, objects)
        expected = by_hand(result, threshold, nms)
        classes, scores, boxes = ssdvgg.postprocess(result, select_threshold=threshold, nms_threshold=nms)
        assert len(expected) > 10
        assert classes.tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(scores, [score for score, _, _ in expected], rtol=2e-6)
        np.testing.assert_allclose(boxes, [box for _, _, box in expected], atol=2e-6)


def test_suppression_and_overlaps_on_ten_thousand_random_sets():
    rng = np.random.default_rng(5)
    for _ in range(10_000):
        count = int(rng.integers(1, 9))
        corners = rng.integers(0, 5, (count, 2, 2)) / 4  # coarse: equal boxes, touching ones, ones without an area
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        classes, threshold = rng.integers(1, 3, count), float(rng.choice([0.0, 0.25, 0.45, 0.5, 1.0]))
        kept = []
        for number in range(count):
            rivals = [other for other in kept if classes[other] == classes[number]]
            if all(iou(boxes[number].tolist(), boxes[other].tolist()) < threshold for other in rivals):
                kept.append(number)
        assert np.flatnonzero(ssdvgg.suppress(classes, boxes, threshold)).tolist() == kept


def test_overlaps_by_hand():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 1, 2]], float)
    assert ssdvgg.overlaps(boxes[:1], boxes)[0].tolist() == pytest.approx([1, 1 / 7, 1, 0, 0.5])
    # at the threshold itself the weaker one goes; another class stays
    assert ssdvgg.suppress(np.array([1, 1]), boxes[[0, 4]], 0.5).tolist() == [True, False]
    assert ssdvgg.suppress(np.array([1, 1]), boxes[[0, 4]], 0.51).tolist() == [True, True]
    assert ssdvgg.suppress(np.array([1, 2]), boxes[[0, 2]], 0.5).tolist() == [True, True]


def test_the_originals_call():
    parameters = inspect.signature(ssdvgg_utils.postprocess).parameters
    assert list(parameters) == ["network_output", "ssd_anchors", "select_threshold", "nms_threshold"]
    result = crowd(3, 100)
    plain = ssdvgg.postprocess(result)
    given = ssdvgg_utils.postprocess(network_output=result, ssd_anchors=ssdvgg_utils.compute_anchors())
    for one, other in zip(plain, given, strict=True):
        np.testing.assert_array_equal(one, other)
    y, x, h, w = ssdvgg_utils.compute_anchors((600, 300))[0]
    assert (y.shape, x.shape, h.shape, w.shape) == ((37, 37, 1), (37, 37, 1), (4,), (4,))
    assert (y[18, 0, 0], x[0, 18, 0], h[0], w[0]) == pytest.approx((148 / 600, 148 / 300, 21 / 600, 21 / 300))
    every, scores, boxes = ssdvgg_utils.postprocess(background(), None, None, 0.45)
    assert every.size == 0 and scores.dtype == boxes.dtype == np.float32 and every.dtype == np.int64
    for wrong in ([1], ssdvgg_utils.compute_anchors()[:5], [(0, 0, 0)] * 6, ssdvgg_utils.compute_anchors()[::-1]):
        with pytest.raises(InvalidInputError, match="ssd_anchors: expected"):
            ssdvgg_utils.postprocess(background(), wrong)


def test_boxes_without_bounds_are_cut_at_the_image():
    result = background()
    result[5][0, 0, 0, 0, 7] = 30
    for far in (1e30, -1e30, 3e38):
        result[11][...] = far
        _, _, boxes = ssdvgg.postprocess(result)
        assert boxes.shape == (1, 4) and np.isfinite(boxes).all() and boxes.min() >= 0 and boxes.max() <= 1


def test_it_takes_less_than_five_milliseconds():
    """Of processor time: other processes do not count. The most candidates that there can be."""
    result = crowd(1, 3000)
    taken = []
    for _ in range(20):
        start = time.thread_time()
        found = ssdvgg.postprocess(result, select_threshold=0.1)
        taken.append(time.thread_time() - start)
    print(f"{min(taken) * 1e3:.2f} ms, {len(found[0])} objects")
    assert min(taken) < 5e-3


def test_the_old_path_and_no_tensorflow():
    code = (
        "import sys; from amlrealtimeai.accel._external import ssdvgg_utils; "
        "from amlrealtimeai.accel.models import ssdvgg; "
        "print(ssdvgg_utils.postprocess is ssdvgg.postprocess, 'tensorflow' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "True False\n"


@pytest.mark.parametrize(
    ("outputs", "options", "said"),
    [
        (None, {}, "12 outputs, got NoneType"),
        ({"a": 1}, {}, "12 outputs, got dict"),
        ("twelve texts", {}, "12 outputs, got str"),
        (["x"] * 12, {}, "output 0 of SSD-VGG: expected numbers, got <U1"),
        ([1j] * 12, {}, "output 0 of SSD-VGG: expected numbers, got complex128"),
        ([], {"select_threshold": "0.5"}, "select_threshold is a share: expected 0 to 1, got '0.5'"),
        ([], {"nms_threshold": [0.4]}, "nms_threshold is a share: expected 0 to 1, got"),
        ([], {"nms_threshold": math.nan}, "nms_threshold is a share: expected 0 to 1, got nan"),
        ([], {"select_threshold": ""}, "select_threshold is a share: expected 0 to 1, got ''"),
        ([], {"select_threshold": []}, "select_threshold is a share: expected 0 to 1, got []"),
        ([], {"select_threshold": True}, "select_threshold is a share: expected 0 to 1, got True"),
    ],
)
def test_what_is_no_output_or_no_threshold_is_said(outputs, options, said):
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        ssdvgg.postprocess(outputs, **options)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64, np.float16, list])
def test_overlaps_of_boxes_in_pixels(kind):
    """Two squares of 100 pixels, half of each shared; sums and differences are beyond what bytes hold."""
    boxes = [[100, 100, 200, 200], [100, 150, 200, 250]]
    given = boxes if kind is list else np.array(boxes, kind)

    np.testing.assert_allclose(ssdvgg.overlaps(given, given), [[1, 1 / 3], [1 / 3, 1]], rtol=1e-6)
    assert ssdvgg.suppress([7, 7], given, 0.3).tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ssdvgg.overlaps(np.zeros(4), np.zeros((1, 4))), "expected boxes [n, 4], (y1, x1, y2, x2); got"),
        (lambda: ssdvgg.suppress([1, 2], np.zeros((2, 3)), 0.5), "expected boxes [n, 4], (y1, x1, y2, x2); got"),
        (lambda: ssdvgg.decode(np.zeros((1, 1, 4, 4)), 6), "block: expected 0 to 5"),
        (
            lambda: ssdvgg.decode(np.zeros((37, 37, 6, 4)), 0),
            "expected offsets [..., 37, 37, 4, 4], got (37, 37, 6, 4)",
        ),
        (lambda: ssdvgg_utils.compute_anchors((0, 300)), "img_shape: expected a height and a width in pixels"),
        (lambda: ssdvgg_utils.compute_anchors(None), "img_shape: expected a height and a width in pixels, got None"),
        (lambda: ssdvgg_utils.compute_anchors((300, math.nan)), "img_shape: expected a height and a width in pixels"),
    ],
)
def test_what_are_no_boxes_or_anchors_is_said(call, said):
    with pytest.raises(InvalidInputError, match=re.escape(said)):
        call()


def test_nobody_can_move_the_anchors_of_all():
    with pytest.raises(ValueError, match="read-only"):
        ssdvgg.anchors()[0][...] = 0


@pytest.mark.filterwarnings("error")
def test_scores_as_far_apart_as_float32_goes():
    result = background()
    result[5][...] = -3e38
    result[5][0, 0, 0, 0, 7] = 3e38

    classes, scores, _ = ssdvgg.postprocess(result)
    assert classes.tolist() == [7] and scores.tolist() == [1.0]
