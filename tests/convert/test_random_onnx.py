"""Random small ONNX models convert and answer as ONNX Runtime does; random_onnx.py runs more of them by hand."""

from pathlib import Path

import pytest

from tests.convert import mutated_onnx, random_onnx


@pytest.mark.parametrize("first", range(5))
def test_random_models_convert(first: int, tmp_path: Path) -> None:
    for seed in range(first, 40, 5):
        report, wrong = random_onnx.convert(seed, tmp_path)
        assert wrong == [], seed
        assert all(check.passed for check in report.checks)


def test_what_is_wrong_with_a_changed_model_is_said_in_an_error_of_ours(tmp_path: Path) -> None:
    outcomes = {mutated_onnx.outcome(seed, tmp_path) for seed in range(60)}
    assert outcomes == {"converted", "InvalidInputError", "ConversionError"}
