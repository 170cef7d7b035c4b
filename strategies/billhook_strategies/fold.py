"""Fold: multiply the map into the donor's writer. No parameter is added."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from billhook import Cut, LinearMap, Merger, ModelView, hookimpl
from billhook.cut import RepairSite
from billhook.errors import CannotMerge
from billhook.writer import bias_of, is_linear, replace_weight, weight_rows


@attrs.frozen
class Fold(Merger):
    """``W ← W T``, ``b ← b T + t`` in the donor's writer (ReplaceMe, arXiv 2505.02819, equation 8).

    Computes in float64 and rounds once to the writer's dtype. Exact, because the writer is the last thing its
    branch does before the residual addition.
    """

    def check(self, view: ModelView, cut: Cut) -> None:
        """Refuse a donor that ends with a norm, or whose writer is not a plain linear layer."""
        cut.check(view)
        site = cut.repair_site(view)
        if site is not None:
            self._refuse(view, site)

    def merge(self, view: ModelView, cut: Cut, linear_map: LinearMap | None) -> None:
        """Remove the cut, fold the map."""
        cut.check(view)
        site = cut.repair_site(view)
        if linear_map is not None:
            if site is None:
                raise CannotMerge(f"{cut} has no layer before it whose writer could take a map.")
            self._refuse(view, site)
            self._refuse_bias(view, site, linear_map)
            linear_map.check_width(view.d_model)
        donor = None if site is None else view.writer(site.layer, site.branch)
        scale = 1.0 if site is None else view.adapter.scale(view.layer(site.layer), site.branch)
        cut.remove_from(view)
        if linear_map is not None and donor is not None:
            rows, bias = folded(donor, linear_map, scale)
            replace_weight(donor, rows, bias)

    def _refuse(self, view: ModelView, site: RepairSite) -> None:
        reason = view.adapter.why_not_foldable(site.branch)
        writer = view.writer(site.layer, site.branch)
        if reason is None and not is_linear(writer):
            reason = f"the writer of layer {site.layer} is a {type(writer).__name__}, not a float linear layer"
        if reason is not None:
            raise CannotMerge(
                f"The map cannot be folded: {reason}. Use the merger 'insert', or the estimator 'identity' for none."
            )

    def _refuse_bias(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        if linear_map.bias is not None and bias_of(view.writer(site.layer, site.branch)) is None:
            raise CannotMerge(
                f"The map has a bias, but the {site.branch} writer of layer {site.layer} has none to fold it into. "
                f"Estimate without bias, or use the merger 'insert'."
            )


def folded(writer: torch.nn.Module, linear_map: LinearMap, scale: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The writer's new weight ``[d_in, d_out]`` and bias, float64.

    ``scale`` is what the writer's output is multiplied by before the addition (Granite): the map was fitted on the
    scaled output, so its weight commutes with the factor and its bias must be divided by it.
    """
    rows = weight_rows(writer)
    double = torch.device("cpu") if rows.device.type == "mps" else rows.device
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
