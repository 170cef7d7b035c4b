"""MultiPruner: three searches in a row, with published shares, in any order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from tests.strategies.selecting import TOKENS, Selected, select
from transformers import AutoModelForCausalLM

from billhook import Budget, Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, Pruner, Race
from billhook.errors import InvalidConfig
from billhook.testing import tiny_model, tiny_tokenizer, tiny_view
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.heads import Heads
from billhook_strategies.selectors.multi_pruner import PRESETS, MultiPruner
from billhook_strategies.selectors.sequence import Sequence
from billhook_strategies.selectors.sleb import Sleb

KINDS: dict[str, type[Cut]] = {"branches": DropBranch, "channels": KeepChannels, "heads": KeepHeads}
ORDERS = list(itertools.permutations(KINDS))


def run(ratio: float = 0.25, **options: Any) -> Selected:
    selector = MultiPruner(**{"shares": (40, 40, 20), "channel_group": 2, **options})
    return select(selector, Budget(parameters=ratio), tiny_view(num_hidden_layers=6))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_the_dimensions_come_in_the_order_asked_for(order: Any) -> None:
    found = run(order=order)
    assert list(dict.fromkeys(type(cut) for cut in found.cuts)) == [KINDS[dimension] for dimension in order]


def test_branches_then_channels_then_heads_unless_told() -> None:
    assert run().cuts == run(order=("branches", "channels", "heads")).cuts


@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3])
def test_the_budget_is_met_by_less_than_one_group_more(ratio: float, race: Race | None) -> None:
    found = run(ratio, race=race)
    assert 0 <= found.overshoot < found.last


def test_it_is_a_sequence_of_its_stages() -> None:
    selector = MultiPruner(shares=(1, 2, 3), channel_group=5, head_group=2, score="wanda", first_attention=True)
    stages = [
        (BlockPruner(first_attention=True), 1),
        (Channels(group=5, score="wanda"), 2),
        (Heads(group=2, score="wanda"), 3),
    ]
    assert selector.sequence == Sequence(stages)


def test_a_race_is_run_in_every_stage() -> None:
    race = Race(data=(0.5,), keep=(0.5,))
    assert MultiPruner(race=race).sequence == Sequence(
        [(BlockPruner(race=race), 44), (Channels(race=race), 52), (Heads(race=race), 4)]
    )


@pytest.mark.parametrize(
    ("preset", "shares", "group"),
    [
        # arXiv 2501.09949, section 4.1, and the settings published with its results
        ("default", (44, 52, 4), None),
        ("llama-2", (44, 52, 4), 1024),
        ("llama-3-8b", (20, 80, 0), 1024),
        ("llama-3.1-8b", (30, 70, 0), 1024),
        ("llama-3.2-3b", (10, 90, 0), 768),
        ("qwen2.5-7b", (50, 50, 0), 1024),
        ("qwen1.5-14b", (44, 52, 4), 2048),
    ],
)
def test_presets_are_the_published_settings(preset: str, shares: tuple[int, ...], group: int | None) -> None:
    stages = MultiPruner(preset=preset).sequence.stages
    assert tuple(stage.share for stage in stages) == shares
    assert stages[1].selector == Channels(group=group)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_shares_of_every_preset_are_percents(preset: str) -> None:
    assert sum(PRESETS[preset].shares) == 100


def test_what_is_told_goes_before_the_preset() -> None:
    stages = MultiPruner(preset="llama-3-8b", shares=(1, 1, 1), channel_group=7).sequence.stages
    assert [stage.share for stage in stages] == [1, 1, 1]
    assert stages[1].selector == Channels(group=7)


def test_grouped_query_presets_leave_the_heads_alone() -> None:
    assert MultiPruner(preset="llama-3-8b").kinds() == (DropBranch, KeepChannels)


@pytest.mark.parametrize(
    ("shares", "kind"), [((1, 0, 0), DropBranch), ((0, 1, 0), KeepChannels), ((0, 0, 1), KeepHeads)]
)
def test_a_single_dimension_can_be_had_alone(shares: Any, kind: type[Cut]) -> None:
    assert {type(cut) for cut in run(0.05, shares=shares).cuts} == {kind}


def test_uniform_results_are_loaded_by_stock_code(tmp_path: Path) -> None:
    selector = MultiPruner(shares=(40, 40, 20), channel_group=2, uniform=True)
    pruner = Pruner.following("replaceme-ls", selector=selector, estimator="identity")
    dense = tiny_model(num_hidden_layers=6)
    result = pruner.prune(dense, tiny_tokenizer(), calibration=TOKENS, budget=Budget(parameters=0.3))
    fresh = AutoModelForCausalLM.from_pretrained(result.save(tmp_path / "out"))
    assert type(fresh) is type(dense)
    assert fresh.config.num_hidden_layers < 6
    assert fresh.config.intermediate_size < 24
    assert fresh.config.num_key_value_heads == 1
    assert {type(cut) for cut in result.plan.cuts} == {DropLayers, KeepChannels, KeepHeads}


def test_uniform_drops_layers_and_searches_only_for_those() -> None:
    selector = MultiPruner(uniform=True)
    assert selector.kinds() == (DropLayers, KeepChannels, KeepHeads)
    assert selector.sequence.stages[0].selector == Sleb()
    assert selector.needs_objective()
    assert not MultiPruner(uniform=True, shares=(0, 1, 1)).needs_objective()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "lama-2"}, r"MultiPruner has no preset 'lama-2'\. Did you mean 'llama-2'\? Known: default"),
        ({"order": ("branches", "channels")}, "'order' of MultiPruner must be a tuple of 'branches' or 'channels'"),
        ({"order": ("heads", "channels", "heads")}, "'order' of MultiPruner must be branches, channels and heads"),
        ({"shares": (-1, 1, 1)}, r"'shares' of MultiPruner must be 0 or more, not all 0; got \(-1, 1, 1\)"),
        ({"shares": (0, 0, 0)}, r"'shares' of MultiPruner must be 0 or more, not all 0"),
        ({"channel_group": 0}, "'group' of MultiPruner must be at least 1; got 0"),
        ({"head_group": -1}, "'group' of MultiPruner must be at least 1; got -1"),
        (
            {"score": "size"},
            "'score' of MultiPruner must be one of weight-l1, .*, obs; got 'size'",
        ),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        MultiPruner(**options)
