"""What goes to stderr, and that nothing of it stays behind."""

from __future__ import annotations

import logging
import os
import warnings

import pytest
from loguru import logger
from transformers.utils import logging as transformers_logging

from billhook.cli.messages import CHATTERERS, QUIET, Messages


def test_warnings_of_the_library_are_shown_and_details_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages():
        logger.warning("look\nhere")
        logger.info("by the way")
    assert capsys.readouterr().err == "Warning: look here\n"


@pytest.mark.parametrize(
    ("verbosity", "shown"), [(1, "Info: a\n"), (2, "Info: a\nDebug: b\n"), (9, "Info: a\nDebug: b\n")]
)
def test_each_v_shows_more(verbosity: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Messages() as messages:
        messages.show(verbosity)
        logger.info("a")
        logger.debug("b")
    assert capsys.readouterr().err == shown


def test_nothing_is_shown_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages():
        pass
    logger.warning("late")
    assert capsys.readouterr().err == ""


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages() as messages:
        messages.error("[red]layers[/red] [15:19]")
    assert capsys.readouterr().err == "Error: [red]layers[/red] [15:19]\n"


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages() as messages:
        messages.error("word " * 100)
    assert capsys.readouterr().err.count("\n") == 1


def test_other_libraries_say_nothing_inside(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages():
        warnings.warn("chatter", UserWarning, stacklevel=1)
        for name in CHATTERERS:
            logging.getLogger(name).warning("chatter")
        assert not transformers_logging.is_progress_bar_enabled()
    assert capsys.readouterr().err == ""


def test_other_libraries_talk_from_the_first_v_on() -> None:
    with Messages() as messages:
        messages.show(1)
        with pytest.raises(UserWarning, match="chatter"):  # the test suite makes errors of warnings
            warnings.warn("chatter", UserWarning, stacklevel=1)
        assert transformers_logging.is_progress_bar_enabled()


def test_everything_is_put_back() -> None:
    def state() -> tuple[dict[str, str], list[int], bool, int]:
        levels = [logging.getLogger(name).level for name in CHATTERERS]
        return dict(os.environ), levels, transformers_logging.is_progress_bar_enabled(), len(warnings.filters)

    before = state()
    with Messages():
        assert state() != before
    assert state() == before


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "0")
    with Messages():
        assert {name: os.environ[name] for name in QUIET} == {**QUIET, "TQDM_DISABLE": "0"}
    assert os.environ["TQDM_DISABLE"] == "0"
