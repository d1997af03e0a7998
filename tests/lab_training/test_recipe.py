import numpy as np
import pytest

from amlrealtimeai.lab import images
from amlrealtimeai.lab.training.recipe import RECIPES, Batch, Kind, Phase, Recipe, pictures, schedule

SMALL = Recipe(
    "small",
    "scratch",
    (
        Phase(10, (Kind(32, 4, (0.5, 1.0)), Kind(48, 2, (0.3, 0.9))), (1.0, 0.0), 4, (0.2, 0.8)),
        Phase(3, (Kind(48, 2, (0.3, 0.9)),), (0.1, 0.0)),
    ),
)


def test_the_schedule_by_hand():
    batches = schedule(SMALL)

    assert [(b.first, b.kind.size, b.kind.count) for b in batches] == [
        (0, 32, 4),
        (4, 48, 2),
        (6, 32, 4),
        (10, 48, 2),
        (12, 48, 2),
    ]
    # (1 + cos(pi * share)) / 2 at shares 0, 0.4, 0.6; then 0.1 of it at 0 and 2/3
    assert [round(b.rate, 4) for b in batches] == [1.0, 0.6545, 0.3455, 0.1, 0.025]
    assert [round(b.variety, 3) for b in batches] == [0.2, 0.8, 0.8, 1.0, 1.0]


def test_the_rate_warms_up():
    phase = Phase(100, (Kind(32, 10, (0.5, 1.0)),), (1.0, 1.0), warm_up=40)

    assert [b.rate for b in schedule(Recipe("warm", "scratch", (phase,)))][:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_pictures_follow_from_their_numbers_alone():
    recipe = RECIPES["finetune"]
    kind = Kind(32, 4, (0.5, 1.0))
    whole = list(pictures(recipe, Batch(100, kind, 0.1, 1.0), seed=1))
    later = list(pictures(recipe, Batch(102, kind, 0.1, 1.0), seed=1))
    other = list(pictures(recipe, Batch(100, kind, 0.1, 1.0), seed=2))

    assert all(np.array_equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(whole[2:], later[:2], strict=True))
    assert not np.array_equal(whole[0][0], other[0][0])
    assert all(label in images.emoji() for _, label in whole)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_no_recipe_trains_on_the_unseen_design_and_all_end_at_224_pixels(recipe):
    assert images.UNSEEN_DESIGN not in recipe.designs
    assert schedule(recipe)[-1].kind.size == 224
    assert schedule(recipe)[-1].rate < 1e-5
