"""Models in which it is known what can go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from billhook.errors import InvalidConfig
from billhook.model.adapter import Adapter
from billhook.model.branch import BRANCHES, Branch, Place
from billhook.model.view import ModelView
from billhook.model.writer import bias_of, replace_weight, weight_rows
from billhook.testing.samples.models import tiny_view


def planted_model(
    given: Adapter | str = "llama",
    *,
    useless_branches: Iterable[Place] = (),
    redundant_layers: Iterable[int] = (),
    dead_channels: Mapping[int, Iterable[int]] | None = None,
    factor: float = 0.0,
    **options: Any,
) -> PreTrainedModel:
    """A tiny model of which it is known what it can lose: a selector that is any good finds it.

    Without what is planted the model computes the same, exactly where ``factor`` is 0.

    Args:
        given: an adapter, or a ``model_type`` that an installed adapter serves.
        useless_branches: branches that write ``factor`` times what they did, as ``(layer, "attention")`` or
            ``(layer, "mlp")``.
        redundant_layers: layers of which both branches do.
        dead_channels: by layer, channels of its MLP whose part is ``factor`` times what it was.
        factor: 0 for what does nothing; small, such as 1e-3, for what does next to nothing.
        options: those of :func:`tiny_model`, config arguments included.

    Raises:
        InvalidConfig: a layer, branch or channel that the model does not have.
    """
    view = tiny_view(given, **options)
    places = [*useless_branches, *((number, branch) for number in redundant_layers for branch in BRANCHES)]
    for number, branch in places:
        _require_there(view, number, branch)
        silence(view, number, branch, factor=factor)
    for number, channels in (dead_channels or {}).items():
        _require_there(view, number, "mlp")
        silence(view, number, "mlp", units=tuple(channels), factor=factor)
    return view.model


@torch.no_grad()
def silence(
    view: ModelView, number: int, branch: Branch, *, units: tuple[int, ...] | None = None, factor: float = 0.0
) -> None:
    """Multiply by ``factor`` what a branch writes, or what some of its units, all by default, contribute."""
    writer, present = view.writer(number, branch), view.units(number, branch)
    rows = weight_rows(writer).clone()
    bias = bias_of(writer)
    if units is None:
        replace_weight(writer, rows * factor, None if bias is None else bias * factor)
        return
    missing = sorted(set(units) - set(present))
    if missing:
        raise InvalidConfig(f"The {branch} of layer {number} has units 0 to {present[-1]}; got {missing}.")
    by_unit = rows.unflatten(0, (len(present), -1))  # a view of rows
    by_unit[[present.index(unit) for unit in units]] *= factor
    replace_weight(writer, rows, None)


def _require_there(view: ModelView, number: int, branch: Branch) -> None:
    if branch not in BRANCHES or not view.has_branch(number, branch):
        raise InvalidConfig(f"The model has no {branch} in layer {number!r}. {view.describe_layer(number)}")
