"""Repair sites: the nearest surviving writer before a cut, and what the next surviving branch reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView
from billhook.cuts.sites import RepairSite
from billhook.testing import tiny_view

LAYERS = 6


def view_without(*cuts: Cut) -> ModelView:
    view = tiny_view(num_hidden_layers=LAYERS)
    for cut in cuts:
        cut.remove_from(view)
    return view


@pytest.mark.parametrize(
    ("cut", "site"),
    [
        (DropBranch(3, "mlp"), RepairSite(3, "attention", 4)),
        (DropBranch(3, "attention"), RepairSite(2, "mlp", 3, between=True)),
        (DropBranch(0, "mlp"), RepairSite(0, "attention", 1)),
        (DropBranch(5, "mlp"), RepairSite(5, "attention", 6)),
        (DropLayers(2, 4), RepairSite(1, "mlp", 4)),
        (DropLayers(4, 6), RepairSite(3, "mlp", 6)),
        (KeepChannels(3, (0, 1)), RepairSite(3, "mlp", 4)),
        (KeepChannels(5, (0, 1)), RepairSite(5, "mlp", 6)),
        (KeepHeads(3, (0,)), RepairSite(3, "attention", 3, between=True)),
    ],
    ids=str,
)
def test_of_a_whole_model(cut: Cut, site: RepairSite) -> None:
    assert cut.repair_site(view_without()) == site


@pytest.mark.parametrize("cut", [DropBranch(0, "attention"), DropLayers(0, 2)], ids=str)
def test_nothing_makes_up_for_what_nothing_stands_before(cut: Cut) -> None:
    assert cut.repair_site(view_without()) is None


@pytest.mark.parametrize(
    ("gone", "cut", "site"),
    [
        # what the attention that is cut made up for is made up for by its donor
        ([DropBranch(3, "mlp")], DropBranch(3, "attention"), RepairSite(2, "mlp", 4)),
        ([DropBranch(2, "mlp")], DropBranch(3, "attention"), RepairSite(2, "attention", 3, between=True)),
        ([DropLayers(2, 3)], DropBranch(3, "attention"), RepairSite(1, "mlp", 3, between=True)),
        ([DropLayers(4, 6)], KeepChannels(3, (0, 1)), RepairSite(3, "mlp", 6)),
        ([DropBranch(4, "attention")], KeepChannels(3, (0, 1)), RepairSite(3, "mlp", 4, between=True)),
        ([DropBranch(4, "attention")], DropLayers(2, 4), RepairSite(1, "mlp", 4, between=True)),
    ],
    ids=str,
)
def test_of_a_model_that_has_lost_something(gone: list[Cut], cut: Cut, site: RepairSite) -> None:
    assert cut.repair_site(view_without(*gone)) == site


@given(data=st.data())
def test_the_donor_survives_and_no_other_branch_stands_between_it_and_the_target(data: st.DataObject) -> None:
    view = view_without()
    for _ in range(data.draw(st.integers(0, 4))):
        number, branch = data.draw(st.sampled_from(view.branches()[1:]))
        DropBranch(number, branch).remove_from(view)
    number, branch = data.draw(st.sampled_from(view.branches()[1:]))
    site = DropBranch(number, branch).repair_site(view)
    DropBranch(number, branch).remove_from(view)
    assert site is not None
    places = view.branches()
    following = places[places.index((site.layer, site.branch)) + 1 :]
    reads = following[0] if following else (LAYERS, "attention")
    assert (site.target, site.between) == (reads[0], reads[1] == "mlp")
