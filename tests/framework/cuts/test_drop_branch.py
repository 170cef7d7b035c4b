"""DropBranch: one branch goes, and with the second one the layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from tests.families import by_name
from torch import nn

from billhook import Adapter, Cut, DropBranch, DropLayers, KeepChannels, ModelView
from billhook.errors import InvalidCut
from billhook.heterogeneous.modeling_billhook import SkippedAttention, SkippedMLP
from billhook.model.branch import Branch
from billhook.testing import tiny_tokens, tiny_view, zeroed
from billhook.testing.conformance.expect import Snapshot, close, logits

both_branches = pytest.mark.parametrize("branch", ["attention", "mlp"])


def without(view: ModelView, *cuts: Cut) -> ModelView:
    for cut in cuts:
        cut.check(view)
        cut.remove_from(view)
    return view


def test_a_layer_before_the_first_is_refused() -> None:
    with pytest.raises(InvalidCut, match="DropBranch needs a layer of 0 or more; got -1"):
        DropBranch(-1, "mlp")


def test_an_unknown_branch_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidCut, match="must be 'attention' or 'mlp'; got 'norm'"):
        DropBranch(1, cast(Any, "norm"))


def test_it_prints_its_branch_and_layer_and_knows_the_other_one() -> None:
    assert str(DropBranch(3, "mlp")) == "mlp 3"
    assert DropBranch(3, "mlp").other == "attention"
    assert DropBranch(3, "attention").other == "mlp"


REFUSED: list[tuple[tuple[Cut, ...], Cut, str]] = [
    ((), DropBranch(4, "mlp"), r"mlp 4 cannot be dropped: it is not there\. The model has no layer 4\.$"),
    ((DropLayers(1, 2),), DropBranch(1, "mlp"), r"it is not there\. The model has no layer 1 any more\."),
    (
        (DropBranch(1, "attention"),),
        DropBranch(1, "attention"),
        r"attention 1 cannot be dropped: it is not there\. Layer 1 has no key-value groups and 24 channels\.",
    ),
    (
        (KeepChannels(1, (2, 5)), DropBranch(1, "mlp")),
        DropBranch(1, "mlp"),
        r"it is not there\. Layer 1 has 2 key-value groups and no channels\.",
    ),
    (
        (DropLayers(1, 4), DropBranch(0, "mlp")),
        DropBranch(0, "attention"),
        r"attention 0 cannot be dropped: it is the last branch of the model\. Ask for less\.",
    ),
    (
        tuple(DropBranch(n, "attention") for n in (0, 1, 3)),
        DropBranch(2, "attention"),
        r"attention 2 cannot be dropped: no attention of the first layer's kind \(attention\) would be left",
    ),
]


@pytest.mark.parametrize(("before", "cut", "message"), REFUSED, ids=str)
def test_what_cannot_go_is_refused_with_the_reason_and_nothing_changes(
    before: tuple[Cut, ...], cut: Cut, message: str
) -> None:
    view = without(tiny_view(), *before)
    snapshot = Snapshot(view)
    with pytest.raises(InvalidCut, match=message):
        cut.check(view)
    snapshot.require_same(cut, "a refusal must change nothing")


@both_branches
def test_the_branch_and_its_norm_leave_no_parameter_behind(branch: Branch) -> None:
    view = tiny_view("gemma2")
    layout = view.adapter.layout(branch)
    gone = (layout.module, *layout.alone, cast(str, layout.norm_after))
    without(view, DropBranch(1, branch))
    left = dict(view.layer(1).named_parameters())
    assert not [name for name in left if name.startswith(tuple(f"{path}." for path in gone))]
    assert view.units(1, branch) == ()
    assert not view.has_branch(1, branch)


@both_branches
def test_the_other_branch_keeps_its_very_parameters(branch: Branch) -> None:
    view = tiny_view("opt")
    cut = DropBranch(1, branch)
    other = dict(view.writer(1, cut.other).named_parameters())
    without(view, cut)
    now = dict(view.writer(1, cut.other).named_parameters())
    assert now.keys() == other.keys()
    assert all(now[name] is parameter for name, parameter in other.items())


@by_name
@both_branches
def test_the_stream_passes_a_lost_branch_by(adapter: Adapter, branch: Branch) -> None:
    view = tiny_view(adapter)
    batch, cut = tiny_tokens(padding="both").batches()[0], DropBranch(2, branch)
    wanted = logits(zeroed(view, cut), batch)
    close(logits(without(view, cut).model, batch), wanted, adapter.name, str(cut))


@pytest.mark.parametrize("order", [("attention", "mlp"), ("mlp", "attention")])
def test_a_layer_that_has_lost_both_branches_is_gone_for_good(order: tuple[Branch, Branch]) -> None:
    view = without(tiny_view(), *(DropBranch(1, branch) for branch in order))
    assert view.numbers == (0, 2, 3)
    assert view.model.config.num_hidden_layers == len(view.layers) == 3
    for branch in order:
        assert view.units(1, branch) == ()
        with pytest.raises(InvalidCut, match="The model has no layer 1 any more"):
            DropBranch(1, branch).check(view)


def test_losing_both_branches_is_losing_the_layer() -> None:
    batch = tiny_tokens(padding="both").batches()[0]
    one_by_one = without(tiny_view(), DropBranch(1, "mlp"), DropBranch(1, "attention"))
    at_once = without(tiny_view(), DropLayers(1, 2))
    assert torch.equal(logits(one_by_one.model, batch), logits(at_once.model, batch))
    assert one_by_one.parameter_count == at_once.parameter_count


KINDS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]


def test_the_last_attention_of_the_first_layers_kind_stays() -> None:
    view = without(tiny_view("qwen2", layer_types=KINDS), DropBranch(2, "attention"), DropBranch(1, "attention"))
    with pytest.raises(InvalidCut, match=r"attention 0 .* no attention of the first layer's kind \(full_attention\)"):
        DropBranch(0, "attention").check(view)
    DropBranch(3, "attention").check(view)


def test_a_layer_does_not_go_as_a_whole_where_the_next_one_would_leave_the_cache_without_its_first_slot() -> None:
    view = tiny_view("qwen2", layer_types=KINDS)
    without(view, DropBranch(0, "attention"), DropBranch(1, "attention"), DropBranch(3, "attention"))
    before = Snapshot(view)
    with pytest.raises(InvalidCut, match=r"mlp 0 cannot be dropped: .* first layer's kind \(sliding_attention\)"):
        DropBranch(0, "mlp").check(view)
    before.require_same("check", "a refusal must change nothing")
    without(view, DropBranch(1, "mlp"))


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "falcon", "gemma3_text", "opt"])
@pytest.mark.parametrize("padding", ["none", "left"])
def test_a_model_without_its_first_attention_generates_with_a_cache_what_it_generates_without(
    model_type: str, padding: Any
) -> None:
    tokens = tiny_tokens(3, 5, padding=padding)
    view = without(tiny_view(model_type), DropBranch(0, "attention"))
    model: Any = view.model  # generate() is mixed in where type checkers do not look
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with_cache, plain = (
        model.generate(tokens.ids, attention_mask=tokens.keep.long(), use_cache=cache, **options)
        for cache in (True, False)
    )
    assert with_cache.tolist() == plain.tolist()


@pytest.mark.parametrize(
    ("branch", "stand_in", "call"),
    [
        ("attention", SkippedAttention, lambda module, x: module(hidden_states=x)[0]),
        ("attention", SkippedAttention, lambda module, x: module(x, attention_mask=None)[0]),
        ("mlp", SkippedMLP, lambda module, x: module(x)),
    ],
)
def test_what_stands_in_the_place_of_a_branch_adds_zeros(
    branch: Branch, stand_in: type[nn.Module], call: Callable[[nn.Module, torch.Tensor], torch.Tensor]
) -> None:
    view, stream = without(tiny_view(), DropBranch(1, branch)), torch.ones(2, 3, 16)
    module = view.layer(1).get_submodule(view.adapter.layout(branch).module)
    assert isinstance(module, stand_in)
    assert torch.equal(call(module, stream), torch.zeros(2, 3, 16))
