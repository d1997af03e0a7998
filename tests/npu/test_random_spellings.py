"""Odd graphs against ONNX Runtime, see random_spellings.py; by hand it runs more of them."""

import pytest

from tests.npu import random_spellings

WORDS = {"same", "rounded", "refused", "both refuse", "not implemented there"}
SPREAD = range(0, 10_000, 40)


@pytest.mark.parametrize("first", [*SPREAD[:5]])
def test_odd_graphs_are_computed_or_refused_as_onnx_runtime_does(first: int) -> None:
    found = {seed: random_spellings.judged(seed) for seed in SPREAD[first // 40 :: 5]}
    assert {seed: said for seed, said in found.items() if said[0] not in WORDS} == {}


def test_what_is_only_rounded_is_told_from_what_is_wrong() -> None:
    assert random_spellings.judged(9037) == ("rounded", "0.12496000528335571 of 1.0")
