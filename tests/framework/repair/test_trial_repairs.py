"""Repairs on trial: what a search sees of a candidate is what the model would be with it cut and repaired."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.framework.search.naive_search import branches, channels, heads, layers, naive_score
from torch import Tensor

from billhook import (
    Budget,
    CacheBudget,
    Cut,
    DropBranch,
    DropLayers,
    Estimator,
    KeepChannels,
    KeepHeads,
    Merger,
    ModelView,
    Pruner,
    PruningState,
    Repair,
    Search,
)
from billhook.cuts.candidate import Candidate
from billhook.cuts.placed import Placed
from billhook.errors import InvalidConfig
from billhook.repair.repairer import Repairer
from billhook.repair.trial_repairs import TrialRepairs
from billhook.search.comparison import compare
from billhook.testing import cut_sequences, tiny_tokens, tiny_view
from billhook.testing.conformance.expect import logits
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.refit import Refit
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner

TOKENS = tiny_tokens(6, 12, padding="both")
RIDGE = Ridge(strength=0.01)
MERGERS: tuple[Merger, ...] = (Fold(), Refit())


def state_of(view: ModelView, merger: Merger, *, held_out: float = 0.0, host: int = 10**8) -> PruningState:
    state = PruningState(
        view,
        TOKENS,
        merger=merger,
        objective=Perplexity(),
        cache=CacheBudget(host=host),
        tokens_per_batch=24,
        repair=Repair(when="trial", held_out=held_out),
    )
    state.trials = TrialRepairs(state, Repairer(RIDGE, merger))
    return state


def candidates_of(view: ModelView) -> list[Cut]:
    """Some of every kind."""
    return [*branches(view), *layers(view)[1:], *channels(view), *heads(view)]


def tried(state: PruningState, candidate: Candidate) -> Tensor:
    """Logits with the candidate's layers in the place of the present ones."""
    view = state.model.copy()
    view.change_layers(candidate.changes)
    return logits(view.model, TOKENS.batches()[0])


def made(state: PruningState, cut: Cut) -> ModelView:
    """The present model with ``cut`` made and repaired, as a Pruner would after a pass of its own."""
    view = state.model.copy()
    site = cut.repair_site(view)
    linear_map = None if site is None else Repairer(RIDGE, state.merger).solve(state, Placed.of(cut, state.model))[0]
    state.merger.merge(view, cut, linear_map)
    return view


def apply(state: PruningState, cut: Cut) -> None:
    state.model = made(state, cut)
    state.record(cut)


@pytest.mark.parametrize("held_out", [0.0, 0.34])
@pytest.mark.parametrize("merger", MERGERS, ids=repr)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "granite"])
def test_candidates_compute_what_the_repaired_model_does(family: str, merger: Merger, held_out: float) -> None:
    state = state_of(tiny_view(family), merger, held_out=held_out)
    assert state.trials is not None
    for candidate in state.trials.candidates(candidates_of(state.model)):
        wanted = logits(made(state, candidate.cut).model, TOKENS.batches()[0])
        # moments of both come from the same float32 activations, a ridge of 1 % keeps the solve tame
        torch.testing.assert_close(tried(state, candidate), wanted, rtol=1e-3, atol=1e-3)
    state.close()


@pytest.mark.parametrize("merger", MERGERS, ids=repr)
@settings(max_examples=10)
@given(data=st.data())
def test_that_holds_after_any_cuts_whatever_is_still_known(merger: Merger, data: st.DataObject) -> None:
    state = state_of(tiny_view(num_hidden_layers=5), merger)
    assert state.trials is not None
    for cut in data.draw(cut_sequences(state.model, longest=3)):
        state.trials.candidates(candidates_of(state.model))
        apply(state, cut)
    for candidate in state.trials.candidates(candidates_of(state.model)):
        wanted = logits(made(state, candidate.cut).model, TOKENS.batches()[0])
        torch.testing.assert_close(tried(state, candidate), wanted, rtol=1e-3, atol=1e-3)  # as above
    state.close()


def test_a_second_look_takes_no_pass() -> None:
    state = state_of(tiny_view(), Refit())
    assert state.trials is not None
    state.trials.candidates(candidates_of(state.model))
    work = state.flow.runner.layer_tokens
    state.trials.candidates(candidates_of(state.model))
    assert state.flow.runner.layer_tokens == work
    state.close()


