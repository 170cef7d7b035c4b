"""Searches that are read off at smaller ratios, and clocks that outlive a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.greedy import Known, Step, Stopwatch, upto, with_reused

from billhook import Budget, DropLayers, Pruner
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.selectors.sleb import Sleb

STEPS = [Step(DropLayers(n, n + 1), seconds=n, removed=n / 10) for n in range(1, 5)]


@pytest.mark.parametrize(("ratio", "count"), [(0.05, 1), (0.2, 2), (0.21, 3), (0.9, 4)])
def test_a_search_is_read_off_where_it_reaches_the_ratio(ratio: float, count: int) -> None:
    assert upto(STEPS, ratio) == tuple(STEPS[:count])


def test_what_was_known_counts_until_its_last_cut_that_is_used() -> None:
    assert with_reused(STEPS[:2], [STEPS[0], STEPS[3]]) == 1 + 4
    assert with_reused(STEPS[:2], STEPS[3:]) == 4


def prune(budget: float, watch: Stopwatch, selector: Sleb | Known, journal: Path | None = None) -> None:
    """On a tiny model."""
    pruner = Pruner(selector=selector, estimator=Identity(), hooks=[watch], journal=journal)
    model = tiny_model(num_hidden_layers=6)
    pruner.prune(model, calibration=tiny_tokens(), budget=Budget(parameters=budget))


def test_a_prefix_is_what_the_search_finds_at_the_smaller_ratio() -> None:
    large, small = Stopwatch(), Stopwatch()
    prune(0.4, large, Sleb())
    prune(0.2, small, Sleb())
    assert [step.cut for step in upto(large.steps, 0.2)] == [step.cut for step in small.steps]
    known = Stopwatch()
    prune(0.2, known, Known(tuple(step.cut for step in large.steps)))
    assert [step.cut for step in known.steps] == [step.cut for step in small.steps]


def test_a_clock_goes_on_where_an_interrupted_run_left_it(tmp_path: Path) -> None:
    file = tmp_path / "seconds.json"
    file.write_text("[100.0]")
    watch = Stopwatch(file)
    prune(0.4, watch, Sleb(), tmp_path / "journal.jsonl")
    again = Stopwatch(file)
    prune(0.4, again, Sleb(), tmp_path / "journal.jsonl")
    assert 100 < watch.steps[1].seconds < 200
    assert [step.seconds for step in again.steps] == pytest.approx([step.seconds for step in watch.steps], abs=1e-3)
