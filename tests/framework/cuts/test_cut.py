"""Cut: every kind has its name; and whatever goes, in whatever order, the rest computes what it did without it."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families import by_name
from tests.strategies import adapters, cut_sequences, cuts
from torch import Tensor

from billhook import Adapter, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView, Place
from billhook.cuts.cut import Cut, cut_kinds
from billhook.errors import PluginError
from billhook.testing import random_map, tiny_tokens, tiny_view, zeroed
from billhook.testing.conformance.expect import Snapshot, close, logits
from billhook_strategies.mergers.insert import Insert


def test_every_kind_of_cut_is_known_by_its_name() -> None:
    # other tests have kinds of their own
    ours = {kind: cls for kind, cls in cut_kinds().items() if cls.__module__.startswith("billhook.")}
    assert ours == {cls.kind: cls for cls in (DropLayers, DropBranch, KeepChannels, KeepHeads)}


def test_only_the_loss_of_whole_layers_leaves_the_others_alike() -> None:
    ours = [cls for cls in cut_kinds().values() if cls.__module__.startswith("billhook.")]
    assert [cls for cls in ours if cls.uniform] == [DropLayers]


def test_two_kinds_of_one_name_are_refused_by_their_classes() -> None:
    with pytest.raises(PluginError, match=r"Another calls its kind of cut 'drop-branch', and so does .*DropBranch"):
        type("Another", (Cut,), {"kind": "drop-branch", "__module__": __name__})
    assert cut_kinds()["drop-branch"] is DropBranch


@pytest.mark.parametrize(
    ("cut", "layers", "touched"),
    [
        (DropLayers(1, 3), [1, 2], ((1, "attention"), (1, "mlp"), (2, "attention"), (2, "mlp"))),
        (DropBranch(2, "mlp"), [2], ((2, "mlp"),)),
        (KeepChannels(1, (0, 5)), [1], ((1, "mlp"),)),
        (KeepHeads(3, (0,)), [3], ((3, "attention"),)),
    ],
    ids=str,
)
def test_every_cut_names_the_layers_and_the_branches_that_it_touches(
    cut: Cut, layers: list[int], touched: tuple[Place, ...]
) -> None:
    assert (list(cut.layers), cut.touched) == (layers, touched)


def test_a_cut_that_changes_layers_which_it_does_not_name_is_refused_by_its_kind() -> None:
    class Sly(DropLayers):
        @property
        def layers(self) -> range:
            return range(self.start, self.start + 1)

        def changes(self, view: ModelView) -> dict[int, None]:
            return dict.fromkeys(range(self.start, self.stop))

    view = tiny_view("llama")
    with pytest.raises(PluginError, match=r"Sly changes the layers \[2\], but its 'layers' are \[1\]"):
        Sly(1, 3).remove_from(view)
    assert len(view.numbers) == 4


@given(data=st.data(), adapter=adapters())
def test_a_cut_says_what_it_takes_before_it_is_made(data: st.DataObject, adapter: Adapter) -> None:
    view = tiny_view(adapter)
    cut = data.draw(cuts(view))
    after = view.copy()
    assert set(cut.changes(view)) <= set(cut.layers) == {number for number, _ in cut.touched}
    cut.remove_from(after)
    assert cut.parameter_count(view) == view.parameter_count - after.parameter_count
    assert not any(after.has_branch(*place) for place in cut.branches)
    assert {place: after.units(*place) for place in cut.narrowed} == dict(cut.narrowed)
    site = cut.repair_site(view)
    assert site is None or site.branch in cut.donors


def units(view: ModelView) -> dict[int, tuple[tuple[int, ...], ...]]:
    return {number: (view.units(number, "attention"), view.units(number, "mlp")) for number in view.numbers}


def tensors(view: ModelView) -> dict[int, Tensor]:
    return {id(tensor): tensor for tensor in (*view.model.parameters(), *view.model.buffers())}


@by_name
@settings(max_examples=10)  # of each family
@given(data=st.data())
def test_after_any_cuts_the_model_computes_what_the_zeroed_one_does(adapter: Adapter, data: st.DataObject) -> None:
    view = tiny_view(adapter, model_type=data.draw(st.sampled_from(adapter.model_types)), num_hidden_layers=5)
    smaller, made = view.copy(), data.draw(cut_sequences(view))
    for cut in made:
        cut.check(smaller)
        cut.remove_from(smaller)
    batch = tiny_tokens(padding=data.draw(st.sampled_from(["none", "left", "right", "both"]))).batches()[0]
    close(logits(smaller.model, batch), logits(zeroed(view, *made), batch), adapter.name, str(made))


@given(data=st.data(), adapter=adapters())
def test_after_any_cuts_the_config_counts_the_layers_and_every_attention_has_a_slot_of_its_own(
    data: st.DataObject, adapter: Adapter
) -> None:
    view = tiny_view(adapter)
    for cut in data.draw(cut_sequences(view)):
        cut.remove_from(view)
    path = adapter.layout("attention").module
    attending = [number for number in view.numbers if view.has_branch(number, "attention")]
    slots = [cast(int, view.layer(number).get_submodule(path).layer_idx) for number in attending]
    assert len(view.numbers) == len(view.layers) == view.model.config.num_hidden_layers
    assert len(set(slots)) == len(slots)
    assert min(slots) == 0


@given(data=st.data(), adapter=adapters())
def test_looking_at_a_cut_changes_nothing(data: st.DataObject, adapter: Adapter) -> None:
    view = tiny_view(adapter)
    cut, before, kept = data.draw(cuts(view)), Snapshot(view), units(view)
    cut.check(view)
    cut.repair_site(view)
    cut.changes(view)
    before.require_same(cut, "looking must change nothing")
    assert units(view) == kept


@given(data=st.data(), adapter=adapters())
def test_new_versions_of_layers_share_every_tensor_that_stays(data: st.DataObject, adapter: Adapter) -> None:
    view = tiny_view(adapter)
    cut = data.draw(cuts(view))
    for number, version in cut.changes(view).items():
        if version is None:
            continue
        dense = dict(view.layer(number).named_parameters())
        now = dict(version.module.named_parameters())
        assert now.keys() <= dense.keys()
        assert all(parameter is dense[name] for name, parameter in now.items() if parameter.shape == dense[name].shape)
        layouts = [adapter.layout(branch) for branch in version.units]
        narrowable = tuple(path for layout in layouts for path in (*layout.readers, layout.writer))
        assert all(name.startswith(narrowable) for name, p in now.items() if p.shape != dense[name].shape)


@given(data=st.data(), adapter=adapters())
def test_a_copy_loses_what_the_original_keeps(data: st.DataObject, adapter: Adapter) -> None:
    view = tiny_view(adapter)
    before, kept, own = Snapshot(view), units(view), tensors(view)
    twin = view.copy()
    for cut in data.draw(cut_sequences(view)):
        cut.remove_from(twin)
    before.require_same("a copy", "cutting it must leave the original alone")
    assert units(view) == kept
    assert all(tensor is own[number] for number, tensor in tensors(view).items())
    assert twin.parameter_count < view.parameter_count


@given(data=st.data(), adapter=adapters())
def test_after_any_cuts_a_copy_is_the_same_model_with_the_same_units(data: st.DataObject, adapter: Adapter) -> None:
    view, batch = tiny_view(adapter), tiny_tokens(padding="both").batches()[0]
    for cut in data.draw(cut_sequences(view)):
        cut.remove_from(view)
    assert units(view.copy()) == units(view)
    assert torch.equal(logits(view.copy().model, batch), logits(view.model, batch))


@given(data=st.data(), adapter=adapters())
def test_a_branch_with_a_map_behind_it_can_be_cut_as_any_other(data: st.DataObject, adapter: Adapter) -> None:
    view, batch = tiny_view(adapter), tiny_tokens(padding="both").batches()[0]
    Insert().merge(view, DropLayers(2, 3), random_map(view.d_model, bias=True))
    smaller, made = view.copy(), data.draw(cut_sequences(view, longest=2))
    for cut in made:
        cut.remove_from(smaller)
    close(logits(smaller.model, batch), logits(zeroed(view, *made), batch), adapter.name, str(made))
