"""Trials: where a search gets its candidates from repaired."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from billhook.cuts.candidate import Candidate
    from billhook.cuts.cut import Cut
    from billhook.plans.report import CutReport
    from billhook.regression.linear_map import LinearMap


class Trials(abc.ABC):
    """Candidates of one state's present model, each with its repair: see ``Repair(when="trial")``."""

    @abc.abstractmethod
    def candidates(self, cuts: Sequence[Cut]) -> list[Candidate]:
        """The present model without each of the cuts, repaired; those that nothing can make up for unrepaired."""

    @abc.abstractmethod
    def repair(self, cut: Cut) -> tuple[LinearMap | None, CutReport]:
        """The map for ``cut``, as a candidate of the present model, and how good it is."""
