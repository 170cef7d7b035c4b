"""KeepChannels and KeepHeads: a branch gets narrower, in the original numbers of its units."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import by_name
from torch import nn

from billhook import Adapter, Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView
from billhook.errors import InvalidCut
from billhook.model.branch import Branch
from billhook.model.writer import bias_of, weight_rows
from billhook.testing import tiny_tokens, tiny_view, zeroed
from billhook.testing.conformance.expect import Snapshot, close, logits

both = pytest.mark.parametrize("cls", [KeepChannels, KeepHeads])
BATCH = tiny_tokens(padding="both").batches()[0]


def with_only(view: ModelView, *cuts: Cut) -> ModelView:
    for cut in cuts:
        cut.check(view)
        cut.remove_from(view)
    return view


def rows(view: ModelView, number: int, path: str) -> torch.Tensor:
    return weight_rows(view.layer(number).get_submodule(path))


@both
@pytest.mark.parametrize(
    ("layer", "kept", "message"),
    [
        (-1, (0,), "needs a layer of 0 or more; got -1"),
        (1, (), "must keep at least one. To drop the whole branch, use DropBranch"),
        (1, (-1, 2), "must be original numbers of 0 or more, ascending, each once"),
        (1, (3, 2), "must be original numbers of 0 or more, ascending, each once"),
        (1, (2, 2), "must be original numbers of 0 or more, ascending, each once"),
    ],
)
def test_impossible_numbers_are_refused(
    cls: type[KeepChannels | KeepHeads], layer: int, kept: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidCut, match=message):
        cls(layer, kept)


def test_they_print_what_is_left() -> None:
    assert str(KeepChannels(3, (0, 5, 6))) == "mlp 3 to 3 channels"
    assert str(KeepHeads(3, (1,))) == "attention 3 to 1 key-value groups"


def test_they_compare_by_value() -> None:
    assert KeepChannels(1, (2, 3)) == KeepChannels(1, (2, 3))
    assert KeepChannels(1, (2, 3)) != KeepChannels(1, (2, 4))
    assert len({KeepHeads(1, (0,)), KeepHeads(1, (0,))}) == 1


REFUSED: list[tuple[tuple[Cut, ...], Cut, str]] = [
    (
        (),
        KeepChannels(1, (0, 24, 99)),
        r"mlp 1 to 3 channels is not possible: channels \[24, 99\] are not there\. "
        r"Layer 1 has 2 key-value groups and 24 channels\.$",
    ),
    ((), KeepHeads(1, (0, 2)), r"attention 1 to 2 key-value groups is not possible: key-value groups \[2\] are not"),
    ((), KeepHeads(1, (0, 1)), r"is not possible: nothing would go\. Layer 1 has 2 key-value groups"),
    ((KeepChannels(1, (3, 5)),), KeepChannels(1, (3, 5)), r"nothing would go\. Layer 1 has .* and 2 channels\."),
    ((KeepChannels(1, (3, 5)),), KeepChannels(1, (3, 4)), r"channels \[4\] are not there\. .* and 2 channels\."),
    ((DropBranch(1, "mlp"),), KeepChannels(1, (3,)), r"channels \[3\] are not there\. .* and no channels\."),
    ((DropLayers(1, 2),), KeepHeads(1, (1,)), r"groups \[1\] are not there\. The model has no layer 1 any more\."),
    ((), KeepChannels(7, (1,)), r"channels \[1\] are not there\. The model has no layer 7\.$"),
]


@pytest.mark.parametrize(("before", "cut", "message"), REFUSED, ids=str)
def test_what_cannot_go_is_refused_with_the_reason_and_nothing_changes(
    before: tuple[Cut, ...], cut: Cut, message: str
) -> None:
    view = with_only(tiny_view(), *before)
    snapshot = Snapshot(view)
    with pytest.raises(InvalidCut, match=message):
        cut.check(view)
    snapshot.require_same(cut, "a refusal must change nothing")


@pytest.mark.parametrize(
    ("model_type", "config", "reason"),
    [
        ("olmo2", {}, "in this olmo2 model queries and keys are normalised over all heads together"),
        ("falcon", {"new_decoder_architecture": False}, "in this falcon model the older decoder architecture has no"),
        ("falcon", {"alibi": True}, r"the position biases \(ALiBi\) belong to the number of heads"),
    ],
)
def test_a_family_whose_heads_belong_together_keeps_them_all(
    model_type: str, config: dict[str, Any], reason: str
) -> None:
    view = tiny_view(model_type, **config)
    with pytest.raises(InvalidCut, match=rf"to 1 key-value groups is not possible: .*{reason}.* Drop whole branches"):
        KeepHeads(1, (1,)).check(view)
    KeepChannels(1, (1,)).check(view)


def test_a_group_is_a_key_value_head_and_its_query_heads() -> None:
    dense, view = tiny_view("llama"), with_only(tiny_view("llama"), KeepHeads(2, (1,)))
    second = {"q": slice(8, 16), "k": slice(4, 8), "v": slice(4, 8)}  # two query heads of four dimensions a group
    for block, columns in second.items():
        path = f"self_attn.{block}_proj"
        assert torch.equal(rows(view, 2, path), rows(dense, 2, path)[:, columns])
        biases = [bias_of(v.layer(2).get_submodule(path)) for v in (view, dense)]
        assert biases[0] is not None
        assert biases[1] is not None
        assert torch.equal(biases[0], biases[1][columns])
    assert torch.equal(rows(view, 2, "self_attn.o_proj"), rows(dense, 2, "self_attn.o_proj")[8:16])


def test_a_channel_is_a_column_of_each_reader_and_a_row_of_the_writer() -> None:
    dense, view = tiny_view("llama"), with_only(tiny_view("llama"), KeepChannels(2, (3, 20)))
    for path in ("mlp.gate_proj", "mlp.up_proj"):
        assert torch.equal(rows(view, 2, path), rows(dense, 2, path)[:, [3, 20]])
    assert torch.equal(rows(view, 2, "mlp.down_proj"), rows(dense, 2, "mlp.down_proj")[[3, 20]])


@given(data=st.data(), branch=st.sampled_from(["attention", "mlp"]))
def test_original_numbers_stay_valid_when_a_branch_is_narrowed_again_and_again(
    data: st.DataObject, branch: Branch
) -> None:
    cls = KeepChannels if branch == "mlp" else KeepHeads
    view = tiny_view("phi3", num_key_value_heads=4)
    kept = view.units(1, branch)
    while len(kept) > 1:
        kept = tuple(sorted(data.draw(st.sets(st.sampled_from(kept), min_size=1, max_size=len(kept) - 1))))
        with_only(view, cls(1, kept))
        assert view.units(1, branch) == kept
    at_once = with_only(tiny_view("phi3", num_key_value_heads=4), cls(1, kept))
    assert torch.equal(logits(view.model, BATCH), logits(at_once.model, BATCH))


def test_cuts_of_other_layers_and_branches_do_not_move_the_numbers() -> None:
    view = with_only(tiny_view(), DropLayers(0, 1), KeepChannels(2, (3, 8, 20)), DropBranch(1, "attention"))
    assert view.units(2, "mlp") == (3, 8, 20)
    assert view.units(2, "attention") == (0, 1)
    assert view.units(3, "mlp") == tuple(range(24))
    with_only(view, KeepChannels(2, (20,)))
    assert torch.equal(rows(view, 2, "mlp.up_proj"), rows(tiny_view(), 2, "mlp.up_proj")[:, [20]])


@by_name
def test_attention_that_is_computed_step_by_step_gets_along_with_fewer_heads_too(adapter: Adapter) -> None:
    view = tiny_view(adapter, attn_implementation="eager")  # other tests: what the family takes by default
    if adapter.why_not_narrowable(view.model.config, "attention"):
        pytest.skip("its heads stay together")
    cuts = (KeepHeads(0, (1,)), KeepHeads(3, (0,)))
    wanted = logits(zeroed(view, *cuts), BATCH)
    close(logits(with_only(view, *cuts).model, BATCH), wanted, adapter.name, "eager attention")


@pytest.mark.parametrize("model_type", ["phi3", "gpt2"])
def test_other_layers_do_not_see_the_sizes_of_a_narrow_one(model_type: str) -> None:
    dense = tiny_view(model_type)
    before = logits(dense.model, BATCH)
    view = with_only(dense.copy(), KeepHeads(1, (1,)))
    assert view.model.config.num_attention_heads == 4
    assert torch.equal(logits(dense.model, BATCH), before)


@pytest.mark.parametrize("model_type", ["phi3", "gpt2", "llama"])
def test_a_narrow_model_learns(model_type: str) -> None:
    view = with_only(tiny_view(model_type), KeepHeads(1, (1,)), KeepChannels(1, (1, 4, 9)), DropBranch(2, "mlp"))
    view.model(input_ids=BATCH.ids, attention_mask=BATCH.attention_mask).logits.square().mean().backward()
    assert [name for name, p in view.model.named_parameters() if p.grad is None] == []
    assert all(p.grad.shape == p.shape for p in view.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_stays(dtype: torch.dtype) -> None:
    view = with_only(tiny_view("gpt2", dtype=dtype), KeepHeads(1, (1,)), KeepChannels(1, (1, 4)))
    assert {p.dtype for p in view.model.parameters()} == {dtype}


def test_the_modules_say_their_new_widths() -> None:
    view = with_only(tiny_view("llama"), KeepChannels(1, (1, 4, 9)))
    up, down = (view.layer(1).get_submodule(f"mlp.{name}_proj") for name in ("up", "down"))
    assert isinstance(up, nn.Linear)
    assert isinstance(down, nn.Linear)
    assert (up.in_features, up.out_features) == (16, 3)
    assert (down.in_features, down.out_features) == (3, 16)
