"""TaskAccuracy and paired: percentages and standard errors, against numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import TaskAccuracy, paired
from billhook.errors import ShapeMismatch

HITS = st.lists(st.booleans(), min_size=1, max_size=50).map(tuple)


@given(hits=HITS)
def test_accuracy_and_its_error_are_mean_and_spread_of_the_hits(hits: tuple[bool, ...]) -> None:
    found = TaskAccuracy(task="made up", hits=hits)
    assert found.count == len(hits)
    assert found.accuracy == pytest.approx(100 * np.mean(hits))
    assert found.standard_error == pytest.approx(100 * np.std(hits) / math.sqrt(len(hits)), abs=1e-9)


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_a_difference_and_its_error_are_those_of_the_differences(pairs: list[tuple[bool, bool]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    found = paired(ours, theirs)
    gains = np.array(ours, dtype=int) - np.array(theirs, dtype=int)
    assert found.points == pytest.approx(100 * gains.mean(), abs=1e-9)
    assert found.standard_error == pytest.approx(100 * gains.std() / math.sqrt(len(gains)), abs=1e-9)


def test_models_that_answer_alike_differ_by_nothing_for_certain() -> None:
    found = paired([True, False, True], [True, False, True])
    assert (found.points, found.standard_error) == (0, 0)


def test_results_are_shown_in_points() -> None:
    assert str(TaskAccuracy(task="piqa", hits=(True, True, True, False))) == "piqa: 75.00 ± 21.65 (4 questions)"
    assert str(paired([True, False, True, True], [False, False, True, True])) == "+25.00 ± 21.65 points"


@pytest.mark.parametrize(("ours", "theirs"), [([True], [True, False]), ([], [])])
def test_hits_on_other_questions_are_not_paired(ours: list[bool], theirs: list[bool]) -> None:
    with pytest.raises(ShapeMismatch, match=f"both models answer the same ones; got {len(ours)} and {len(theirs)}"):
        paired(ours, theirs)
