"""Progress on stderr."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from billhook import Budget, Pruner
from billhook.cli.progress import ProgressBars
from billhook.testing import tiny_model, tiny_tokens


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_of_the_pruner_shows_its_stages() -> None:
    console = terminal()
    with ProgressBars(console) as bars:
        Pruner(hooks=[bars], tokens_per_batch=24).prune(
            tiny_model(), calibration=tiny_tokens(rows=4, seq=12), budget=Budget(layers=1)
        )
    assert "selecting" in shown_on(console)
    assert "estimating" in shown_on(console)
    assert "2/2" in shown_on(console)


def test_a_stage_that_starts_again_starts_its_bar_again() -> None:
    with ProgressBars(terminal()) as bars:
        for done in (1, 2, 1):
            bars.billhook_on_progress("estimating", done, 2)
        (task,) = bars.tasks
        assert (task.completed, task.total, task.finished) == (1, 2, False)


def test_a_stage_without_an_end_counts() -> None:
    console = terminal()
    with ProgressBars(console) as bars:
        bars.billhook_on_progress("fitting", 7, None)
    assert "fitting" in shown_on(console)
    assert "7" in shown_on(console)


def test_a_stage_without_an_end_is_over_when_another_begins() -> None:
    with ProgressBars(terminal()) as bars:
        bars.billhook_on_progress("fitting", 7, None)
        with bars.step("saving"):
            fitting, saving = bars.tasks
            assert (fitting.finished, saving.finished) == (True, False)


def test_steps_are_clocked_and_their_lines_go() -> None:
    with ProgressBars(terminal()) as bars:
        with bars.step("loading"):
            assert [task.description for task in bars.tasks] == ["loading"]
        assert bars.tasks == []
        with bars.clock("measuring"):
            assert bars.tasks == []
    assert set(bars.seconds) == {"loading", "measuring"}
    assert all(seconds >= 0 for seconds in bars.seconds.values())


def test_the_lines_go_when_a_step_fails() -> None:
    with ProgressBars(terminal()) as bars:
        with pytest.raises(ValueError, match="no"), bars.step("loading"):
            raise ValueError("no")
        assert bars.tasks == []


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with ProgressBars(console) as bars, bars.step("loading"):
        bars.billhook_on_progress("selecting", 1, 2)
    assert shown_on(console) == ""
