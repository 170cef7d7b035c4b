"""Pruned models whose layers differ, for the tests of their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from hypothesis import strategies as st
from tests.families import every, types
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook import Cut, DropBranch, KeepChannels, KeepHeads
from billhook.model.adapter import Adapter
from billhook.model.branch import Branch
from billhook.model.inserted import insert_after
from billhook.model.view import ModelView
from billhook.results.settling import settle
from billhook.testing import adapters, cut_sequences, random_map, tiny_tokens, tiny_view

FAMILIES = types(every())

IDS = tiny_tokens(3, 12).ids

MIXED: tuple[Cut, ...] = (
    DropBranch(0, "attention"),
    KeepChannels(1, (0, 3, 5, 7, 20)),
    KeepHeads(2, (1,)),
    DropBranch(3, "mlp"),
)
"""One of each kind; the attention that is gone is the first layer's, which key-value caches look at."""


def cut_view(given: Adapter | str | ModelView, *cuts: Cut, **config: Any) -> ModelView:
    """A view, or a tiny model, after ``cuts``, not settled. A branch stays as wide where the family's has to."""
    view = given.copy() if isinstance(given, ModelView) else tiny_view(given, **config)
    for cut in cuts:
        if any(view.adapter.why_not_narrowable(view.model.config, branch) for _, branch in cut.narrowed):
            continue
        cut.check(view)
        cut.remove_from(view)
    return view


def settled(given: Adapter | str | ModelView = "llama", *cuts: Cut, **config: Any) -> PreTrainedModel:
    """:func:`cut_view`'s model with a config that describes it; :data:`MIXED` if no cuts are given."""
    view = cut_view(given, *(cuts or MIXED), **config)
    settle(view)
    view.model.eval()
    return view.model


@st.composite
def settled_models(draw: st.DrawFn, *, inserted: bool = True) -> PreTrainedModel:
    """A tiny model of any family after any cuts, perhaps with linear layers inserted."""
    adapter = draw(adapters())
    view = tiny_view(adapter, model_type=draw(st.sampled_from(adapter.model_types)))
    for cut in draw(cut_sequences(view)):
        cut.remove_from(view)
    for number in draw(st.sets(st.sampled_from(view.numbers), max_size=2)) if inserted else ():
        branch: Branch = "mlp" if view.has_branch(number, "mlp") else "attention"
        layer = view.layer(number)
        insert_after(layer, view.adapter.output(layer, branch), random_map(view.d_model, bias=draw(st.booleans())))
    settle(view)
    view.model.eval()
    return view.model


def reloaded(folder: Path, **options: Any) -> PreTrainedModel:
    """The model in ``folder``, of which nothing may be missing or too much."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    model, info = loaded
    assert {name: keys for name, keys in info.items() if keys} == {}
    return cast(PreTrainedModel, model.eval())


def saved(model: PreTrainedModel, folder: Path, **options: Any) -> PreTrainedModel:
    """``model`` after a round trip through ``folder``."""
    model.save_pretrained(folder)
    return reloaded(folder, **options)


@torch.no_grad()
def logits(model: PreTrainedModel, ids: Tensor = IDS, **options: Any) -> Tensor:
    """Logits ``[batch, seq, vocab]`` without a cache."""
    return cast(Tensor, model(input_ids=ids, use_cache=False, **options).logits)
