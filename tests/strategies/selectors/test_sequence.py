"""Sequence: several selectors, one budget, cumulative shares."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from tests.strategies.selecting import select

from billhook import Budget, Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, Race, Selector, default_registry
from billhook.errors import InvalidConfig
from billhook.testing import tiny_view
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.heads import Heads
from billhook_strategies.selectors.sequence import Sequence, Stage
from billhook_strategies.selectors.short_gpt import ShortGpt
from billhook_strategies.selectors.sleb import Sleb

REGISTRY = default_registry()
BRANCHES_AND_CHANNELS = Sequence([(BlockPruner(), 1), (Channels(group=2), 3)])


def kinds_in_order(cuts: list[Cut]) -> list[type[Cut]]:
    return list(dict.fromkeys(type(cut) for cut in cuts))


def test_the_stages_come_one_after_the_other() -> None:
    view = tiny_view(num_hidden_layers=6)
    found = select(BRANCHES_AND_CHANNELS, Budget(parameters=0.3), view)
    switch = next(place for place, cut in enumerate(found.cuts) if isinstance(cut, KeepChannels))
    assert all(isinstance(cut, DropBranch) for cut in found.cuts[:switch])
    assert all(isinstance(cut, KeepChannels) for cut in found.cuts[switch:])


@pytest.mark.parametrize("budget", [Budget(parameters=0.2), Budget(parameters=0.3, of="backbone"), Budget(bytes=9000)])
@pytest.mark.parametrize("shares", [(1, 3), (25, 75), (3, 1), (0.2, 0.2)])
def test_a_stage_goes_on_until_the_shares_up_to_its_own_are_gone(budget: Budget, shares: tuple[float, float]) -> None:
    stages = [(BlockPruner(), shares[0]), (Channels(group=2), shares[1])]
    found = select(Sequence(stages), budget, tiny_view(num_hidden_layers=6))
    switch = sum(isinstance(cut, DropBranch) for cut in found.cuts)
    first_target = round(found.target * shares[0] / sum(shares))
    assert found.removed[switch - 1] < first_target <= found.removed[switch]
    assert 0 <= found.overshoot < found.last


def test_shares_are_cumulative() -> None:
    stages = [(Sleb(), 2), (BlockPruner(), 1), (Channels(group=2), 1)]
    found = select(Sequence(stages), Budget(parameters=0.5), tiny_view(num_hidden_layers=8))
    for number, kind in enumerate((DropLayers, DropBranch)):
        after = max(place for place, cut in enumerate(found.cuts, 1) if isinstance(cut, kind))
        target = round(found.target * (2, 3)[number] / 4)
        assert found.removed[after - 1] < target <= found.removed[after]


def test_what_the_first_stage_cuts_too_much_the_second_cuts_less() -> None:
    """Whole layers are coarse: two of six are gone where one and a half were to."""
    view = tiny_view(num_hidden_layers=6)
    layer = view.layer_parameter_count // 6
    budget = Budget(parameters=2.1 * layer / view.parameter_count)
    found = select(Sequence([(Sleb(), 1.5), (Channels(group=1), 0.6)]), budget, view)
    assert [type(cut) for cut in found.cuts[:2]] == [DropLayers, DropLayers]
    assert found.removed[2] == 2 * layer
    assert 0 <= found.overshoot < found.last < layer


def test_a_stage_for_which_nothing_is_left_yields_nothing() -> None:
    found = select(Sequence([(Sleb(), 99), (Channels(group=1), 1)]), Budget(parameters=0.1), tiny_view())
    assert kinds_in_order(found.cuts) == [DropLayers]


def test_stages_without_a_share_are_passed_over() -> None:
    selector = Sequence([(BlockPruner(), 0), (Channels(group=2), 1), (Heads(), 0)])
    assert selector.kinds() == (KeepChannels,)
    found = select(selector, Budget(parameters=0.1), tiny_view())
    assert kinds_in_order(found.cuts) == [KeepChannels]
    assert found.cuts == select(Channels(group=2), Budget(parameters=0.1), tiny_view()).cuts


def test_a_share_of_less_than_a_parameter_is_none() -> None:
    found = select(Sequence([(BlockPruner(), 1e-9), (Channels(group=2), 1)]), Budget(parameters=0.1), tiny_view())
    assert kinds_in_order(found.cuts) == [KeepChannels]


def test_a_single_stage_is_that_selector() -> None:
    budget, view = Budget(parameters=0.3), tiny_view(num_hidden_layers=4)
    for selector in (BlockPruner(), Sleb(), ShortGpt(), Channels(group=3)):
        assert select(Sequence([(selector, 5)]), budget, view).cuts == select(selector, budget, view).cuts


def test_selectors_that_do_not_search_may_come_first() -> None:
    found = select(Sequence([(ShortGpt(), 1), (Channels(group=2), 1)]), Budget(parameters=0.3), tiny_view())
    assert kinds_in_order(found.cuts) == [DropLayers, KeepChannels]
    with pytest.raises(InvalidConfig, match="in a sequence it must come first"):
        select(Sequence([(Channels(group=2), 1), (ShortGpt(), 1)]), Budget(parameters=0.3), tiny_view())


def test_sequences_can_hold_sequences() -> None:
    inner = Sequence([(BlockPruner(), 1), (Channels(group=2), 1)])
    found = select(Sequence([(inner, 2), (Heads(), 1)]), Budget(parameters=0.25), tiny_view(num_hidden_layers=6))
    assert kinds_in_order(found.cuts) == [DropBranch, KeepChannels, KeepHeads]
    assert 0 <= found.overshoot < found.last


def test_its_kinds_are_those_of_its_stages_each_once() -> None:
    selector = Sequence([(Sleb(), 1), (BlockPruner(), 1), (ShortGpt(), 1), (Heads(), 1)])
    assert selector.kinds() == (DropLayers, DropBranch, KeepHeads)


@pytest.mark.parametrize(
    ("stages", "needed"),
    [
        ([(ShortGpt(), 1)], False),
        ([(ShortGpt(), 1), (Channels(uniform=True), 1)], False),
        ([(ShortGpt(), 1), (Channels(), 1)], True),
        ([(ShortGpt(), 1), (Channels(), 0)], False),
    ],
)
def test_an_objective_is_needed_if_any_stage_with_a_share_needs_one(stages: Any, needed: bool) -> None:
    assert Sequence(stages).needs_objective() is needed


def test_pairs_are_stages() -> None:
    assert Sequence([(Sleb(), 2.0)]) == Sequence([Stage(Sleb(), 2.0)])


@pytest.mark.parametrize(
    "selector",
    [
        BRANCHES_AND_CHANNELS,
        Sequence([(BlockPruner(branches="mha", race=Race(data=(0.5,), keep=(0.5,))), 1.5), (Sleb(protect_last=0), 2)]),
        Sequence([(Sequence([(Heads(score="wanda"), 1)]), 1)]),
    ],
)
def test_it_comes_back_from_json_with_everything_in_it(selector: Selector) -> None:
    spec = REGISTRY.spec("selector", selector)
    again = REGISTRY.create("selector", spec.name, json.loads(json.dumps(dict(spec.options))))
    assert again == selector


def test_stages_in_json_may_be_names_alone() -> None:
    found = REGISTRY.create(
        "selector", "sequence", {"stages": [{"selector": "sleb"}, {"selector": "heads", "share": 3}]}
    )
    assert found == Sequence([Stage(Sleb()), Stage(Heads(), 3)])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"selector": {"name": "slebb"}}], "No selector is named 'slebb'.*Did you mean 'sleb'"),
        ([{"selector": {"nom": "sleb"}}], "a name, or an object of name and options; got"),
        ([{"selector": 7}], "a name, or an object of name and options; got 7"),
        ([{"selector": {"name": "sleb", "options": {"protect": 1}}}], "no option 'protect'"),
    ],
)
def test_wrong_stages_in_json_are_refused_by_name(stages: Any, message: str) -> None:
    with pytest.raises((InvalidConfig, LookupError), match=message):
        REGISTRY.create("selector", "sequence", {"stages": stages})


def test_a_stage_of_no_selector_is_refused() -> None:
    wrong = cast(Selector, Sleb)
    with pytest.raises(InvalidConfig, match=r"must be a Selector; got <class .*Sleb"):
        Stage(wrong)


@pytest.mark.parametrize("share", [-1.0, float("nan"), float("inf"), 1e308])
def test_a_share_that_is_negative_or_cannot_be_added_up_is_refused(share: float) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(f"share of a stage must lie between 0 and 1e+09; got {share}")):
        Stage(Sleb(), share)


def test_stages_without_end_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="A Sequence has 1000 stages at most; got 2000"):
        Sequence([Stage(Sleb())] * 2000)


@pytest.mark.parametrize("stages", [[], [(Sleb(), 0)]])
def test_a_sequence_of_nothing_is_refused(stages: Any) -> None:
    with pytest.raises(InvalidConfig, match="needs at least one stage with a share above 0"):
        Sequence(stages)
