"""Damaged model and program files: see mutated_files, which runs many more."""

import pytest

from tests.hardening import mutated_files


@pytest.mark.parametrize("kind", mutated_files.TRIALS)
def test_damaged_files_are_refused_in_words_or_right(kind: str) -> None:
    fault = mutated_files.first_fault(kind, range(150))
    assert not fault, fault
