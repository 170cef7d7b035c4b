"""Cuts as JSON values, each with the name of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cattrs

from billhook.cuts.cut import Cut, cut_kinds
from billhook.cuts.drop_branch import DropBranch as DropBranch  # imported so that their kinds are known
from billhook.cuts.drop_layers import DropLayers as DropLayers
from billhook.cuts.keep_units import KeepChannels as KeepChannels
from billhook.errors import InvalidPlan, listing
from billhook.json_values import explain


def cut_to_data(cut: Cut) -> dict[str, Any]:
    """A cut as JSON values, with its kind."""
    return {"kind": cut.kind, **cut.to_data()}


def cut_from_data(data: Mapping[str, Any]) -> Cut:
    """The inverse of :func:`cut_to_data`.

    Raises:
        InvalidPlan: an unknown kind, or fields that the kind does not have, or values that they cannot have.
    """
    if not isinstance(data, Mapping):
        raise InvalidPlan(f"A cut is an object with a 'kind'; got {data!r}.")
    fields, kinds = dict(data), cut_kinds()
    kind = fields.pop("kind", None)
    if kind not in kinds:
        raise InvalidPlan(
            f"No cut is of kind {kind!r}. Known: {listing(kinds)}. If a plugin brings it, import that first."
        )
    try:
        return kinds[kind].from_data(fields)
    except cattrs.BaseValidationError as error:
        raise InvalidPlan(f"A cut of kind {kind!r} is wrong: {explain(error)}.") from error
