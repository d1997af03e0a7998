import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from amlrealtimeai import lab, resources
from amlrealtimeai.errors import NotFoundError
from amlrealtimeai.lab import evaluate_photographs as evaluation
from amlrealtimeai.lab import images, resnet50
from amlrealtimeai.lab.evaluate_photographs import Answer, Photograph, Row


@pytest.fixture(scope="module")
def arrays():
    return resnet50.weights(resources.path("weights/resnet50.photographs.npz"))


@pytest.fixture(scope="module")
def sailor():
    """Grace Hopper in her uniform, a picture that every matplotlib has."""
    path = matplotlib.get_data_path() + "/sample_data/grace_hopper.jpg"
    (found,) = [p for p in evaluation.photographs() if p.path.samefile(path)]
    return found


def test_the_sample_photographs_are_recognised_in_the_lessons_format(arrays):
    """Their classes stand in data/README.md."""
    chosen = [Photograph(lab.sample("coffee"), (967,)), Photograph(lab.sample("chelsea"), (281, 282, 285))]
    rows = evaluation.rows(arrays, chosen, ["bw_cnn"])

    assert all(row.right("float32") and row.right("bw_cnn") for row in rows)
    assert rows[0].answers["bw_cnn"].probability > 0.98


def test_a_photograph_is_recognised_in_float_and_in_block_floating_point(arrays, sailor):
    (row,) = evaluation.rows(arrays, [sailor], ["msfp16"])

    assert [images.labels()[answer.label] for answer in row.answers.values()] == ["military uniform"] * 2
    assert list(row.answers) == ["float32", "msfp16"]
    assert min(answer.probability for answer in row.answers.values()) > 0.7
    assert row.answers["msfp16"].probability == pytest.approx(row.answers["float32"].probability, abs=0.03)


def test_what_is_not_installed_is_left_out_with_the_command_that_gets_it(tmp_path, capsys):
    picture = tmp_path / "usr" / "share" / "darknet" / "data" / "giraffe.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"")

    assert evaluation.photographs([tmp_path / "none", tmp_path]) == [Photograph(picture, (340,))]
    said = capsys.readouterr().err
    assert "left out: 4 of gradio: 'pip install --no-deps gradio' gets them\n" in said
    assert "left out: 4 of darknet: 'apt-get install --no-install-recommends darknet' gets them\n" in said
    with pytest.raises(NotFoundError, match=r"no photograph in .*none\. Missing are 5 of scikit-image: 'pip install"):
        evaluation.photographs([tmp_path / "none"])


def test_the_table():
    lion = Photograph(Path("lion.jpg"), (291,))
    cat = Photograph(Path("cat.png"), (281, 285))
    rows = [
        Row(lion, {"float32": Answer(291, 0.987), "msfp16": Answer(291, 0.5)}),
        Row(cat, {"float32": Answer(285, 0.6), "msfp16": Answer(282, 0.4)}),
    ]

    assert evaluation.table(rows) == (
        "| photograph | counts as right | float32 | msfp16 |\n|---|---|---|---|\n"
        "| lion.jpg | lion | lion 99% | lion 50% |\n"
        "| cat.png | tabby, Egyptian cat | Egyptian cat 60% | wrong: tiger cat 40% |\n"
        "| right | | 2 of 2 | 1 of 2 |"
    )


def test_every_listed_class_is_one_of_imagenets():
    listed = json.loads(resources.path("labels/real_photographs.json").read_text(encoding="utf-8"))
    assert len(listed["photographs"]) == 29
    assert {entry["package"] for entry in listed["photographs"]} == set(listed["packages"])
    assert all(0 <= label < 1000 for entry in listed["photographs"] for label in entry["classes"])


def test_weights_that_are_missing_end_the_command_with_the_reason(tmp_path, capsys):
    assert evaluation.main(["--weights", str(tmp_path / "none.npz")]) == 1
    assert "cannot read the weights" in capsys.readouterr().err


def test_probabilities_are_those_of_a_softmax():
    arrays = {"predictions/kernel": np.zeros((2048, 1000), np.float32), "predictions/bias": np.zeros(1000, np.float32)}
    arrays["predictions/bias"][7] = np.log(999)

    (answer,) = evaluation._answers(arrays, lambda x: np.zeros((1, 1, 1, 2048), np.float32), np.zeros((1, 224, 224, 3)))
    assert (answer.label, answer.probability) == (7, pytest.approx(0.5, abs=1e-6))
