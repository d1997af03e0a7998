from contextlib import ExitStack

import numpy as np

from amlrealtimeai.lab import evaluate_detection, images


def test_held_out_scenes_have_one_to_five_objects_of_their_designs():
    found = list(evaluate_detection.scenes("five designs, plain", 20))

    assert {len(boxes) for _, boxes in found} >= {1, 2, 3}
    assert all(picture.shape == (300, 300, 3) and 1 <= len(boxes) <= 5 for picture, boxes in found)
    designs = [name for chosen, _ in evaluate_detection.SETS.values() for name in chosen]
    assert designs.count(images.UNSEEN_DESIGN) == 1


def test_one_who_knows_all_has_100_percent_and_one_who_sees_nothing_0():
    pairs = list(evaluate_detection.scenes("Noto, plain", 4))
    known = {id(picture): boxes for picture, boxes in pairs}

    def all_knowing(picture):
        boxes = known[id(picture)]
        return np.array([box.label for box in boxes]), np.ones(len(boxes)), np.array([box[1:] for box in boxes])

    def blind(picture):
        return np.zeros(0, int), np.zeros(0), np.zeros((0, 4))

    found = evaluate_detection.rows("Noto, plain", pairs, {"float32": all_knowing, "bw_cnn": blind})

    assert evaluate_detection.table(found) == (
        "| scenes | number | format | mAP@0.5 % | drop, points |\n|---|---|---|---|---|\n"
        "| Noto, plain | 4 | float32 | 100.00 |  |\n| Noto, plain | 4 | bw_cnn | 0.00 | 100.00 |"
    )


def test_own_scenes_are_stretched(tmp_path):
    images.write_voc(tmp_path, 2, 120, seed=3)
    found = list(evaluate_detection.own_scenes(tmp_path))

    assert [picture.shape for picture, _ in found] == [(300, 300, 3)] * 2
    assert [boxes for _, boxes in found] == [images.VocFolder(tmp_path).read(number)[1] for number in range(2)]


def test_weights_that_are_missing_end_the_command_with_the_reason(tmp_path, capsys):
    assert evaluate_detection.main(["--weights", str(tmp_path / "ssdvgg.npz"), "--count", "1"]) == 1
    assert "there are no weights" in capsys.readouterr().err


def test_the_shipped_weights_find_objects_in_plain_scenes(tmp_path):
    """A wrong colour order, a shifted label or another order of anchors or outputs leaves next to nothing of 85 %."""
    pairs = list(evaluate_detection.scenes("Noto, plain", 12))
    with ExitStack() as services:
        detect = evaluate_detection.detectors(["bw_cnn"], None, tmp_path, None, services)
        found = evaluate_detection.rows("Noto, plain", pairs, detect)

    assert [row.number_format for row in found] == ["float32", "bw_cnn"]
    assert all(row.precision > 60 for row in found)
