"""What mergers that change a donor's writer refuse."""

from __future__ import annotations

from billhook import LinearMap, ModelView, RepairSite, bias_of, is_linear
from billhook.errors import CannotMerge


def refuse_unwritable(view: ModelView, site: RepairSite) -> None:
    """Raise :class:`CannotMerge` when the donor ends with a norm, or its writer is not a plain linear layer."""
    reason = view.adapter.why_not_foldable(site.branch)
    writer = view.writer(site.layer, site.branch)
    if reason is None and not is_linear(writer):
        reason = f"the writer of layer {site.layer} is a {type(writer).__name__}, not a float linear layer"
    if reason is not None:
        raise CannotMerge(
            f"The map cannot be folded: {reason}. Use the merger 'insert', or the estimator 'identity' for none."
        )


def has_bias(view: ModelView, site: RepairSite) -> bool:
    """Whether the donor's writer has a bias that a map's can be added to."""
    return bias_of(view.writer(site.layer, site.branch)) is not None


def refuse_bias(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    """Raise :class:`CannotMerge` when the map has a bias and the donor's writer none."""
    if linear_map.bias is not None and not has_bias(view, site):
        raise CannotMerge(
            f"The map has a bias, but the {site.branch} writer of layer {site.layer} has none to fold it into. "
            f"Estimate without bias, or use the merger 'insert'."
        )
