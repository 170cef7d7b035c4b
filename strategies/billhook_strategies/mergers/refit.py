"""Refit: the map takes the place of the donor's writer. No parameter is added."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from billhook import (
    LinearMap,
    Merger,
    ModelView,
    Regressor,
    RepairSite,
    bias_of,
    hookimpl,
    replace_weight,
    typed,
    weight_rows,
)
from billhook.errors import ShapeMismatch
from billhook_strategies.mergers.into_writer import has_bias, refuse_bias, refuse_unwritable


@attrs.frozen(field_transformer=typed)
class Refit(Merger):
    """``W ← T``, ``b ← b + t``: the whole writer is solved anew, from what it reads.

    Every map that ``fold`` can express is among them (``W T``), and for a writer that reads more columns than the
    stream has, such as that of an MLP, many more: the same number of parameters, a smaller error. What is left of a
    narrowed branch is repaired as in OSSCAR (arXiv 2403.12983) and GRAIL (arXiv 2602.23795).
    """

    regressor: ClassVar[Regressor] = "inner"

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Refuse a donor that ends with a norm, or whose writer is not a plain linear layer."""
        refuse_unwritable(view, site)

    def takes_bias(self, view: ModelView, site: RepairSite) -> bool:
        """Where the writer has one."""
        return has_bias(view, site)

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Replace the writer's weight by a map ``[d_inner, d_model]``, and add the map's bias to its own.

        Raises:
            CannotMerge: a norm stands between writer and stream, the writer is no float linear layer, or the map has a
                bias and the writer has none.
            ShapeMismatch: the map does not have the shape of the weight.
        """
        refuse_unwritable(view, site)
        refuse_bias(view, site, linear_map)
        donor = view.writer(site.layer, site.branch)
        shape = weight_rows(donor).shape
        if linear_map.weight.shape != shape:
            raise ShapeMismatch(
                f"A map in the place of the {site.branch} writer of layer {site.layer} is {list(shape)}; got "
                f"{list(linear_map.weight.shape)}."
            )
        bias = bias_of(donor)
        if bias is not None and linear_map.bias is not None:
            bias = bias.to(linear_map.bias) + linear_map.bias / view.adapter.scale(view.layer(site.layer), site.branch)
        replace_weight(donor, linear_map.weight, bias)


@hookimpl
def billhook_register_mergers(register: Callable[[str, Callable[..., Merger]], None]) -> None:
    """``refit``."""
    register("refit", Refit)
