"""What SSD-VGG learns from: scenes, targets; NumPy only. With PyTorch: mining, loss, the network, resuming."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from amlrealtimeai.accel.models import codec, ssdvgg
from amlrealtimeai.errors import InvalidInputError, WeightsError
from amlrealtimeai.lab import images
from amlrealtimeai.lab.images import Box
from amlrealtimeai.lab.training.__main__ import main
from amlrealtimeai.lab.training.detection.recipe import RECIPES, Phase, Recipe, own_scene, scene
from amlrealtimeai.lab.training.detection.targets import IGNORED, anchors, sites, targets
from amlrealtimeai.lab.training.phases import phase_at


def test_full_pictures_have_the_anchors_of_the_network():
    assert sites(300) == [37, 19, 10, 5, 3, 1]
    assert np.array_equal(anchors(300), np.concatenate([block.reshape(-1, 4) for block in ssdvgg.anchors()]))


def test_small_pictures_have_anchors_as_large_in_pixels():
    assert sites(128) == [16, 8, 4, 2]
    assert sites(160) == [20, 10, 5, 3]
    found = anchors(160) * 160
    assert len(found) == 400 * 4 + 100 * 6 + 25 * 6 + 9 * 6
    np.testing.assert_allclose(found[0], [4, 4, 21, 21], rtol=1e-6)
    np.testing.assert_allclose(found[1600 + 6], [8, 24, 45, 45], rtol=1e-6)  # block 7, first row, second site


def test_targets_by_hand():
    """The square of 99 pixels of block 8's site (4, 4) is the object, whose centre is (144, 144)."""
    half = 99 / 2 / 300
    box = Box(12, 0.48 - half, 0.48 - half, 0.48 + half, 0.48 + half)
    labels, offsets = targets([box], 300)

    own = 37 * 37 * 4 + 19 * 19 * 6 + (4 * 10 + 4) * 6
    assert labels[own] == 12
    np.testing.assert_allclose(offsets[own], 0, atol=1e-4)
    # its neighbour to the right, 32 pixels away: overlap 67 / (2 * 99 - 67) = 0.511; the centre is -32 / 99 / 0.1 away
    assert labels[own + 6] == 12
    np.testing.assert_allclose(offsets[own + 6], [-3.2323, 0, 0, 0], atol=1e-3)
    # diagonally 67 * 67 / (2 * 99 * 99 - 67 * 67) = 0.297: background
    assert labels[own + 66] == 0
    # the ratio 3 there: 57.2 of 99 * 99 shared, of 171.5 * 57.2: 99 * 57.16 / (2 * 9801 - 5659) = 0.406
    assert labels[own + 4] == IGNORED
    assert set(np.unique(labels)) == {IGNORED, 0, 12}


def test_every_object_has_its_best_anchor_whatever_it_overlaps():
    thin = Box(3, 0.5, 0.1, 0.51, 0.9)
    labels, _ = targets([thin], 300)

    assert (labels == 3).sum() == 1
    assert targets([], 300)[0].max() == 0


@pytest.mark.parametrize("size", [128, 160, 300])
def test_what_targets_say_decodes_to_the_objects(size):
    for number in range(20):
        _, boxes = images.scene(size, number, most=5)
        labels, offsets = targets(boxes, size)
        taken = labels > 0
        found = ssdvgg._boxes(offsets[taken].astype(float), anchors(size)[taken])
        assert {box.label for box in boxes} == set(labels[taken])
        for box in boxes:
            assert np.abs(found - np.array(box[1:])).max(axis=1).min() < 1e-5


