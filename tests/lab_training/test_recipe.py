import numpy as np
import pytest

from amlrealtimeai.lab import images
from amlrealtimeai.lab.training.phases import Progress
from amlrealtimeai.lab.training.recipe import RECIPES, Batch, Kind, Material, Phase, Recipe, batch_at, pictures

SMALL = Recipe(
    "small",
    "scratch",
    20,
    (
        Phase(0.5, (Kind(32, 4, (0.5, 1.0)), Kind(48, 2, (0.3, 0.9))), (1.0, 0.0), 0.4, (0.2, 0.8)),
        Phase(0.5, (Kind(48, 2, (0.3, 0.9)),), (0.1, 0.0)),
    ),
)


def test_batches_by_hand():
    batches = [batch_at(SMALL, share, 0, step) for step, share in enumerate((0.1, 0.25, 0.375, 0.5, 0.75))]

    assert [(b.kind.size, b.kind.count) for b in batches] == [(32, 4), (48, 2), (32, 4), (48, 2), (48, 2)]
    # (1 + cos(pi * done)) / 2 with 0.2, 0.5, 0.75, 0, 0.5 of the phase done; at 0.2 it still warms up
    assert [round(b.rate, 4) for b in batches] == [0.4523, 0.5, 0.1464, 0.1, 0.05]
    assert [round(b.variety, 3) for b in batches] == [0.6, 0.8, 0.8, 1.0, 1.0]


def test_progress_by_pictures_and_by_the_clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("amlrealtimeai.lab.training.phases.time.monotonic", lambda: now[0])
    counted, timed = Progress(pictures=200), Progress(minutes=2)
    for progress in (counted, timed):
        progress.start()
    now[0] = 130.0
    for progress in (counted, timed):
        progress.add(20)

    assert (counted.share, timed.share) == (0.1, 0.25)
    assert (counted.share_at(50), timed.share_at(50)) == (0.25, 0.25)
    assert (timed.images, timed.seconds) == (20, 30.0)


def test_pictures_follow_from_their_numbers_alone():
    recipe = RECIPES["finetune"]
    kind = Kind(32, 4, (0.5, 1.0))
    whole = list(pictures(recipe, Batch(100, kind, 0.1, 1.0), seed=1, material=Material()))
    later = list(pictures(recipe, Batch(102, kind, 0.1, 1.0), seed=1, material=Material()))
    other = list(pictures(recipe, Batch(100, kind, 0.1, 1.0), seed=2, material=Material()))

    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(whole[2:], later[:2], strict=True))
    assert not np.array_equal(whole[0][0], other[0][0])
    assert all(label in images.emoji() for _, label in whole)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_no_recipe_trains_on_the_unseen_design_and_all_end_at_224_pixels(recipe):
    assert images.UNSEEN_DESIGN not in recipe.designs
    last = batch_at(recipe, 1.0, 0, 0)
    assert (last.kind.size, last.rate) == (224, 0)
    assert sum(phase.share for phase in recipe.phases) == pytest.approx(1)
