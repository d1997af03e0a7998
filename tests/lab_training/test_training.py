"""With PyTorch installed: the network is the shipped one, training learns, and an interrupted run ends the same."""

import csv
import subprocess
import sys

import numpy as np
import pytest

from amlrealtimeai.accel.models import codec
from amlrealtimeai.errors import WeightsError
from amlrealtimeai.lab import images, resnet50
from amlrealtimeai.lab.training.recipe import Kind, Phase, Recipe, batch_at


def test_without_pytorch_the_command_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from amlrealtimeai.lab.training.__main__ import main; "
    done = subprocess.run([sys.executable, "-c", f"{code}sys.exit(main(['x']))"], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (
        1,
        "training needs PyTorch, which is not installed: run 'pip install torch'\n",
    )


TINY = Recipe("tiny", "shipped", 12, (Phase(1.0, (Kind(32, 4, (0.6, 1.0)),), (1e-4, 0.0)),), frozen_units=12)


def test_the_network_computes_what_the_onnx_one_does_and_gives_its_weights_back(torch):
    from amlrealtimeai.lab.evaluate import float_featurizer
    from amlrealtimeai.lab.training import network as networks

    arrays = resnet50.weights()
    network = networks.Resnet50().eval()
    networks.from_arrays(network, arrays)
    pictures, _ = images.arrays(2, seed=3)
    with torch.no_grad():
        logits = network(torch.from_numpy(pictures)).numpy()
    features = float_featurizer(arrays)(resnet50.prepare(pictures)).reshape(2, -1)
    expected = features @ arrays["predictions/kernel"] + arrays["predictions/bias"]

    np.testing.assert_allclose(logits, expected, atol=1e-3)
    back = networks.to_arrays(network)
    assert sorted(back) == sorted(arrays)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)


def test_weights_of_another_shape_are_refused_by_name(torch):
    from amlrealtimeai.lab.training import network as networks

    network = networks.Resnet50()
    arrays = networks.to_arrays(network)
    arrays["conv1_conv/kernel"] = arrays["conv1_conv/kernel"][:5]
    with pytest.raises(
        WeightsError, match=r"expected 'conv1_conv/kernel' of shape \[7, 7, 3, 64\], got \[5, 7, 3, 64\]"
    ):
        networks.from_arrays(network, arrays)
    del arrays["predictions/bias"]
    with pytest.raises(WeightsError, match=r"'predictions/bias' of shape \[1000\], got nothing"):
        networks.from_arrays(network, arrays)


def test_an_interrupted_training_ends_with_the_same_weights(torch, tmp_path, monkeypatch):
    from amlrealtimeai.lab.training.trainer import Trainer

    whole = Trainer(TINY, tmp_path / "whole")
    whole.run(held_out=2)
    train = Trainer._train
    with monkeypatch.context() as patch:
        steps = iter([train])
        patch.setattr(Trainer, "_train", lambda *given: next(steps)(*given))  # the second one is interrupted
        with pytest.raises(StopIteration):
            Trainer(TINY, tmp_path / "parts").run(held_out=2, save_every=0)
    second = Trainer(TINY, tmp_path / "parts")
    assert second.step == 1
    second.run(held_out=2)
    digests = [t.export(tmp_path / f"{i}.npz") for i, t in enumerate((whole, second))]

    assert digests[0] == digests[1]
    trained, start = codec.load(tmp_path / "0.npz", "resnet50"), resnet50.weights()
    frozen, moved = "conv2_block1_1_conv/kernel", "conv5_block3_3_conv/kernel"
    assert np.array_equal(trained[frozen], start[frozen])
    assert not np.array_equal(trained[moved], start[moved])
    with (tmp_path / "whole" / "curves.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["images"] == "12"
    assert 0 < float(row["loss"]) < 20


def test_training_lowers_the_loss(torch, tmp_path):
    from amlrealtimeai.lab.training.trainer import Trainer, _stack

    trainer = Trainer(TINY, tmp_path)
    pixels, labels = _stack(images.dataset(4, 32, seed=1))
    batch = batch_at(TINY, 0.0, 0, 0)
    losses = [trainer._train(batch, pixels, labels) for _ in range(6)]

    assert losses[-1] < 0.7 * losses[0]


def test_a_checkpoint_that_is_damaged_or_of_another_recipe(torch, tmp_path):
    from amlrealtimeai.lab.training.run import CHECKPOINT
    from amlrealtimeai.lab.training.trainer import Trainer

    Trainer(TINY, tmp_path).save()
    with pytest.raises(WeightsError, match=r"to resnet50 by the recipe 'tiny' with seed 1, not to .* with seed 2"):
        Trainer(TINY, tmp_path, seed=2)
    data = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(data[: len(data) // 2])
    with pytest.raises(
        WeightsError, match=r"checkpoint\.pt is damaged, or of another version .*delete it to begin anew"
    ):
        Trainer(TINY, tmp_path)


def test_a_start_that_is_missing_is_refused_with_advice_for_archives_of_your_own(torch, tmp_path, capsys):
    from amlrealtimeai.lab.training.__main__ import main

    assert main([str(tmp_path / "run"), "--start", str(tmp_path / "absent.npz")]) == 1
    said = capsys.readouterr().err
    assert "absent.npz" in said and "or leave the option out" in said and "git checkout" not in said


def test_new_classes_begin_as_the_mean_of_those_that_are_known(torch, tmp_path):
    from amlrealtimeai.lab.training.trainer import Trainer

    trainer = Trainer(TINY, tmp_path)
    before = trainer.network.classifier.weight.detach().clone(), trainer.network.classifier.bias.detach().clone()
    known = list(images.emoji())
    trainer._introduce([340, 404, 997])  # zebra and airliner are known, the bolete is not

    weight, bias = trainer.network.classifier.weight, trainer.network.classifier.bias
    assert torch.equal(weight[[340, 404]], before[0][[340, 404]])
    torch.testing.assert_close(weight[997], before[0][known].mean(0))
    torch.testing.assert_close(bias[997], before[1][known].mean())


def test_without_the_packages_the_command_says_how_to_get_them(torch, tmp_path, capsys):
    from amlrealtimeai.lab.training.__main__ import main

    arguments = [str(tmp_path / "run"), "--recipe", "photographs", "--stamps", str(tmp_path), "--backgrounds"]
    assert main([*arguments, str(tmp_path)]) == 1
    assert "mate-backgrounds" in capsys.readouterr().err