def test_the_rate_and_the_phases_by_hand():
    phases = (Phase(0.5, 128, 4, (0.3, 0.5, 0.8), 0.3), Phase(0.5, 300, 2, (0.2, 0.5, 0.8), 0.5))
    recipe = Recipe(phases, rate=1.0, warm_up=0.2)

    assert [round(recipe.rate_at(share), 3) for share in (0, 0.1, 0.2, 0.6, 1, 1.01)] == [0.01, 0.5, 1, 0.5, 0, 0]
    assert [phase_at(phases, share)[0].size for share in (0, 0.49, 0.5, 1.0)] == [128, 128, 300, 300]
    assert [phase_at(phases, share)[1] for share in (0, 0.25, 0.5, 1.0, 1.1)] == [0, 0.5, 0, 1, 1]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_no_recipe_trains_on_the_unseen_design_and_all_end_at_300_pixels(recipe):
    assert not any(images.UNSEEN_DESIGN in phase.designs for phase in recipe.phases)
    assert recipe.phases[-1].size == 300
    assert sum(phase.share for phase in recipe.phases) == pytest.approx(1)
    assert {phase.size % 8 for phase in recipe.phases[:-1]} == {0}


def test_a_recipe_of_the_other_network_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--network", "ssdvgg", "--recipe", "polish"])
    assert "ssdvgg has short, long, not polish" in capsys.readouterr().err


def test_scenes_follow_from_their_number():
    phase = RECIPES["short"].phases[0]
    first, again, other = (scene(phase, number, 1) for number in (5, 5, 6))

    assert np.array_equal(first[0], again[0]) and first[1] == again[1]
    assert first[0].shape == (phase.size, phase.size, 3)
    assert not np.array_equal(first[0], other[0])


def test_own_pictures_in_voc_format_with_their_mirror_images(tmp_path):
    voc = images.VocFolder(images.write_voc(tmp_path, 2, 120, seed=4))
    phase = Phase(1.0, 96, 2, (0.2, 0.5, 0.8), 0.5)
    seen = [own_scene(voc, phase, number, 1) for number in range(12)]

    assert {picture.shape for picture, _ in seen} == {(96, 96, 3)}
    known = [voc.read(number)[1] for number in range(2)]
    mirrored = [[box._replace(x1=1 - box.x2, x2=1 - box.x1) for box in boxes] for boxes in known]
    assert all(boxes in known + mirrored for _, boxes in seen)
    assert any(boxes in known for _, boxes in seen) and any(boxes in mirrored for _, boxes in seen)


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no pictures in PASCAL VOC's layout"):
        images.VocFolder(tmp_path)


def test_a_picture_that_is_missing_or_broken_is_named(tmp_path):
    voc = images.VocFolder(images.write_voc(tmp_path, 2, 96))
    paths = sorted((tmp_path / "JPEGImages").iterdir())
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    for number in range(2):
        with pytest.raises(InvalidInputError, match=f"{voc.names[number]}.jpg cannot be read"):
            voc.read(number)


def test_the_hardest_background_counts(torch):
    from amlrealtimeai.lab.training.detection.loss import hardest

    losses = torch.tensor([[9.0, 1, 5, 2, 8, 3, 4], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]])
    labels = torch.tensor([[7, 0, 0, 0, IGNORED, 0, 0], [0, 0, 0, 0, 0, 0, 0]])

    assert hardest(losses, labels, ratio=2).int().tolist() == [[0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1, 1]]


def test_the_loss_by_hand(torch):
    """One object's anchor and three of the four background ones count; all classes are as probable: ln 21 each."""
    from amlrealtimeai.lab.training.detection.loss import multibox

    scores = torch.zeros(1, 6, 21)
    labels = torch.tensor([[3, 0, 0, 0, 0, IGNORED]])
    offsets, wanted = torch.zeros(1, 6, 4), torch.ones(1, 6, 4)
    offsets[0, 0] = torch.tensor([1.0, 1.5, 3.0, 1.0])
    classes, boxes = multibox(scores, offsets, labels, wanted)

    assert float(classes) == pytest.approx(4 * np.log(21), rel=1e-5)
    assert float(boxes) == pytest.approx(0.5 * 0.5**2 + (2 - 0.5))


_TENSORFLOW = """
import sys
from pathlib import Path
import numpy as np
import tensorflow.compat.v1 as tf
from amlrealtimeai.accel.models import SsdVgg
from amlrealtimeai.artifact.preprocess import MEANS
folder = Path(sys.argv[1])
with tf.Graph().as_default(), tf.Session() as session:
    model = SsdVgg(folder, weights=folder / "ssdvgg.npz")
    outputs = model.import_graph_def(is_training=False)
    model.restore_weights(session)
    images = [np.load(folder / "picture.npy") - np.array(MEANS, np.float32)]
    np.savez(folder / "outputs.npz", *session.run(outputs, {model.input_tensor_list[0]: images}))
"""


