"""Progress on stderr."""

from __future__ import annotations

import io
import math

import attrs
import pytest
from rich.console import Console

from billhook import Budget, Pruner, SearchProgress
from billhook.cli.progress import ProgressBars
from billhook.testing import tiny_model, tiny_tokens

NEWS = SearchProgress(
    step=3,
    candidates=60,
    candidates_left=12,
    best="attention 17",
    best_score=23.41234,
    removed=1_234_567,
    target=26_903_001,
    seconds_left=200.4,
)


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)


def shown_on(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_of_the_pruner_shows_its_stages() -> None:
    console = terminal()
    with ProgressBars(console) as bars:
        Pruner.following("replaceme-ls", hooks=[bars], tokens_per_batch=24).prune(
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


def test_a_search_shows_its_step_what_is_gone_the_time_left_and_the_best_candidate() -> None:
    with ProgressBars(terminal()) as bars:
        bars.billhook_on_search(NEWS)
        search, step = bars.tasks
        assert (search.description, search.completed, search.total) == ("searching", 1_234_567, 26_903_001)
        assert search.fields["count"] == "step 3, 1.2M/26.9M parameters, 3:20 left"
        assert (step.completed, step.total) == (48, 60)
        assert step.fields["count"] == "12/60 left, best attention 17 at 23.41"


def test_what_is_not_known_yet_is_not_shown() -> None:
    with ProgressBars(terminal()) as bars:
        early = attrs.evolve(NEWS, best="", best_score=math.nan, seconds_left=math.nan, removed=0, target=900)
        bars.billhook_on_search(early)
        assert [task.fields["count"] for task in bars.tasks] == ["step 3, 0/900 parameters", "12/60 left"]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3905, "1:05:05")])
def test_the_time_left_is_told_as_a_clock_tells_it(seconds: float, said: str) -> None:
    with ProgressBars(terminal()) as bars:
        bars.billhook_on_search(attrs.evolve(NEWS, seconds_left=seconds))
        assert bars.tasks[0].fields["count"].endswith(f", {said} left")


def test_a_new_step_starts_its_line_again_and_the_search_goes_on() -> None:
    with ProgressBars(terminal()) as bars:
        bars.billhook_on_search(NEWS)
        bars.billhook_on_search(attrs.evolve(NEWS, step=4, candidates=59, candidates_left=59, removed=2_000_000))
        search, step = bars.tasks
        assert (search.completed, step.completed, step.total) == (2_000_000, 0, 59)


def test_a_search_is_over_when_another_stage_begins() -> None:
    with ProgressBars(terminal()) as bars:
        bars.billhook_on_search(NEWS)
        with bars.step("saving"):
            assert [task.finished for task in bars.tasks] == [True, True, False]


def test_the_lines_of_a_search_fit_into_a_narrow_terminal() -> None:
    console = terminal(width=80)
    with ProgressBars(console) as bars:
        bars.billhook_on_search(NEWS)
    assert "step 3, 1.2M/26.9M parameters, 3:20 left" in shown_on(console)


def test_a_searching_run_of_the_pruner_shows_its_search() -> None:
    console = terminal()
    with ProgressBars(console) as bars:
        pruner = Pruner.following("blockpruner", hooks=[bars])
        pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(parameters=0.1))
        assert {"searching", "this step"} <= {task.description for task in bars.tasks}
    assert "searching" in shown_on(console)


def test_a_search_says_nothing_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with ProgressBars(console) as bars:
        bars.billhook_on_search(NEWS)
    assert shown_on(console) == ""
