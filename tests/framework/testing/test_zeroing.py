"""The zeroed model itself: against weights set to zero by hand."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from billhook import Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView
from billhook.model.branch import Place
from billhook.testing import linearised, tiny_tokens, tiny_view, zeroed
from billhook.testing.conformance.expect import logits

BATCH = tiny_tokens(padding="both").batches()[0]


@torch.no_grad()
def emptied(view: ModelView, number: int, branch: str, columns: slice = slice(None)) -> ModelView:
    """A copy whose writer reads nothing from some columns; its bias is gone too if it reads from none."""
    twin = view.copy()
    writer = twin.writer(number, "mlp" if branch == "mlp" else "attention")
    weight = cast(Tensor, writer.weight).clone()
    weight[:, columns] = 0
    writer.weight = torch.nn.Parameter(weight)
    if columns == slice(None):
        writer.bias = torch.nn.Parameter(torch.zeros_like(cast(Tensor, writer.bias)))
    return twin


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_a_dropped_branch_is_one_whose_writer_writes_nothing(branch: str) -> None:
    view = tiny_view("llama")
    by_hand = emptied(view, 1, branch)
    found = zeroed(view, DropBranch(1, "mlp" if branch == "mlp" else "attention"))
    assert torch.equal(logits(found, BATCH), logits(by_hand.model, BATCH))


def test_dropped_layers_pass_the_stream_by() -> None:
    view, cut = tiny_view("falcon"), DropLayers(1, 3)
    torch.testing.assert_close(logits(zeroed(view, cut), BATCH), logits(linearised(view, cut, None), BATCH))


@pytest.mark.parametrize(
    ("cut", "branch", "columns"),
    [
        (KeepChannels(2, tuple(range(10, 24))), "mlp", slice(10)),
        # two key-value groups of two query heads of four dimensions
        (KeepHeads(2, (0,)), "attention", slice(8, 16)),
    ],
    ids=str,
)
def test_lost_units_are_columns_that_the_writer_does_not_read(cut: Cut, branch: str, columns: slice) -> None:
    view = tiny_view("llama")
    found, wanted = zeroed(view, cut), emptied(view, 2, branch, columns).model
    assert torch.equal(logits(found, BATCH), logits(wanted, BATCH))


def test_a_norm_behind_the_writer_adds_nothing_either() -> None:
    view = tiny_view("olmo2")
    both = zeroed(view, DropBranch(1, "mlp"), DropBranch(1, "attention"))
    skipped = linearised(view, DropLayers(1, 2), None)
    torch.testing.assert_close(logits(both, BATCH), logits(skipped, BATCH))


def test_of_several_cuts_in_one_branch_only_what_all_keep_is_left() -> None:
    view = tiny_view("gpt2")
    twice = zeroed(view, KeepChannels(0, (1, 3, 5)), KeepChannels(0, (3,)))
    assert torch.equal(logits(twice, BATCH), logits(zeroed(view, KeepChannels(0, (3,))), BATCH))


def test_original_numbers_count_in_a_view_that_has_lost_some() -> None:
    view = tiny_view("opt")
    for cut in (DropLayers(0, 1), KeepChannels(2, (3, 8, 20))):
        cut.remove_from(view)
    wanted = emptied(view, 2, "mlp", slice(2)).model  # of the three columns, the first two
    assert torch.equal(logits(zeroed(view, KeepChannels(2, (20,))), BATCH), logits(wanted, BATCH))


def test_the_model_it_is_made_from_stays_as_it_is() -> None:
    view = tiny_view("phi3")
    before = logits(view.model, BATCH)
    zeroed(view, DropBranch(0, "mlp"), KeepHeads(1, (1,)), DropLayers(2, 3))
    assert torch.equal(logits(view.model, BATCH), before)


class Nameless(DropBranch):
    """A kind of cut that does not say what it takes."""

    @property
    def branches(self) -> tuple[Place, ...]:
        """None, which is not true."""
        return ()


def test_a_cut_that_does_not_say_what_it_takes_is_an_error() -> None:
    with pytest.raises(TypeError, match="The zeroed model cannot tell what Nameless takes: it names no branches"):
        zeroed(tiny_view(), Nameless(1, "mlp"))
