"""Runs: numbers that a person can read, and what no run of numbers is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.cuts.runs import MOST, from_runs, to_runs
from billhook.errors import InvalidPlan

NUMBERS = st.integers(0, 999_999_998)


@given(numbers=st.sets(st.one_of(st.integers(0, 30), NUMBERS)).map(sorted))
def test_ascending_numbers_survive(numbers: list[int]) -> None:
    assert from_runs(to_runs(numbers)) == tuple(numbers)


@given(numbers=st.lists(st.one_of(st.integers(0, 5), NUMBERS)))
def test_so_do_numbers_in_any_order(numbers: list[int]) -> None:
    assert from_runs(to_runs(numbers)) == tuple(numbers)


@given(numbers=st.sets(st.integers(0, 200)).map(sorted))
def test_neighbours_share_a_run(numbers: list[int]) -> None:
    starts = sum(number - 1 not in numbers for number in numbers)
    assert len(to_runs(numbers).split()) == starts


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((7,), "7"), (range(5), "0:5"), ((0, 1, 2, 3, 4, 7, 9, 10, 11), "0:5 7 9:12"), ((1, 2), "1:3")],
)
def test_runs_are_half_open_and_separated_by_blanks(numbers: tuple[int, ...], text: str) -> None:
    assert to_runs(numbers) == text
    assert from_runs(text) == tuple(numbers)


def test_any_white_space_separates() -> None:
    assert from_runs("  0:2\n\t7  ") == (0, 1, 7)


@pytest.mark.parametrize("part", ["x", "1,2", "-3", "5:3", "4:4", "1:2:3", ":4", "2:", "1.5", "1_0", "²", "9" * 5000])
def test_what_is_no_run_is_named_with_an_example_of_one(part: str) -> None:
    with pytest.raises(InvalidPlan, match=r"is no run of numbers: write 7, or 9:12 for 9, 10 and 11\.$") as raised:
        from_runs(f"0:5 {part}")
    assert repr(part)[:500] in str(raised.value)


@pytest.mark.parametrize("text", ["0:999999999", f"0:{MOST} {MOST}"])
def test_a_damaged_file_does_not_fill_the_memory(text: str) -> None:
    with pytest.raises(InvalidPlan, match="These runs hold more than 1,000,000 numbers"):
        from_runs(text)