def test_after_a_cut_only_what_stands_behind_it_is_looked_at_anew() -> None:
    state = state_of(tiny_view(num_hidden_layers=6), Refit())
    assert state.trials is not None
    before = {c.cut: c.repair for c in state.trials.candidates(candidates_of(state.model))}
    apply(state, KeepChannels(4, (0, 1, 2)))
    after = {c.cut: c.repair for c in state.trials.candidates(candidates_of(state.model))}
    for cut, repair in after.items():
        site = cut.repair_site(state.model)
        if site is not None and site.layer < 4 and cut in before:
            assert repair is before[cut]
    state.close()


def naive_best(state: PruningState, cuts: Sequence[Cut]) -> tuple[Cut, float, float]:
    """The best cut, its score, and its lead."""
    scores = {cut: naive_score(made(state, cut).model, state.dense.model, TOKENS, "perplexity") for cut in cuts}
    best, second = sorted(scores.values())[:2]
    return min(cuts, key=lambda cut: scores[cut]), best, second / best - 1


@pytest.mark.parametrize("merger", MERGERS, ids=repr)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_search_finds_what_the_naive_search_over_repaired_models_finds(merger: Merger, seed: int) -> None:
    torch.manual_seed(seed)
    # with room for all streams, and for some of them
    states = [state_of(tiny_view("llama", num_hidden_layers=5, seed=seed), merger, host=h) for h in (10**8, 20_000)]
    searches = [Search(state, target=10**9) for state in states]
    for _ in range(4):
        cuts = candidates_of(states[0].model)
        wanted, score, lead = naive_best(states[0], cuts)
        if lead < 1e-4:
            break  # float32 cannot tell the two apart
        for state, search in zip(states, searches, strict=True):
            assert search.best(cuts) == wanted
            assert state.scores[wanted] == pytest.approx(score, rel=1e-4)
            apply(state, wanted)
    for state in states:
        assert state.cuts
        state.close()


def test_the_pruner_makes_the_repairs_that_were_tried() -> None:
    dense = tiny_view(num_hidden_layers=5)
    pruner = Pruner.following(
        "replaceme-ls", selector=BlockPruner(), estimator=RIDGE, merger=Refit(), repair=Repair(when="trial")
    )
    result = pruner.prune(dense.model, calibration=TOKENS, budget=Budget(parameters=0.3))
    assert len(result.reports) >= 2
    assert result.metrics["objective_after"] == pytest.approx(result.reports[-1].score, rel=1e-5)  # float32, other sums


@pytest.mark.parametrize("trials", [False, True])
def test_comparing_gives_the_loss_after_each_cut(trials: bool) -> None:
    state = state_of(tiny_view(num_hidden_layers=5), Refit())
    if not trials:
        state.trials = None
    apply(state, DropBranch(3, "mlp"))
    cuts = candidates_of(state.model)
    found = compare(state, cuts)
    score = naive_score(state.model.model, state.dense.model, TOKENS, "perplexity")
    assert math.exp(found.present) == pytest.approx(score, rel=1e-4)  # float32 against float64
    assert list(found.after) == cuts
    for cut in cuts:
        view = made(state, cut) if trials else state.model.copy()
        if not trials:
            cut.remove_from(view)
        wanted = naive_score(view.model, state.dense.model, TOKENS, "perplexity")
        assert math.exp(found.after[cut]) == pytest.approx(wanted, rel=1e-4)
    state.close()


def test_comparing_may_take_some_of_the_rows_only() -> None:
    state = state_of(tiny_view(), Refit())
    state.trials = None
    work = state.flow.runner.layer_tokens
    compare(state, [DropBranch(3, "mlp")], tokens=24)
    rows = 2
    # the base stream up to layer 3 serves both; then the present model's last layer, and that without its MLP
    assert state.flow.runner.layer_tokens - work == rows * TOKENS.ids.shape[1] * (len(state.model.numbers) + 1)
    state.close()


def test_comparing_takes_an_objective() -> None:
    state = PruningState(tiny_view(), TOKENS, merger=Fold())
    with pytest.raises(InvalidConfig, match="To compare cuts takes an objective"):
        compare(state, [DropLayers(1, 2)])
    state.close()


def test_an_estimator_that_gives_no_map_leaves_candidates_as_they_are() -> None:
    @attrs.frozen
    class Nothing(Estimator):
        def estimate(self, regression: object) -> None:
            return None

    state = state_of(tiny_view(), Refit())
    trials = TrialRepairs(state, Repairer(Nothing(), Refit()))
    (candidate,) = trials.candidates([KeepHeads(1, (0,))])
    assert candidate.repair is None
    state.close()
