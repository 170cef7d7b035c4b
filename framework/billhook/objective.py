"""Objective: a number to minimise on calibration data."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from billhook.state import PruningState


class Objective(abc.ABC):
    """A number to minimise: lower is better. Reads the state, changes nothing."""

    @abc.abstractmethod
    def evaluate(self, state: PruningState) -> float:
        """The objective of ``state.model`` on ``state.tokens``, in the unit its docstring names.

        Padding never counts. Deterministic.
        """
