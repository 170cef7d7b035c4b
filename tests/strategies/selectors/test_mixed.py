"""Mixed: of all structures, those whose removal costs least for what they save."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.framework.search.naive_search import naive_score
from tests.framework.search.search_news import Listening

from billhook import (
    Budget,
    Cut,
    DropBranch,
    KeepChannels,
    KeepHeads,
    Pruner,
    PruneResult,
    Repair,
)
from billhook.cuts.candidate import Candidate
from billhook.errors import InvalidConfig
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.refit import Refit
from billhook_strategies.selectors.mixed import Mixed

TOKENS = tiny_tokens(rows=6, seq=10)
SELECTOR = Mixed(rounds=1, parts=(0.25,), tokens=60, score="weight-l1")


def prune(selector: Mixed, ratio: float, family: str = "llama", **options: Any) -> PruneResult:
    model = tiny_view(family, num_hidden_layers=5).model
    pruner = Pruner.following("replaceme-ls", **{"selector": selector, "estimator": "identity", **options})
    return pruner.prune(model, calibration=TOKENS, budget=Budget(parameters=ratio))


def costs(cuts: list[Cut]) -> dict[Cut, float]:
    """Rise of the loss by parameter."""
    view = tiny_view(num_hidden_layers=5)
    present = math.log(naive_score(view.model, view.model, TOKENS, "perplexity"))
    found = {}
    for cut in cuts:
        after = view.copy()
        cut.remove_from(after)
        loss = math.log(naive_score(after.model, view.model, TOKENS, "perplexity"))
        found[cut] = (loss - present) / Candidate.of(cut, view).parameters
    return found


def test_the_first_round_takes_the_cheapest_of_each_branch() -> None:
    cuts = prune(SELECTOR, 0.12).plan.cuts
    assert len(cuts) > 1
    view = tiny_view(num_hidden_layers=5)
    places = [(n, b) for n in view.numbers for b in ("attention", "mlp") if (n, b) != (0, "attention")]
    branches: list[Cut] = [DropBranch(n, b) for n, b in places]  # type: ignore[arg-type] # a Branch
    by_cost = costs([*branches, *(cut for cut in cuts if cut not in branches)])
    dearest = max(by_cost[cut] for cut in cuts)
    taken = {(cut.layer, cut.branch) for cut in cuts}  # type: ignore[attr-defined] # each has both
    smallest = min(Candidate.of(cut, view).parameters for cut in cuts)
    for cut in branches:
        place = (cut.layer, cut.branch)  # type: ignore[attr-defined] # a DropBranch
        if place not in taken and Candidate.of(cut, view).parameters <= smallest:
            assert by_cost[cut] >= dearest * (1 - 1e-3)  # float32 against float64


@pytest.mark.parametrize("rounds", [1, 2, 5])
@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.4])
def test_the_budget_is_met_within_a_part_of_a_branch(ratio: float, rounds: int) -> None:
    result = prune(Mixed(rounds=rounds, parts=(0.25,), tokens=20, score="weight-l1"), ratio)
    assert ratio <= result.metrics["ratio"] < ratio + 0.08


def test_within_a_round_the_last_in_the_stream_goes_first() -> None:
    cuts = prune(SELECTOR, 0.3).plan.cuts
    order = [(cut.layer, cut.branch == "mlp") for cut in cuts]  # type: ignore[attr-defined] # each has both
    assert order == sorted(order, reverse=True)


def test_each_round_tells_what_is_gone_and_what_is_best() -> None:
    listening = Listening()
    selector = Mixed(rounds=3, parts=(0.25,), tokens=20, score="weight-l1")
    result = prune(selector, 0.3, hooks=[listening])
    before, after = listening.news[::2], listening.news[1::2]
    assert [found.step for found in before] == [found.step for found in after] == [1, 2, 3]
    assert all(found.candidates_left == found.candidates and not found.best for found in before)
    assert math.isnan(before[0].seconds_left)
    assert before[1].seconds_left > 0
    removed = [found.removed for found in before]
    assert removed[0] == 0
    assert removed == sorted(set(removed))
    assert sum(found.candidates_left for found in after) == len(result.plan.cuts)
    scores = {str(report.cut): report.score for report in result.reports}
    assert all(scores[found.best] == found.best_score for found in after)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, {DropBranch, KeepChannels, KeepHeads}),
        ({"branches": False}, {KeepChannels, KeepHeads}),
        ({"branches": False, "heads": False}, {KeepChannels}),
    ],
)
def test_only_what_is_allowed_goes(options: dict[str, bool], kinds: set[type[Cut]]) -> None:
    selector = Mixed(rounds=3, parts=(0.25,), tokens=20, score="weight-l1", **options)
    assert set(selector.kinds()) == kinds
    assert {type(cut) for cut in prune(selector, 0.25).plan.cuts} <= kinds


@pytest.mark.parametrize("score", ["weight-l1", "wanda", "activation", "fluctuation", "obs"])
def test_any_score_ranks_the_units(score: Any) -> None:
    result = prune(Mixed(rounds=2, parts=(0.25,), tokens=20, score=score), 0.15)
    assert result.metrics["ratio"] >= 0.15


def test_a_family_whose_attention_cannot_get_narrower_is_told_what_to_leave_out() -> None:
    with pytest.raises(InvalidConfig, match=r"cannot get narrower: .* a switch, as in selector.heads=false"):
        prune(Mixed(rounds=2, parts=(0.25,), tokens=20), 0.15, family="olmo2")
    assert prune(Mixed(rounds=2, parts=(0.25,), tokens=20, heads=False), 0.15, family="olmo2").plan.cuts


def test_repaired_on_trial_it_ends_nearer_to_the_dense_model() -> None:
    selector = Mixed(rounds=3, parts=(0.25,), tokens=60)
    plain = prune(selector, 0.25, objective="kl")
    trial = Repair(when="trial")
    repaired = prune(selector, 0.25, objective="kl", estimator=Ridge(), merger=Refit(), repair=trial)
    assert repaired.metrics["objective_after"] < plain.metrics["objective_after"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "'rounds' of Mixed must be at least 1; got 0"),
        ({"tokens": 0}, "'tokens' of Mixed must be at least 1; got 0"),
        ({"rounds": 10**12}, "'rounds' of Mixed must not be above 10,000; got 1000000000000"),
        ({"parts": (0.125,) * 3000}, "'parts' of Mixed are 64 at most; got 3000"),
        ({"parts": ()}, "'parts' of Mixed must lie between 0 and 1, at least one"),
        ({"parts": (0.5, 1.0)}, r"'parts' of Mixed must lie between 0 and 1, at least one; got \(0.5, 1.0\)"),
        ({"score": "magnitude"}, "'score' of Mixed must be one of weight-l1, .*; got 'magnitude'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Mixed(**options)


def test_more_than_there_is_cannot_go() -> None:
    with pytest.raises(InvalidConfig, match="The budget cannot be met"):
        prune(Mixed(branches=False, heads=False, rounds=1), 0.6)
