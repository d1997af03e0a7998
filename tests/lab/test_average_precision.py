"""Mean average precision by hand, and against pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from amlrealtimeai.errors import InvalidInputError
from amlrealtimeai.lab.average_precision import average_precisions, mean_average_precision
from amlrealtimeai.lab.images import Box

LEFT, RIGHT = (0.1, 0.1, 0.5, 0.4), (0.1, 0.6, 0.5, 0.9)


def found(*detections):
    """(class, score, box) of one picture, as postprocess returns them."""
    labels, scores, boxes = zip(*detections, strict=True) if detections else ((), (), ())
    return np.array(labels, np.int64), np.array(scores, np.float32), np.array(boxes, np.float32).reshape(-1, 4)


def test_all_found_and_none_found():
    truth = [[Box(3, *LEFT), Box(7, *RIGHT)]]

    assert average_precisions([found((3, 0.9, LEFT), (7, 0.8, RIGHT))], truth) == {3: 1.0, 7: 1.0}
    assert average_precisions([found((7, 0.9, LEFT), (3, 0.8, RIGHT))], truth) == {3: 0.0, 7: 0.0}
    assert mean_average_precision([found()], truth) == 0.0
    assert np.isnan(mean_average_precision([found((3, 0.9, LEFT))], [[]]))


def test_a_wrong_one_before_the_right_one_and_a_missed_one():
    """Right, wrong, right of 3 objects: precision 1 to recall 1/3, 2/3 to recall 2/3: (34 + 33 * 2 / 3) / 101."""
    truth = [[Box(3, *LEFT), Box(3, *RIGHT)], [Box(3, *LEFT)]]
    seen = [found((3, 0.9, LEFT), (3, 0.8, (0.6, 0.1, 0.9, 0.4)), (3, 0.7, RIGHT)), found()]

    assert mean_average_precision(seen, truth) == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_an_object_found_twice_counts_once_and_the_overlap_decides():
    truth = [[Box(3, *LEFT), Box(3, *RIGHT)]]
    half = (0.1, 0.1, 0.5, 0.26)  # of LEFT: overlap 0.533

    assert mean_average_precision([found((3, 0.9, LEFT), (3, 0.8, LEFT))], truth) == pytest.approx(51 / 101)
    assert mean_average_precision([found((3, 0.9, half))], [[Box(3, *LEFT)]]) == 1.0
    assert mean_average_precision([found((3, 0.9, half))], [[Box(3, *LEFT)]], overlap=0.54) == 0.0


def test_missing_pictures_are_refused():
    with pytest.raises(InvalidInputError, match="detections of all 2 pictures, got those of 1"):
        average_precisions([found()], [[], []])


def test_lists_are_taken_as_arrays_are():
    assert average_precisions([([3, 7], [0.9, 0.8], [LEFT, RIGHT])], [[Box(3, *LEFT), Box(7, *RIGHT)]]) == {3: 1, 7: 1}
    assert average_precisions([([], [], [])], [[Box(3, *LEFT)]]) == {3: 0}


@pytest.mark.parametrize(
    ("detections", "overlap", "said"),
    [
        (([3, 3], [0.9], [LEFT]), 0.5, r"got \(2,\), \(1,\) and \(1, 4\)"),
        (([3], [np.nan], [LEFT]), 0.5, "scores and boxes have to be finite numbers"),
        (([3], [0.9], [LEFT]), np.nan, "overlap is a share: expected 0 to 1, got nan"),
        (([3], [0.9], [LEFT]), 50, "overlap is a share: expected 0 to 1, got 50"),
    ],
)
def test_detections_that_do_not_fit_together_are_refused(detections, overlap, said):
    with pytest.raises(InvalidInputError, match=said):
        average_precisions([detections], [[Box(3, *LEFT)]], overlap)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_as_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truth, seen = [], []
    for _ in range(25):
        corner = rng.uniform(0, 0.6, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, corner.shape)], axis=1)
        objects = [Box(int(rng.integers(1, 5)), *box) for box in boxes.tolist()]
        truth.append(objects)
        guesses = []
        for box in objects * 3:
            moved = np.array(box[1:]) + rng.normal(0, 0.03, 4)
            label = box.label if rng.random() < 0.8 else int(rng.integers(1, 6))
            guesses.append((label, float(rng.random()), moved.tolist()))
        seen.append(found(*guesses))

    assert mean_average_precision(seen, truth) == pytest.approx(_by_pycocotools(seen, truth), abs=1e-9)


def _by_pycocotools(seen, truth):
    def entry(number, picture, label, box, **more):
        y1, x1, y2, x2 = (float(value) for value in box)
        size = [x1, y1, x2 - x1, y2 - y1]
        place = {"id": number, "image_id": picture, "category_id": int(label), "bbox": size}
        return place | {"area": size[2] * size[3], "iscrowd": 0} | more

    objects = [(picture, box.label, box[1:]) for picture, boxes in enumerate(truth) for box in boxes]
    guesses = [
        (picture, *one)
        for picture, (labels, scores, boxes) in enumerate(seen)
        for one in zip(labels, scores, boxes, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {
            "images": [{"id": picture} for picture in range(len(truth))],
            "categories": [{"id": label} for label in range(1, 6)],
            "annotations": [entry(number, *one) for number, one in enumerate(objects, start=1)],
        }
        known.createIndex()
        ours = COCO()
        ours.dataset = known.dataset | {
            "annotations": [
                entry(number, picture, label, box, score=float(score))
                for number, (picture, label, score, box) in enumerate(guesses, start=1)
            ]
        }
        ours.createIndex()
        judge = COCOeval(known, ours, "bbox")
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.params.iouThrs = np.array([0.5])
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][0, :, :, 0, -1]  # [recalls, classes]
    return float(np.mean([precision[:, k].mean() for k in range(5) if precision[0, k] > -1]))
