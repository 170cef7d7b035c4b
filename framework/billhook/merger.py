"""Merger: the only role that changes weights."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from billhook.cut import Cut
    from billhook.linear_map import LinearMap
    from billhook.model_view import ModelView


class Merger(abc.ABC):
    """Removes a cut and makes a linear map take its place. Sees a model, never data.

    Exactness is the law: after :meth:`merge` the model computes what the *linearised* model computes (the same
    model with the cut replaced by an explicit linear layer), up to floating point.
    """

    @abc.abstractmethod
    def check(self, view: ModelView, cut: Cut) -> None:
        """Raise :class:`CannotMerge` if a map for ``cut`` could not be expressed here; change nothing.

        Called before any data is collected, so that nobody waits an hour for a refusal.
        """

    @abc.abstractmethod
    def merge(self, view: ModelView, cut: Cut, linear_map: LinearMap | None) -> None:
        """Remove ``cut`` from ``view`` and put ``linear_map`` after the donor of its repair site.

        ``linear_map`` is None when nothing is repaired. Everything is validated before the first change.

        Raises:
            CannotMerge: the architecture cannot express the map; the message names the way out.
            InvalidCut: the cut does not fit the model.
            ShapeMismatch: the map does not go from the stream's width to the stream's width.
        """
