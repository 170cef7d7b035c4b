"""Progress: how far a run is, told to whoever waits."""

from __future__ import annotations

from collections.abc import Callable

import attrs

Progress = Callable[[str, int, int | None], None]
"""Called with a stage, the steps done, and their total if known."""


def silent(*news: object) -> None:
    """The progress callback of nobody: takes whatever it is told, and says nothing."""


@attrs.frozen(kw_only=True)
class SearchProgress:
    """Where a search stands, for people who wait.

    Attributes:
        step: number of the cut that is being chosen, from 1.
        candidates: how many cuts are compared in this step.
        candidates_left: how many of them can still win.
        best: the best one so far, in words; empty at the beginning.
        best_score: its objective on the data seen so far; NaN at the beginning.
        removed: parameters that are gone.
        target: parameters that are to go; the search is over when ``removed`` reaches it.
        seconds_left: estimated until then; NaN before anything is known.
    """

    step: int
    candidates: int
    candidates_left: int
    best: str
    best_score: float
    removed: int
    target: int
    seconds_left: float
