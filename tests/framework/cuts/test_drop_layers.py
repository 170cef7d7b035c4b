"""DropLayers: whole layers go, and where their loss is repaired."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import spans

from billhook import DropBranch, DropLayers
from billhook.cuts.sites import RepairSite
from billhook.errors import InvalidCut
from billhook.testing import tiny_tokens, tiny_view, zeroed
from billhook.testing.conformance.expect import close, logits


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 2), (3, 1)])
def test_an_empty_or_negative_span_is_refused(start: int, stop: int) -> None:
    with pytest.raises(InvalidCut, match=f"0 <= start < stop; got start={start}, stop={stop}"):
        DropLayers(start, stop)


def test_a_span_is_half_open() -> None:
    cut = DropLayers(3, 6)
    assert list(cut.layers) == [3, 4, 5]
    assert len(cut) == 3
    assert str(cut) == "layers 3:6"


def test_cuts_compare_by_value() -> None:
    assert DropLayers(1, 3) == DropLayers(1, 3)
    assert DropLayers(1, 3) != DropLayers(1, 4)
    assert len({DropLayers(1, 3), DropLayers(1, 3)}) == 1


def test_layers_that_the_model_does_not_have_are_named() -> None:
    with pytest.raises(InvalidCut, match=r"layers 3:6 cannot be dropped: layers \[4, 5\] are not there.*0 to 3\."):
        DropLayers(3, 6).check(tiny_view())


def test_a_layer_cannot_go_twice() -> None:
    view = tiny_view()
    DropLayers(1, 2).remove_from(view)
    with pytest.raises(InvalidCut, match=r"layers \[1\] are not there.*some already cut"):
        DropLayers(1, 3).check(view)


def test_one_layer_must_stay() -> None:
    with pytest.raises(InvalidCut, match="no layer would be left"):
        DropLayers(0, 4).check(tiny_view())


def test_one_layer_must_stay_after_earlier_cuts() -> None:
    view = tiny_view()
    DropLayers(1, 4).remove_from(view)
    with pytest.raises(InvalidCut, match="no layer would be left"):
        DropLayers(0, 1).check(view)


def test_the_donor_is_the_mlp_before_the_cut_and_the_target_enters_the_layer_after_it() -> None:
    assert DropLayers(2, 3).repair_site(tiny_view()) == RepairSite(layer=1, branch="mlp", target=3)


def test_a_cut_that_reaches_the_end_aims_at_what_leaves_the_last_layer() -> None:
    assert DropLayers(2, 4).repair_site(tiny_view()) == RepairSite(layer=1, branch="mlp", target=4)


def test_nothing_survives_before_the_first_layer() -> None:
    assert DropLayers(0, 2).repair_site(tiny_view()) is None


def test_the_donor_is_the_nearest_survivor_in_original_numbers() -> None:
    view = tiny_view(num_hidden_layers=6)
    DropLayers(2, 4).remove_from(view)
    assert DropLayers(4, 5).repair_site(view) == RepairSite(layer=1, branch="mlp", target=5)


def test_the_target_is_what_the_next_survivor_reads() -> None:
    view = tiny_view(num_hidden_layers=6)
    DropLayers(3, 5).remove_from(view)
    assert DropLayers(2, 3).repair_site(view) == RepairSite(layer=1, branch="mlp", target=5)


@given(data=st.data(), layers=st.integers(2, 6))
def test_removal_leaves_the_other_layers_in_order(data: st.DataObject, layers: int) -> None:
    start, stop = data.draw(spans(layers, first=0))
    view = tiny_view(num_hidden_layers=layers)
    DropLayers(start, stop).remove_from(view)
    assert view.numbers == tuple(n for n in range(layers) if not start <= n < stop)


@given(data=st.data(), model_type=st.sampled_from(["llama", "falcon", "gemma2"]))
def test_the_other_layers_compute_what_they_did(data: st.DataObject, model_type: str) -> None:
    view, cut = tiny_view(model_type), DropLayers(*data.draw(spans(4, first=0)))
    batch = tiny_tokens(padding="both").batches()[0]
    wanted = logits(zeroed(view, cut), batch)
    cut.remove_from(view)
    close(logits(view.model, batch), wanted, model_type, str(cut))


def test_a_layer_that_has_lost_a_branch_can_still_go() -> None:
    view = tiny_view()
    DropBranch(1, "mlp").remove_from(view)
    DropLayers(1, 2).check(view)
    DropLayers(1, 2).remove_from(view)
    assert view.numbers == (0, 2, 3)


def test_the_donor_is_the_attention_where_the_mlp_is_gone() -> None:
    view = tiny_view()
    DropBranch(1, "mlp").remove_from(view)
    assert DropLayers(2, 3).repair_site(view) == RepairSite(layer=1, branch="attention", target=3)


def test_the_last_attention_stays() -> None:
    view = tiny_view()
    for number in (0, 1, 3):
        DropBranch(number, "attention").remove_from(view)
    with pytest.raises(InvalidCut, match=r"layers 2:3 cannot be dropped: no attention of the first layer's kind"):
        DropLayers(2, 3).check(view)


KINDS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]


def test_the_only_layers_of_a_kind_can_go_even_the_first() -> None:
    view = tiny_view("qwen2", layer_types=["full_attention", *["sliding_attention"] * 3])
    DropLayers(0, 1).check(view)
    DropLayers(0, 1).remove_from(view)
    assert view.model.config.layer_types == ["sliding_attention"] * 3


def test_a_layer_does_not_become_the_first_when_no_attention_of_its_kind_is_left() -> None:
    view = tiny_view("qwen2", layer_types=KINDS)
    for number in (1, 3):
        DropBranch(number, "attention").remove_from(view)
    with pytest.raises(InvalidCut, match=r"layers 0:1 .* first layer's kind \(sliding_attention\) would be left"):
        DropLayers(0, 1).check(view)
    DropLayers(0, 2).check(view)
