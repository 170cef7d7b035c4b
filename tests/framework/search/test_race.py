"""Race: successive halving, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import Race
from billhook.errors import InvalidConfig


@pytest.mark.parametrize(
    ("candidates", "left"), [(100, [25, 10]), (60, [15, 6]), (20, [5, 2]), (8, [2, 2]), (2, [2, 2])]
)
def test_a_share_goes_on_but_never_fewer_than_two(candidates: int, left: list[int]) -> None:
    assert [Race().survivors(number, candidates) for number in range(2)] == left


@given(candidates=st.integers(2, 200), data=st.data())
def test_the_work_is_that_of_running_the_rounds(candidates: int, data: st.DataObject) -> None:
    shares = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True)
    batches = data.draw(st.integers(1, 40))
    keep = sorted(data.draw(shares), reverse=True)
    race = Race(data=tuple(data.draw(st.just([(i + 1) / (len(keep) + 1) for i in range(len(keep))]))), keep=tuple(keep))
    ends = sorted(data.draw(st.lists(st.integers(1, batches), min_size=len(keep), max_size=len(keep))))
    left, work = candidates, 0
    for batch in range(1, batches + 1):
        work += left
        for number, end in enumerate(ends):
            if batch == end:
                left = race.survivors(number, candidates)
    assert race.work(ends, batches, candidates) == work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": (0.1,)}, "one 'keep' for each 'data'; got 2 and 1"),
        ({"data": (), "keep": ()}, "one 'keep' for each 'data'; got 0 and 0"),
        ({"data": (0.5, 0.25)}, "'data' of Race must lie between 0 and 1, ascending"),
        ({"data": (0.5, 0.5)}, "'data' of Race must lie between 0 and 1, ascending"),
        ({"data": (0.5, 1.0)}, "'data' of Race must lie between 0 and 1, ascending"),
        ({"data": (0.0, 0.5)}, "'data' of Race must lie between 0 and 1, ascending"),
        ({"keep": (0.06, 0.25)}, "'keep' of Race must lie between 0 and 1, descending"),
        ({"keep": (1.0, 0.25)}, "'keep' of Race must lie between 0 and 1, descending"),
        ({"keep": (0.25, 0.0)}, "'keep' of Race must lie between 0 and 1, descending"),
    ],
)
def test_rounds_that_make_no_race_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Race(**options)
