"""Merger: the only role that changes weights."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar, final

from billhook.cuts.placed import Placed
from billhook.errors import CannotMerge, PluginError
from billhook.model.writer import all_finite
from billhook.regression.regression import Regressor  # at run time: what resolves the annotations of a merger needs it

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.cuts.sites import RepairSite
    from billhook.model.view import ModelView
    from billhook.regression.linear_map import LinearMap


class Merger(abc.ABC):
    """Removes a cut and makes a linear map take its place. Sees a model, never data.

    Subclasses say where they can put a map (:meth:`check_site`) and do it (:meth:`put`).

    Exactness is the law: after :meth:`merge` the model computes what the *linearised* model computes (the same
    model with the cut replaced by an explicit linear layer), up to floating point.

    Attributes:
        regressor: what its maps are fitted on. ``output``: they follow the donor branch, ``[d_model, d_model]``.
            ``inner``: they take the place of the donor's writer, ``[d_inner, d_model]``.
        adds_parameters: whether a map is put beside the weights, as ``d_model²`` parameters more, rather than in them.

    Raises:
        PluginError: (on definition) a subclass with a ``merge`` of its own.
    """

    regressor: ClassVar[Regressor] = "output"
    adds_parameters: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("merge", "merge_placed", "put_finite"):
            if name in vars(cls):
                raise PluginError(
                    f"The merger {cls.__name__} has a {name} of its own, which would not be called: how a cut is made "
                    f"is the same for all. Implement check_site and put."
                )

    @abc.abstractmethod
    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Raise :class:`CannotMerge` if a map at ``site`` could not be expressed here; change nothing."""

    @abc.abstractmethod
    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Make ``linear_map`` part of the donor at ``site``, as :attr:`regressor` says. Validates before it changes.

        Raises:
            CannotMerge: the architecture cannot express the map; the message names the way out.
            ShapeMismatch: the map does not go from the regressor's width to the stream's width.
        """

    def takes_bias(self, view: ModelView, site: RepairSite) -> bool:
        """Whether a map with a bias could be put at ``site``; changes nothing."""
        return True

    def check(self, view: ModelView, cut: Cut) -> None:
        """Raise :class:`CannotMerge` if a map for ``cut`` could not be expressed here; change nothing.

        Called before any data is collected, so that nobody waits an hour for a refusal.
        """
        cut.check(view)
        site = cut.repair_site(view)
        if site is not None:
            self.check_site(view, site)

    @final
    def merge(self, view: ModelView, cut: Cut, linear_map: LinearMap | None) -> None:
        """Remove ``cut`` from ``view`` and put ``linear_map`` at its repair site.

        ``linear_map`` is None when nothing is repaired. A refusal changes nothing. ``view.model`` is another object
        afterwards, with new modules; the one before, and whoever else shares its tensors, stays as it was.

        Raises:
            InvalidCut: the cut does not fit the model.
            CannotMerge: nothing survives before the cut; a weight would overflow in its dtype; else as :meth:`put`.
            ShapeMismatch: as :meth:`put`.
        """
        placed = Placed.of(cut, view)
        if linear_map is not None and placed.site is not None:
            self.check_site(view, placed.site)
        self.merge_placed(placed, linear_map)
        view.adopt(placed.after)

    @final
    def merge_placed(self, placed: Placed, linear_map: LinearMap | None) -> None:
        """Put ``linear_map`` into ``placed.after``, the model that the cut was already taken out of.

        Args:
            placed: the cut, where it is repaired, and the model without it, which is changed.
            linear_map: what :meth:`put` takes; None for no repair, which changes nothing.

        Raises:
            CannotMerge: nothing survives before the cut; the architecture cannot express the map; or a weight would
                overflow.
            ShapeMismatch: the map does not go from the regressor's width to the stream's width.
        """
        if linear_map is None:
            return
        if placed.site is None:
            raise CannotMerge(f"{placed.cut} has nothing before it that could take a map.")
        self.put_finite(placed.after, placed.site, linear_map)

    @final
    def put_finite(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """:meth:`put`, and look at what it made: weights in 16 bits hold less than the float64 of a map.

        Raises:
            CannotMerge: a weight of the donor's layer would be infinite in its dtype; else as :meth:`put`.
            ShapeMismatch: as :meth:`put`.
        """
        self.put(view, site, linear_map)
        for name, weight in view.layer(site.layer).named_parameters():
            if weight.is_floating_point() and not all_finite(weight):
                raise CannotMerge(
                    f"{self!r} cannot put the map at layer {site.layer} {site.branch}: {name} overflows in "
                    f"{weight.dtype}. Load the model in bfloat16 or float32 (--dtype), or repair more gently (the "
                    f"estimator 'ridge')."
                )