def _random_network(torch):
    from amlrealtimeai.lab.training.detection import network as networks

    torch.manual_seed(3)
    network = networks.SsdVgg().eval()
    with torch.no_grad():
        for layer in network.layers.values():
            if layer.bn is not None:
                layer.bn.running_mean.normal_(0, 0.1)
                layer.bn.running_var.uniform_(0.5, 1.5)
                layer.bn.weight.uniform_(0.7, 1.3)
                layer.bn.bias.normal_(0, 0.1)
    return network


def test_the_tensorflow_graph_computes_the_same_with_what_is_exported(torch, tmp_path):
    """Twelve outputs at 300 pixels; batch normalisation, colours and the division of pixels are folded in."""
    from amlrealtimeai.lab.training.detection import network as networks

    network = _random_network(torch)
    arrays = networks.to_arrays(network)
    codec.save(tmp_path / "ssdvgg.npz", "ssdvgg", arrays)
    stored = codec.load(tmp_path / "ssdvgg.npz", "ssdvgg")
    networks.from_arrays(network, stored)
    picture, _ = images.scene(300, 1)
    with torch.no_grad():
        ours = [part.numpy()[0] for part in network(torch.from_numpy(picture[np.newaxis]))]

    np.save(tmp_path / "picture.npy", picture)
    # apart: PyTorch's training crashes in a process that TensorFlow is loaded in
    subprocess.run([sys.executable, "-c", _TENSORFLOW, str(tmp_path)], check=True)
    with np.load(tmp_path / "outputs.npz") as stored:
        theirs = [stored[name] for name in stored.files]
    for own, parts, size in zip(ours, (theirs[:6], theirs[6:]), (21, 4), strict=True):
        expected = np.concatenate([part.reshape(-1, size) for part in parts])
        assert expected.std() > 0.1
        np.testing.assert_allclose(own, expected, atol=1e-3)


def test_weights_of_another_shape_are_refused_by_name(torch):
    from amlrealtimeai.lab.training.detection import network as networks

    network = networks.SsdVgg()
    arrays = networks.to_arrays(network)
    del arrays["conv7/bias"]
    with pytest.raises(WeightsError, match=r"not the weights of ssdvgg: expected 'conv7/bias' of shape \[1024\], got"):
        networks.from_arrays(network, arrays)


def test_an_interrupted_training_goes_on_and_lowers_the_loss(torch, tmp_path):
    from amlrealtimeai.lab.training.detection.trainer import Trainer

    recipe = Recipe((Phase(1.0, 64, 4, (0.4, 0.6, 0.9), 0.1),), rate=5e-4)
    first = Trainer(recipe, tmp_path, minutes=0.1)
    first.run(record_every=1.5)
    second = Trainer(recipe, tmp_path, minutes=0.12)
    assert second.progress.images == first.progress.images and second.progress.seconds == first.progress.seconds
    second.run(record_every=1)
    second.export(tmp_path / "ssdvgg.npz")

    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert int(rows[-1]["images"]) == second.progress.images > first.progress.images
    assert float(rows[-1]["classes"]) < float(rows[0]["classes"])
    with pytest.raises(
        WeightsError, match="belongs to ssdvgg with seed 1, not to ssdvgg with seed 2: choose another folder"
    ):
        Trainer(recipe, tmp_path, minutes=0.1, seed=2)


def test_a_folder_of_the_other_network_is_refused(torch, tmp_path):
    from amlrealtimeai.lab.training import run
    from amlrealtimeai.lab.training.detection.trainer import Trainer

    run.save(tmp_path, "resnet50 by the recipe 'polish' with seed 1", {"network": {}})
    with pytest.raises(WeightsError, match="belongs to resnet50 by the recipe 'polish' with seed 1, not to ssdvgg"):
        Trainer(Recipe((Phase(1.0, 64, 4, (0.4, 0.6, 0.9), 0.1),), rate=5e-4), tmp_path, minutes=0.1)
