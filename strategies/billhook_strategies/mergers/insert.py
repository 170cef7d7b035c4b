"""Insert: put the map after the donor branch as a linear layer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from billhook import LinearMap, Merger, ModelView, RepairSite, hookimpl, insert_after, typed


@attrs.frozen(field_transformer=typed)
class Insert(Merger):
    """A ``[d_model, d_model]`` linear layer between the donor branch and the residual addition.

    For architectures that cannot fold (a norm after the writer: Gemma 2 and 3, OLMo 2), and for maps with a bias
    where the writer has none. Costs d_model² parameters a cut. Stock checkpoints cannot hold it: the saved model is
    of the type ``billhook``.
    """

    adds_parameters: ClassVar[bool] = True

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Refuses nothing: a layer can be inserted after every donor."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Wrap the last module of the donor branch, so that a map ``[d_model, d_model]`` follows it.

        Raises:
            ShapeMismatch: the map is of another width.
        """
        linear_map.check_width(view.d_model)
        layer = view.layer(site.layer)
        insert_after(layer, view.adapter.output(layer, site.branch), linear_map, view.adapter.scale(layer, site.branch))


@hookimpl
def billhook_register_mergers(register: Callable[[str, Callable[..., Merger]], None]) -> None:
    """``insert``."""
    register("insert", Insert)
