"""Insert: put the map after the donor branch as a linear layer of its own."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Cut, LinearMap, Merger, ModelView, hookimpl
from billhook.errors import CannotMerge
from billhook.inserted import insert_after


@attrs.frozen
class Insert(Merger):
    """A ``[d_model, d_model]`` linear layer between the donor branch and the residual addition.

    For architectures that cannot fold (a norm after the writer: Gemma 2 and 3, OLMo 2), and for maps with a bias
    where the writer has none. Costs d_model² parameters a cut. Stock checkpoints cannot hold it: the saved model is
    of the type ``billhook``.
    """

    def check(self, view: ModelView, cut: Cut) -> None:
        """Only the cut itself can be wrong."""
        cut.check(view)

    def merge(self, view: ModelView, cut: Cut, linear_map: LinearMap | None) -> None:
        """Remove the cut, wrap the last module of the donor branch."""
        cut.check(view)
        site = cut.repair_site(view)
        if linear_map is not None and site is None:
            raise CannotMerge(f"{cut} has no layer before it after which a map could stand.")
        if linear_map is not None:
            linear_map.check_width(view.d_model)
        layer = None if site is None else view.layer(site.layer)
        cut.remove_from(view)
        if linear_map is not None and site is not None and layer is not None:
            scale = view.adapter.scale(layer, site.branch)
            insert_after(layer, view.adapter.output(layer, site.branch), linear_map, scale)


@hookimpl
def billhook_register_mergers(register: Callable[[str, Callable[..., Merger]], None]) -> None:
    """``insert``."""
    register("insert", Insert)
