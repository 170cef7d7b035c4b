"""What check_adapter asks about models whose layers differ, and about maps: that they are kept, and exact."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.keep_units import keeping
from billhook.errors import BillhookError, CannotMerge, CheckpointError, InvalidCut
from billhook.model.branch import BRANCHES, Branch
from billhook.model.view import ModelView
from billhook.model.writer import weight_rows
from billhook.plugins.registry import default_registry
from billhook.results.padding import padded
from billhook.results.settling import settle
from billhook.results.verification import verify_reload, verify_same
from billhook.roles.merger import Merger
from billhook.testing.conformance.expect import close, fail, logits, require
from billhook.testing.samples.linearisation import donor_of, linearised
from billhook.testing.samples.models import tiny_tokens
from billhook.testing.samples.planted import random_map

MERGERS = ("billhook:fold", "billhook:refit", "billhook:insert")
"""What comes with billhook."""


def check_uneven(view: ModelView, who: str) -> None:
    """AssertionError unless models whose layers differ are saved, loaded, padded and seen again as what they are."""
    narrowed = [cut for branch in BRANCHES for cut in _narrowing(view, branch)]
    for cuts in ([DropBranch(1, "attention")], [DropBranch(2, "mlp")], narrowed, [*narrowed, DropBranch(3, "mlp")]):
        smaller = view.copy()
        if made := [cut for cut in cuts if _makes(smaller, cut)]:
            _check_kept(view, smaller, f"{who} with {', '.join(map(str, made))} made")


def check_maps(view: ModelView, who: str) -> None:
    """AssertionError unless every merger of billhook's own puts maps exactly, or says before that it cannot."""
    for name in MERGERS:
        merger = cast(Merger, default_registry().create("merger", name))
        for cut in (DropLayers(1, 2), DropBranch(2, "mlp")):
            _check_merging(view.copy(), merger, cut, who)


def _narrowing(view: ModelView, branch: Branch) -> list[Cut]:
    units = view.units(1, branch)
    if len(units) < 2 or view.adapter.why_not_narrowable(view.model.config, branch):
        return []
    return [keeping((1, branch), units[1:])]


def _makes(view: ModelView, cut: Cut) -> bool:
    try:
        cut.check(view)
    except InvalidCut:  # the only attention of the first layer's kind
        return False
    cut.remove_from(view)
    return True


def _check_kept(dense: ModelView, view: ModelView, who: str) -> None:
    own = logits(view.model, batch := tiny_tokens(seed=6, padding="both").batches()[0])
    try:
        settle(view)
        verify_same(view.model, padded(view.model), "The padded model")
        with tempfile.TemporaryDirectory() as folder:
            view.model.save_pretrained(folder)
            verify_reload(view.model, Path(folder))
            found = cast(Any, AutoModelForCausalLM.from_pretrained(folder)).eval()
    except CheckpointError as error:
        raise AssertionError(f"{who!r} breaks its contract: a model whose layers differ is lost: {error}") from error
    close(logits(found, batch), own, who, "after saving and loading it computes something else")
    _check_seen_again(dense, view, found, who)


def _check_seen_again(dense: ModelView, view: ModelView, found: PreTrainedModel, who: str) -> None:
    """What is read back is pruned on as what was written: the same parts, and the same reasons for what cannot be."""
    again = ModelView(found, view.adapter)
    for position, number in enumerate(view.numbers):
        for branch in BRANCHES:
            counts = len(again.units(position, branch)), len(view.units(number, branch))
            law = f"{branch} {number} has {counts[1]} units, and read back {counts[0]}"
            require(counts[0] == counts[1], who, law)
    for branch in BRANCHES:
        before, after = (view.adapter.why_not_narrowable(m.config, branch) for m in (dense.model, found))
        law = f"its {branch} cannot be narrowed ({before}), and after a pruning ({after}) is said"
        require(before == after, who, law)


@torch.no_grad()
def _check_merging(view: ModelView, merger: Merger, cut: Cut, who: str) -> None:
    number, branch = donor_of(view, cut)
    try:
        merger.check(view, cut)
    except CannotMerge as error:
        law = f"{merger!r} refuses {cut} without a reason of the adapter's: {error}"
        reason = view.adapter.why_not_foldable(branch)
        require(reason is not None and reason in str(error), who, law)
        return
    d_in = weight_rows(view.writer(number, branch)).shape[0] if merger.regressor == "inner" else view.d_model
    linear_map = random_map(d_in, view.d_model, seed=7)
    reference = linearised(view, cut, linear_map, merger.regressor)
    try:
        merger.merge(view, cut, linear_map)
    except BillhookError as error:
        fail(who, f"{merger!r} does not refuse {cut} before, and fails: {error}")
    batch = tiny_tokens(seed=8, padding="both").batches()[0]
    law = f"after {merger!r} has put a map for {cut} it is not the linearised model"
    close(logits(view.model, batch), logits(reference, batch), who, law)
