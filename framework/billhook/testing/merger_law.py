"""check_merger: what every merger promises."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from billhook.cuts.drop_layers import DropLayers
from billhook.errors import CannotMerge, InvalidCut, ShapeMismatch
from billhook.model.adapter import Adapter
from billhook.model.view import ModelView
from billhook.model.writer import is_linear, weight_rows
from billhook.plugins.registry import Registry, default_registry
from billhook.regression.linear_map import LinearMap
from billhook.roles.merger import Merger
from billhook.testing.expect import Snapshot, check_options, close, logits, raises, require
from billhook.testing.linearisation import linearised
from billhook.testing.models import tiny_tokens, tiny_view
from billhook.testing.planted import random_map

FIRST, SECOND = DropLayers(1, 2), DropLayers(3, 5)
"""The cuts that are merged one after the other."""

LAYERS = 6
"""Of the models they are merged into."""


def check_merger(
    merger: Merger, *, adapters: Iterable[Adapter] | None = None, registry: Registry | None = None
) -> None:
    """Raise AssertionError unless ``merger`` keeps the promises of :class:`billhook.Merger`.

    Every adapter's tiny model is either refused with nothing changed, or computes the linearised model's logits
    afterwards; at least one must be accepted.

    Args:
        merger: what to check; its options as they are.
        adapters: families to try it on; all that are installed if None.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
    """
    known = default_registry() if registry is None else registry
    tried = known.adapters() if adapters is None else list(adapters)
    accepted = [adapter.name for adapter in tried if _accepts(merger, adapter)]
    require(bool(accepted), merger, f"it refuses every family of {[a.name for a in tried]}")
    check_options("merger", merger, registry)


def _accepts(merger: Merger, adapter: Adapter) -> bool:
    """Check one family; whether the merger serves it."""
    dense = tiny_view(adapter, num_hidden_layers=LAYERS)
    before = Snapshot(dense)
    _check_bad_cut(merger, dense)
    plain = dense.copy()
    d_in = _columns(merger, dense)
    merged = [
        _merged_exactly(merger, plain, FIRST, random_map(d_in, dense.d_model, seed=1))
        and _merged_exactly(merger, plain, SECOND, random_map(d_in, dense.d_model, seed=2)),
        _merged_exactly(merger, dense.copy(), FIRST, random_map(d_in, dense.d_model, seed=3, bias=True)),
    ]
    _check_plain_drop(merger, dense)
    before.require_same(merger, f"merging into a copy of a {adapter.name} model must leave the original alone")
    return any(merged)


def _columns(merger: Merger, view: ModelView) -> int:
    """Columns of the regressor that its maps are for: the stream's, or those that the donor's writer reads."""
    writer = view.writer(0, "mlp")
    readable = merger.regressor == "inner" and is_linear(writer)
    return weight_rows(writer).shape[0] if readable else view.d_model


def _check_bad_cut(merger: Merger, dense: ModelView) -> None:
    view = dense.copy()
    before = Snapshot(view)
    for cut in (DropLayers(0, len(dense.numbers)), DropLayers(1, len(dense.numbers) + 1)):
        law = f"{cut} of {len(dense.numbers)} layers must be refused with InvalidCut"
        raises(InvalidCut, partial(merger.check, view, cut), merger, law)
        raises(InvalidCut, partial(merger.merge, view, cut, None), merger, law)
    law = "a map must be refused with CannotMerge when no layer before the cut could carry it"
    linear_map = random_map(_columns(merger, view), dense.d_model)
    raises(CannotMerge, partial(merger.merge, view, DropLayers(0, 1), linear_map), merger, law)
    law = "a map of another width must be refused with ShapeMismatch or CannotMerge"
    narrow = partial(merger.merge, view, FIRST, random_map(dense.d_model - 1, dense.d_model - 1))
    raises((ShapeMismatch, CannotMerge), narrow, merger, law)
    if (site := FIRST.repair_site(view)) is not None:
        put = partial(merger.put, view, site, random_map(dense.d_model - 1, dense.d_model - 1))
        raises((ShapeMismatch, CannotMerge), put, merger, law)
    before.require_same(merger, "a refusal must change nothing")


def _merged_exactly(merger: Merger, view: ModelView, cut: DropLayers, linear_map: LinearMap) -> bool:
    """Merge, and compare with the linearised model; False if the map was refused and nothing has changed."""
    before = Snapshot(view)
    refused = _refused_by_check(merger, view, cut)
    before.require_same(merger, "check() must change nothing")
    reference = linearised(view, cut, linear_map, merger.regressor)
    untouched = (linear_map.weight.clone(), torch.get_rng_state())
    try:
        merger.merge(view, cut, linear_map)
    except CannotMerge:
        before.require_same(merger, "a refusal must change nothing")
        return False
    family = view.adapter.name
    require(not refused, merger, f"check() refuses what merge() accepts ({family})")
    require(torch.equal(linear_map.weight, untouched[0]), merger, "it wrote into the map")
    require(torch.equal(torch.get_rng_state(), untouched[1]), merger, "it used the global random numbers")
    _check_survivors(merger, view, cut)
    for padding in ("none", "both"):
        batch = tiny_tokens(seed=3, padding=padding).batches()[0]
        law = f"after merging {cut} a {family} model must compute what the linearised one does"
        close(logits(view.model, batch), logits(reference, batch), merger, law)
    return True


def _refused_by_check(merger: Merger, view: ModelView, cut: DropLayers) -> bool:
    try:
        merger.check(view, cut)
    except CannotMerge:
        return True
    return False


def _check_survivors(merger: Merger, view: ModelView, cut: DropLayers) -> None:
    require(not set(cut.layers) & set(view.numbers), merger, f"{cut} are still in view.numbers {view.numbers}")
    count = view.model.config.num_hidden_layers
    require(len(view.layers) == len(view.numbers) == count, merger, f"{len(view.layers)} layers are left, not {count}")
    parameters: list[Tensor] = list(view.model.parameters())
    require(len({p.dtype for p in parameters}) == 1, merger, "weights of several dtypes are left")
    require(not view.model.training, merger, "it put the model into training mode")


def _check_plain_drop(merger: Merger, dense: ModelView) -> None:
    view, batch = dense.copy(), tiny_tokens(seed=4).batches()[0]
    for cut in (DropLayers(0, 1), SECOND):
        reference = linearised(view, cut, None)
        merger.merge(view, cut, None)
        law = f"without a map, {cut} must simply be gone ({dense.adapter.name})"
        close(logits(view.model, batch), logits(reference, batch), merger, law)
