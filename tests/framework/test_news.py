"""Where a run stands: shown by itself, not too often, in what the process has; and silenced where that is asked for."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from billhook import Budget, Pruner, SearchProgress, analyze, evaluate, hookimpl
from billhook import news as told
from billhook.cli.progress import ProgressBars
from billhook.news import Lines, News, Notebook, Terminal, outlet, spelled
from billhook.testing import tiny_model, tiny_tokens


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_file_gets_a_line_every_half_minute_that_says_where_the_run_stands() -> None:
    stream, clock = io.StringIO(), Clock()
    with News(to=Lines(stream), clock=clock) as news:
        for second in range(100):
            clock.now = float(second)
            news("scoring", second, 200)
    assert stream.getvalue().splitlines() == [
        "Progress: scoring 30/200, 1 a second, 2:50 left (after 0:30)",
        "Progress: scoring 60/200, 1 a second, 2:20 left (after 1:00)",
        "Progress: scoring 90/200, 1 a second, 1:50 left (after 1:30)",
    ]


def test_a_short_run_says_nothing_in_a_file() -> None:
    stream = io.StringIO()
    with News(to=Lines(stream), clock=Clock()) as news:
        news("scoring", 1, 2)
    assert stream.getvalue() == ""


def test_a_search_says_how_much_is_gone_and_how_long_it_will_take() -> None:
    stream, clock = io.StringIO(), Clock()
    news = News(to=Lines(stream), clock=clock)
    clock.now = 31.0
    news.searching(
        SearchProgress(
            step=3,
            candidates=9,
            candidates_left=5,
            best="layers 2:3",
            best_score=1.0,
            removed=1000,
            target=4000,
            seconds_left=90.0,
        )
    )
    assert stream.getvalue().startswith("Progress: step 3, 1,000/4,000 parameters gone, 1:30 left; candidates 4/9")


def test_a_terminal_gets_one_line_that_is_gone_at_the_end() -> None:
    stream, clock = io.StringIO(), Clock()
    with News(to=Terminal(stream), clock=clock) as news:
        clock.now = 1.0
        news("scoring", 1, 2)
    assert "[##########..........] scoring 1/2" in stream.getvalue()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")


def test_a_notebook_gets_a_bar_that_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = SimpleNamespace(update=shown.append)

    def display(source: str, display_id: bool) -> Any:
        shown.append(source)
        return handle

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    clock = Clock()
    with News(to=Notebook(), clock=clock) as news:
        for clock.now in (1.0, 2.0):
            news("<scoring>", int(clock.now), 4)
    assert '<progress value="0.250">' in shown[0]
    assert "&lt;scoring&gt; 2/4" in shown[1]
    assert shown[2] == ""


def test_the_outlet_is_what_the_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(outlet()) is Lines
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: True))
    assert type(outlet()) is Terminal
    kernel = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    assert type(outlet()) is Notebook
    monkeypatch.setenv("BILLHOOK_PROGRESS", "0")
    assert outlet() is None


def test_a_closed_stream_ends_no_run() -> None:
    stream, clock = io.StringIO(), Clock()
    stream.close()
    news = News(to=Lines(stream), clock=clock)
    for clock.now in (40.0, 80.0):
        news("scoring", 1, 2)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown by runs, all of it."""
    texts: list[str] = []

    class Everything:
        every = 0.0

        def show(self, text: str, share: float | None) -> None:
            texts.append(text)

        def end(self) -> None:
            texts.append("end")

    monkeypatch.setattr(told, "outlet", Everything)
    return texts


TOKENS = tiny_tokens(8, 12)


def prune(**options: Any) -> None:
    pruner = Pruner.following("replaceme-ls", **options)
    pruner.prune(tiny_model(num_hidden_layers=4), calibration=TOKENS, budget=Budget(layers=1))


def test_python_shows_progress_by_itself_and_clears_it_away(heard: list[str]) -> None:
    prune()
    assert any(text.startswith("selecting") for text in heard)
    assert heard[-1] == "end"
    heard.clear()
    evaluate(tiny_model(), None, TOKENS)
    analyze(tiny_model(), calibration=TOKENS)
    assert {text.split()[0] for text in heard} == {"scoring", "selecting", "end"}


def test_it_can_be_silenced(heard: list[str]) -> None:
    prune(progress=False)
    evaluate(tiny_model(), None, TOKENS, progress=lambda *news: None)
    assert set(heard) <= {"end"}


def test_whoever_is_told_of_progress_shows_it_himself(heard: list[str]) -> None:
    class Watcher:
        @hookimpl
        def billhook_on_progress(self, stage: str) -> None:
            """Shows it somewhere else."""

    prune(hooks=[Watcher()])
    assert heard == []
    prune(hooks=[Watcher()], progress=True)
    assert len(heard) > 1


def test_the_commands_tell_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lines, "every", 0.0)
    stream = io.StringIO()
    with ProgressBars(Console(file=stream)) as bars:
        bars.billhook_on_progress("scoring", 1, 2)
    assert stream.getvalue().startswith("Progress: scoring 1/2")


def test_nothing_is_imported_for_it() -> None:
    code = "import sys, billhook.news; print('IPython' in sys.modules, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("seconds", "text"), [(9, "0:09"), (750, "12:30"), (3900, "1:05:00"), (-1, "0:00")])
def test_times_are_short(seconds: float, text: str) -> None:
    assert spelled(seconds) == text
    assert not math.isnan(seconds)
