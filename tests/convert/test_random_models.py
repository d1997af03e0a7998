"""Random small SavedModels convert and answer as TensorFlow does; random_models.py runs more of them by hand."""

from pathlib import Path

import pytest

from tests.convert import random_models

SEEDS = (
    0,
    3,
    7,
    1008,
    1488,
    5342,
)  # 1008: a conditional has a node of the name that its branch has inside; 1488: a part
# passes on what it reads; 5342: a pool behind more padding than it has pixels


@pytest.mark.parametrize("seed", SEEDS)
def test_random_models_convert(seed: int, tmp_path: Path) -> None:
    report, wrong = random_models.convert(seed, tmp_path)
    assert wrong == [], random_models.build(seed, tmp_path / "again")[2]
    assert all(check.passed for check in report.checks)
