"""Sleb: against the naive search, with as many layers as the budget means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.framework.search.naive_search import layers, naive_search
from tests.strategies.selecting import TOKENS, select

from billhook import Budget, Cut, DropBranch, DropLayers, ModelView, Pruner, Race
from billhook.errors import InvalidConfig
from billhook.testing import tiny_model, tiny_tokens, tiny_view
from billhook_strategies.selectors.sleb import Sleb

LAYERS = 6


def inner_layers(view: ModelView) -> list[Cut]:
    return [cut for cut in layers(view) if cut not in (DropLayers(0, 1), DropLayers(LAYERS - 1, LAYERS))]


@pytest.mark.parametrize("family", ["llama", "opt", "gemma3_text"])
def test_it_drops_what_the_naive_search_drops(family: str) -> None:
    view = tiny_view(family, num_hidden_layers=LAYERS, seed=4)
    found = select(Sleb(), Budget(layers=3), view)
    naive = naive_search(view, inner_layers, TOKENS, "perplexity", 3)
    assert found.cuts == [step.cut for step in naive]
    assert found.scores == pytest.approx([step.score for step in naive], rel=1e-4)  # float32 against float64 losses


@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
@pytest.mark.parametrize("budget", [Budget(layers=2), Budget(parameters=0.3), Budget(bytes=20000)], ids=str)
def test_as_many_layers_go_as_the_budget_means(budget: Budget, race: Race | None) -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    found = select(Sleb(race=race), budget, view)
    assert len(found.cuts) == budget.layer_count(view)
    assert 0 <= found.overshoot < found.last


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 1), (3, 1), (0, 4)])
def test_protected_layers_stay(first: int, last: int) -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    count = min(LAYERS - first - last, LAYERS - 1)
    found = select(Sleb(protect_first=first, protect_last=last), Budget(layers=count), view)
    assert {*range(first), *range(LAYERS - last, LAYERS)} <= {*found.model.numbers}
    assert len(found.model.numbers) == LAYERS - count


def test_ties_go_to_the_lower_layer() -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    with torch.no_grad():
        for number in view.numbers:
            for parameter in (*view.writer(number, "mlp").parameters(), *view.writer(number, "attention").parameters()):
                parameter.zero_()
    assert select(Sleb(), Budget(layers=2), view).cuts == [DropLayers(1, 2), DropLayers(2, 3)]


def test_after_each_cut_the_repaired_model_is_scored() -> None:
    """A repair makes up for a cut, so the scores of the second step are others."""
    reports = [
        Pruner.following("replaceme-ls", selector=Sleb(), estimator=estimator)
        .prune(tiny_model(num_hidden_layers=LAYERS), calibration=tiny_tokens(8, 12), budget=Budget(layers=2))
        .reports
        for estimator in ("identity", "ridge")
    ]
    assert reports[0][0].score == reports[1][0].score
    assert reports[0][1].score != reports[1][1].score


def test_layers_that_the_cache_could_not_do_without_are_passed_over() -> None:
    """Layer 0 has the only attention left."""
    view, gone = tiny_view(num_hidden_layers=4), [DropBranch(number, "attention") for number in (1, 2, 3)]
    budget = Budget(parameters=0.6)
    found = select(Sleb(protect_first=0, protect_last=0), budget, view, done=gone)
    assert found.model.has_branch(0, "attention")
    assert 0 <= found.overshoot < found.last


@pytest.mark.parametrize("layers", [5, 4])
def test_more_layers_than_are_free_are_refused_before_anything_is_scored(layers: int) -> None:
    message = rf"{layers} layers, but only 3 are not protected \(first 2, last 1\)\. Ask for less, or protect fewer"
    with pytest.raises(InvalidConfig, match=message):
        select(Sleb(protect_first=2), Budget(layers=layers), tiny_view(num_hidden_layers=LAYERS))


def test_it_yields_layers_and_needs_an_objective() -> None:
    assert Sleb().kinds() == (DropLayers,)
    assert Sleb().needs_objective()


@pytest.mark.parametrize("options", [{"protect_first": -1}, {"protect_last": -1}])
def test_negative_protections_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="The protected layers of Sleb cannot be fewer than 0"):
        Sleb(**options)
