"""Channels: the least important ones of the MLP that misses them least, against the naive search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.framework.search.naive_search import naive_search
from tests.strategies.selecting import TOKENS, select, state_of
from torch import Tensor
from transformers import AutoModelForCausalLM

from billhook import Budget, Cut, DropBranch, KeepChannels, ModelView, Pruner, PruningState, Race
from billhook.errors import InvalidConfig
from billhook.measures.unit_scores import activation, measure_inner, wanda, weight_l1
from billhook.testing import tiny_model, tiny_tokenizer, tiny_view
from billhook_strategies.selectors.channels import Channels

GROUP = 5
TWELFTH = Budget(parameters=0.12)


def norms(state: PruningState, number: int) -> Tensor:
    return weight_l1(state.model, number, "mlp")


def wandas(state: PruningState, number: int) -> Tensor:
    return wanda(state.model, number, "mlp", measure_inner(state, "mlp")[number])


def activations(state: PruningState, number: int) -> Tensor:
    return activation(state.model, number, "mlp", measure_inner(state, "mlp")[number])


SCORES: dict[str, Callable[[PruningState, int], Tensor]] = {
    "weight-l1": norms,
    "wanda": wandas,
    "activation": activations,
}


def weakest(view: ModelView, score: str) -> dict[int, list[int]]:
    """By layer, its channels, those that are worth least first."""
    with state_of(view) as state:
        return {n: SCORES[score](state, n).argsort(stable=True).tolist() for n in view.numbers}


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_it_makes_the_cuts_of_the_naive_search(family: str, score: Any) -> None:
    view = tiny_view(family, num_hidden_layers=3, seed=7)
    order = weakest(view, score)

    def candidates(present: ModelView) -> list[Cut]:
        cuts = []
        for number in present.numbers:
            left = len(present.units(number, "mlp")) - GROUP
            if left > 0:
                cuts.append(KeepChannels(number, tuple(sorted(order[number][-left:]))))
        return list(cuts)

    found = select(Channels(group=GROUP, score=score), TWELFTH, view)
    naive = naive_search(view, candidates, TOKENS, "perplexity", len(found.cuts))
    assert len(naive) > 2
    assert found.cuts == [step.cut for step in naive]
    assert found.scores == pytest.approx([step.score for step in naive], rel=1e-4)  # float32 against float64 losses


@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
@pytest.mark.parametrize("group", [1, 5, 11])
def test_the_budget_is_met_by_less_than_one_group_more(group: int, race: Race | None) -> None:
    found = select(Channels(group=group, race=race), Budget(parameters=0.05), tiny_view())
    assert 0 <= found.overshoot < 3 * 16 * group + 2 * group  # columns of three matrices and two biases


def test_a_quarter_of_the_streams_width_is_a_group_unless_told() -> None:
    view = tiny_view()
    (first, *_) = select(Channels(), Budget(parameters=0.05), view).cuts
    assert isinstance(first, KeepChannels)
    assert len(first.kept) == 24 - view.d_model // 4


def test_every_mlp_keeps_a_channel() -> None:
    view = tiny_view()
    most = sum(p.numel() for n in view.numbers for p in view.layer(n).get_submodule("mlp").parameters())
    found = select(Channels(group=7), Budget(parameters=0.6 * most / view.parameter_count), view)
    assert {len(found.model.units(number, "mlp")) for number in view.numbers} <= {3, 10, 17, 24}


@pytest.mark.parametrize("uniform", [False, True])
def test_a_budget_beyond_that_is_refused_before_anything_is_scored(uniform: bool) -> None:
    """Of 24 channels in groups of 7, three remain: 3136 of 10320 parameters can go."""
    selector = Channels(group=7, uniform=uniform)
    with state_of(tiny_view()) as state:
        most = 4 * 21 * (3 * 16 + 2)
        message = rf"cannot be met: [\d,]+ more parameters are to go, and all that may be cut has {most:,}\."
        with pytest.raises(InvalidConfig, match=message):
            next(selector.select(state, Budget(parameters=(most + 1) / state.dense.parameter_count)))
        assert state.flow.runner.layer_tokens == 0
    assert select(selector, Budget(parameters=most / tiny_view().parameter_count), tiny_view()).overshoot == 0


@pytest.mark.parametrize("score", SCORES)
def test_uniform_takes_as_many_groups_out_of_every_layer(score: Any) -> None:
    """Of 10320 parameters 1239 are to go: two groups of 5 channels, 50 parameters each, from each of the 4 layers."""
    view = tiny_view()
    order = weakest(view, score)
    found = select(Channels(group=GROUP, score=score, uniform=True), TWELFTH, view)
    assert found.cuts == [KeepChannels(n, tuple(sorted(order[n][2 * GROUP :]))) for n in view.numbers]
    assert found.scores == []


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "falcon"])
def test_uniform_results_are_loaded_by_stock_code(family: str, tmp_path: Path) -> None:
    pruner = Pruner.following("replaceme-ls", selector=Channels(group=GROUP, uniform=True), estimator="identity")
    result = pruner.prune(tiny_model(family), tiny_tokenizer(), calibration=TOKENS, budget=TWELFTH)
    fresh = AutoModelForCausalLM.from_pretrained(result.save(tmp_path / "out"))
    assert type(fresh) is type(tiny_model(family))
    assert sum(p.numel() for p in fresh.parameters()) == result.metrics["parameters_after"]


def test_layers_without_an_mlp_are_passed_over() -> None:
    found = select(Channels(group=GROUP), Budget(parameters=0.2), tiny_view(), done=[DropBranch(1, "mlp")])
    assert {cut.layer for cut in found.cuts if isinstance(cut, KeepChannels)} <= {0, 2, 3}
    assert found.cuts


def test_a_budget_that_is_met_already_asks_for_nothing() -> None:
    assert select(Channels(), Budget(parameters=0.05), tiny_view(), done=[DropBranch(1, "mlp")]).cuts == []


def test_a_veto_of_one_layer_is_no_obstacle_to_a_search_and_ends_uniform_narrowing() -> None:
    def vetoing(selector: Channels) -> None:
        with state_of(tiny_view()) as state:
            for cut in selector.select(state, TWELFTH):
                if isinstance(cut, KeepChannels) and cut.layer == 1:
                    state.vetoed.append(cut)
                else:
                    cut.remove_from(state.model)
                    state.record(cut)
            assert len(state.model.units(1, "mlp")) == 24

    vetoing(Channels(group=GROUP))
    with pytest.raises(InvalidConfig, match=r"narrower alike, but a hook vetoed mlp 1 to 14 channels\. Do without"):
        vetoing(Channels(group=GROUP, uniform=True))


def test_it_yields_channels_and_needs_an_objective_if_it_searches() -> None:
    assert Channels().kinds() == (KeepChannels,)
    assert Channels().needs_objective()
    assert not Channels(uniform=True).needs_objective()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 0}, "'group' of Channels must be at least 1; got 0"),
        ({"score": "magnitude"}, "'score' of Channels must be one of weight-l1, .*, obs; got 'magnitude'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Channels(**options)
