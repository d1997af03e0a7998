import numpy as np
import pytest

from amlrealtimeai import resources
from amlrealtimeai.artifact.preprocess import preprocess_images
from amlrealtimeai.errors import WeightsError
from amlrealtimeai.lab import evaluate, images, resnet50


@pytest.fixture(scope="module")
def shipped():
    """The shipped arrays and their float featurizer."""
    arrays = resnet50.weights()
    return arrays, evaluate.float_featurizer(arrays)


def test_the_shipped_weights_on_plain_composites_in_float_and_in_the_default_format(shipped):
    """A wrong colour order, a shifted label or a wrong epsilon costs far more than the margin."""
    found = evaluate.rows(shipped[0], [32], ["bw_cnn"])

    assert [(row.pictures, row.count, row.number_format) for row in found] == [
        ("Noto, plain", 32, "float32"),
        ("Noto, plain", 32, "bw_cnn"),
    ]
    assert found[0].top1 >= 90 and found[1].drop <= 6.25
    assert found[1].drop == found[0].top1 - found[1].top1


def test_the_sample_pictures_are_right_with_confidence_in_float_and_in_the_default_format(shipped):
    """Their indices stand in data/README.md; the pictures go through the preprocessing of a deployed service."""
    arrays, featurize = shipped
    expected = [386, 546, 967, 145, 277, 914, 281, 340]
    paths = sorted(resources.path("images").glob("*.jpg"))
    parameters = {"order": "BGR", "scaling_factor": 1.0, "output_height": 224, "output_width": 224}
    files = np.array([path.read_bytes() for path in paths], object)
    x = preprocess_images(files, parameters | {"preserve_aspect_ratio": True})
    for chosen in (featurize, evaluate.npu_featurizer(arrays, "bw_cnn")):
        logits = chosen(x).reshape(8, -1) @ arrays["predictions/kernel"] + arrays["predictions/bias"]
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        assert probabilities.argmax(axis=1).tolist() == expected
        assert probabilities.max(axis=1).min() > 0.6


def test_every_picture_is_counted_once():
    """A featurizer that writes down how many pictures it saw."""
    seen = []

    def featurize(x):
        seen.append(len(x))
        return np.zeros((len(x), 1, 1, 2048), np.float32)

    arrays = {"predictions/kernel": np.zeros((2048, 1000), np.float32), "predictions/bias": np.eye(1000)[340]}
    chosen = evaluate.HeldOut("zebras", ("noto",), variety=0.0)
    right = evaluate._right(evaluate.INSTALLED.pairs(chosen, 177 + 3), arrays, {"constant": featurize})

    assert sum(seen) == 180
    assert right["constant"] in (1, 2)


def test_the_table():
    rows = [evaluate.Row("a", 200, "float32", 97.5, 0.0), evaluate.Row("a", 200, "bw_cnn", 97.0, 0.5)]

    assert evaluate.table(rows) == (
        "| pictures | number | format | top-1 % | drop, points |\n|---|---|---|---|---|\n"
        "| a | 200 | float32 | 97.50 |  |\n| a | 200 | bw_cnn | 97.00 | 0.50 |"
    )


def test_cats_and_dogs_by_transfer(shipped):
    """Fitted to Noto's, tested on Twemoji's drawings: chance is one half."""
    assert evaluate.pets(shipped[1], "noto", "twemoji", 20) > 0.7


def test_a_transfer_learns_what_the_features_hold():
    """Features that are the mean colour of a corner hold nothing: chance."""

    def corner(x):
        return np.tile(x[:, :8, :8].mean(axis=(1, 2, 3))[:, None], 4)

    assert 0.3 < evaluate.pets(corner, "noto", "noto", 40) < 0.7


def test_prepared_pictures_are_blue_first_minus_the_means():
    picture = np.full((1, 1, 1, 3), (200, 100, 50), np.uint8)

    np.testing.assert_allclose(
        resnet50.prepare(picture)[0, 0, 0], [50 - 103.939, 100 - 116.779, 200 - 123.68], rtol=1e-6
    )


def test_altered_weights_end_the_command_with_the_reason(tmp_path, capsys):
    data = bytearray(resources.path("weights/resnet50.npz").read_bytes())
    data[5000] ^= 1
    (tmp_path / "w.npz").write_bytes(data)
    (tmp_path / "w.npz.sha256").write_text(resources.path("weights/resnet50.npz.sha256").read_text())

    assert evaluate.main(["--count", "1", "--weights", str(tmp_path / "w.npz")]) == 1
    assert "w.npz is truncated or altered: expected SHA-256" in capsys.readouterr().err


def test_a_fly_agaric_is_found_where_imagenet_has_it(shipped):
    pictures = np.stack([images.compose(992, seed=seed, variety=0) for seed in range(6)])

    assert (resnet50.classify(shipped[0], shipped[1](resnet50.prepare(pictures))) == 992).sum() >= 5


def test_the_unseen_design_is_among_the_sets():
    assert any(chosen.designs == (images.UNSEEN_DESIGN,) for chosen in evaluate.SETS)


def test_weights_of_your_own_that_are_missing_say_where_such_come_from(tmp_path, capsys):
    path = tmp_path / "resnet50.npz"
    with pytest.raises(WeightsError, match="cannot read the weights") as caught:
        resnet50.weights(path)

    assert str(caught.value).endswith("has filled, with its digest beside it, or leave the option out.")
    assert "git checkout" not in str(caught.value)
    assert evaluate.main(["--weights", str(path)]) == 1
    assert capsys.readouterr().err == f"error: {caught.value}\n"
