"""What an idea is tried on: states, planted models, a model that has learnt something, fixtures."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from billhook import Budget, DropBranch, DropLayers, KeepChannels, Pruner, PruningState, Tokens, keeping, score
from billhook.errors import InvalidConfig
from billhook.testing import learnt_model, learnt_tokens, planted_model, tiny_state, tiny_view
from billhook.testing.fixtures import learnt, learnt_text, tiny_llama, tiny_pruning_state

__all__ = ["learnt", "learnt_text", "tiny_llama", "tiny_pruning_state"]


def loss(state: PruningState) -> float:
    assert state.objective is not None
    return score(state, state.objective)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "falcon"])
def test_what_is_planted_can_go_and_nothing_changes(family: str) -> None:
    model = planted_model(family, useless_branches=[(1, "mlp")], redundant_layers=[2], dead_channels={3: [0, 5]})
    state = tiny_state(model, objective="perplexity")
    channels = [unit for unit in state.dense.units(3, "mlp") if unit not in (0, 5)]
    before = loss(state)
    for cut in (DropBranch(1, "mlp"), DropLayers(2, 3), KeepChannels(3, tuple(channels))):
        with state.trial(cut):
            assert loss(state) == pytest.approx(before, rel=1e-5), cut
    with state.trial(DropBranch(1, "attention")):
        assert abs(loss(state) / before - 1) > 1e-3


def test_what_does_next_to_nothing_changes_next_to_nothing() -> None:
    state = tiny_state(planted_model(useless_branches=[(1, "mlp")], factor=1e-3), objective="perplexity")
    before = loss(state)
    with state.trial(DropBranch(1, "mlp")):
        assert 0 < abs(loss(state) / before - 1) < 1e-2


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ({"useless_branches": [(9, "mlp")]}, "no mlp in layer 9"),
        ({"redundant_layers": [4]}, "no attention in layer 4"),
        ({"useless_branches": [(1, "head")]}, "no head in layer 1"),
        ({"dead_channels": {1: [99]}}, r"has units 0 to 23; got \[99\]"),
    ],
)
def test_what_cannot_be_planted_is_refused(planted: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        planted_model("llama", **planted)  # type: ignore[arg-type]


def test_channels_are_chosen_where_they_are_dead() -> None:
    model = planted_model(dead_channels={number: range(0, 24, 2) for number in range(4)})
    pruner = Pruner(selector="billhook:curvature", estimator="identity")
    plan = pruner.prune(model, calibration=tiny_state().tokens, budget=Budget(parameters=0.1)).plan
    for cut in plan.cuts:
        assert isinstance(cut, KeepChannels)
        assert {unit for unit in range(24) if unit not in cut.kept} <= {*range(0, 24, 2)}


def test_a_state_takes_a_family_its_size_an_objective_and_tokens() -> None:
    state = tiny_state("gpt2", num_hidden_layers=6, objective="billhook:kl")
    assert len(state.dense.numbers) == 6
    assert loss(state) == 0
    assert bool((~state.tokens.keep).any())


def test_the_learnt_model_has_learnt_and_every_call_gives_a_copy(learnt: PreTrainedModel, learnt_text: Tokens) -> None:
    state = tiny_state(learnt, tokens=learnt_text, objective="perplexity")
    guessing, whole = 28.0, loss(state)
    assert whole < guessing / 8
    assert all(torch.equal(*pair) for pair in zip(learnt.parameters(), learnt_model().parameters(), strict=True))
    with torch.no_grad():
        next(learnt.parameters()).zero_()
    assert loss(tiny_state(learnt_model(), tokens=learnt_text, objective="perplexity")) == whole


def test_every_layer_of_the_learnt_model_is_missed(learnt: PreTrainedModel, learnt_text: Tokens) -> None:
    state = tiny_state(learnt, tokens=learnt_text, objective="perplexity")
    whole = loss(state)
    for number in range(4):
        with state.trial(DropLayers(number, number + 1)):
            assert loss(state) > 1.05 * whole, number
    with state.trial(keeping((1, "mlp"), range(0, 64, 2))):
        assert loss(state) > whole


def test_text_of_another_seed_is_other_text_of_the_same_language() -> None:
    one, other = learnt_tokens(8, seed=1), learnt_tokens(8, seed=2)
    assert torch.equal(one.ids, learnt_tokens(8, seed=1).ids)
    assert not torch.equal(one.ids, other.ids)
    halves = other.ids.reshape(-1, 2, 4)
    assert torch.equal(halves[:, 0], halves[:, 1])


def test_fixtures_are_fresh(tiny_llama: PreTrainedModel, tiny_pruning_state: PruningState) -> None:
    assert len(tiny_llama.model.layers) == 4
    assert tiny_pruning_state.cuts == []
    assert tiny_view().parameter_count == tiny_pruning_state.dense.parameter_count
