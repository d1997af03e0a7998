"""How many replicas a load asks for: literal cases, one look a second, 60 looks of patience."""

import pytest

from amlrealtimeai.errors import ConfigError
from amlrealtimeai.serving.replicas.scaling import Bounds, Looks


@pytest.mark.parametrize(("in_flight", "replicas"), [(0, 1), (1, 2), (2, 3), (4, 6), (7, 10), (8, 10), (1000, 10)])
def test_seventy_percent_are_busy_with_what_is_in_flight(in_flight: int, replicas: int) -> None:
    assert Looks(Bounds(1, 10)).wanted(in_flight, now=5.0) == replicas


def test_a_load_that_just_fits_asks_for_no_more() -> None:
    assert Looks(Bounds(1, 10, target=100)).wanted(3, now=5.0) == 3
    assert Looks(Bounds(1, 10, target=50)).wanted(3, now=5.0) == 6


def test_up_at_once_and_down_after_sixty_quiet_looks() -> None:
    looks = Looks(Bounds(1, 3, target=100))
    counts = [looks.wanted(3 if second == 10 else 0, now=100.0 + second) for second in range(100)]
    assert counts == [1] * 10 + [3] * 60 + [1] * 30


def test_between_two_looks_nothing_changes() -> None:
    looks = Looks(Bounds(1, 3, target=100, seconds=2.0))
    assert [looks.wanted(load, now) for load, now in ((0, 1.0), (3, 2.9), (3, 3.0))] == [1, 1, 3]


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (None, None),
        (1, Bounds(1, 1)),
        (3, Bounds(3, 3)),
        ({"least": 2, "most": 5, "target": 50, "seconds": 0.5}, Bounds(2, 5, 50, 0.5)),
    ],
)
def test_what_a_watched_file_may_say(value: object, bounds: Bounds | None) -> None:
    assert Bounds.of(value) == bounds


@pytest.mark.parametrize(
    "value",
    [0, -1, "3", 1.5, [1], {}, {"least": 3, "most": 1}, {"least": 1, "most": 2, "target": 0}, {"least": 1, "more": 2}],
)
def test_what_it_may_not(value: object) -> None:
    with pytest.raises(ConfigError, match="replicas: expected a number of at least 1"):
        Bounds.of(value)
