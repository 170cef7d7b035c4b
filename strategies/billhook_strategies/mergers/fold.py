"""Fold: multiply the map into the donor's writer. No parameter is added."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from billhook import (
    LinearMap,
    Merger,
    ModelView,
    RepairSite,
    bias_of,
    double_device,
    hookimpl,
    replace_weight,
    typed,
    weight_rows,
)
from billhook_strategies.mergers.into_writer import has_bias, refuse_bias, refuse_unwritable


@attrs.frozen(field_transformer=typed)
class Fold(Merger):
    """``W ← W T``, ``b ← b T + t`` in the donor's writer (ReplaceMe, arXiv 2505.02819, equation 8).

    Computes in float64 and rounds once to the writer's dtype. Exact, because the writer is the last thing its
    branch does before the residual addition.
    """

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Refuse a donor that ends with a norm, or whose writer is not a plain linear layer."""
        refuse_unwritable(view, site)

    def takes_bias(self, view: ModelView, site: RepairSite) -> bool:
        """Where the writer has one."""
        return has_bias(view, site)

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Multiply the writer's weight ``[d_inner, d_model]`` by a map ``[d_model, d_model]``.

        Raises:
            CannotMerge: a norm stands between writer and stream, the writer is no float linear layer, or the map has a
                bias and the writer has none.
            ShapeMismatch: the map is of another width.
        """
        refuse_unwritable(view, site)
        refuse_bias(view, site, linear_map)
        linear_map.check_width(view.d_model)
        donor = view.writer(site.layer, site.branch)
        rows, bias = folded(donor, linear_map, view.adapter.scale(view.layer(site.layer), site.branch))
        replace_weight(donor, rows, bias)


def folded(writer: torch.nn.Module, linear_map: LinearMap, scale: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The writer's new weight ``[d_in, d_out]`` and bias, float64.

    ``scale`` is what the writer's output is multiplied by before the addition (Granite): the map was fitted on the
    scaled output, so its weight commutes with the factor and its bias must be divided by it.
    """
    rows = weight_rows(writer)
    double = double_device(rows.device)
    t = linear_map.weight.to(device=double, dtype=torch.float64)
    new_rows = rows.to(device=double, dtype=torch.float64) @ t
    old_bias = bias_of(writer)
    if old_bias is None:
        return new_rows, None
    new_bias = old_bias.to(device=double, dtype=torch.float64) @ t
    if linear_map.bias is not None:
        new_bias = new_bias + linear_map.bias.to(new_bias) / scale
    return new_rows, new_bias


@hookimpl
def billhook_register_mergers(register: Callable[[str, Callable[..., Merger]], None]) -> None:
    """``fold``."""
    register("fold", Fold)
