"""Sweeps: every writer, and if wanted every reader, solved anew toward the dense model, in the order of the stream."""

from __future__ import annotations

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families import some

from billhook import (
    Adapter,
    CacheBudget,
    Cut,
    DropBranch,
    Estimator,
    KeepChannels,
    KeepHeads,
    LinearMap,
    ModelView,
    PruningState,
    Regression,
    Repair,
)
from billhook.repair.repairer import Repairer
from billhook.repair.sweep import sweep
from billhook.search.scoring import score
from billhook.testing import cut_sequences, tiny_tokens, tiny_view
from billhook.testing.conformance.expect import logits
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.refit import Refit
from billhook_strategies.objectives.kl_divergence import KLDivergence

TOKENS = tiny_tokens(12, 12, padding="both")
REPAIRER = Repairer(Ridge(strength=0.01), Refit())
ADAPTERS = [a for a in some() if a.why_not_foldable("mlp") is None]


def state_of(view: ModelView, cuts: tuple[Cut, ...] = (), *, held_out: float = 0.0, host: int = 10**8) -> PruningState:
    state = PruningState(
        view,
        TOKENS,
        merger=REPAIRER.merger,
        objective=KLDivergence(),
        cache=CacheBudget(host=host),
        tokens_per_batch=36,
        repair=Repair(held_out=held_out),
    )
    for cut in cuts:
        state.merger.merge(state.model, cut, None)
        state.record(cut)
    return state


def cuts_for(view: ModelView) -> tuple[Cut, ...]:
    cuts: list[Cut] = [DropBranch(3, "attention"), KeepChannels(1, tuple(range(5)))]
    if view.adapter.why_not_narrowable(view.model.config, "attention") is None:
        cuts.append(KeepHeads(2, (1,)))
    return tuple(cuts)


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_model_that_has_lost_nothing_stays_as_it_is(adapter: Adapter) -> None:
    state = state_of(tiny_view(adapter))
    before = logits(state.model.model, TOKENS.batches()[0])
    sweep(state, REPAIRER, state.model.branches())
    # toward the present weights, from activations that are right up to float32
    torch.testing.assert_close(logits(state.model.model, TOKENS.batches()[0]), before, rtol=1e-3, atol=1e-3)
    state.close()


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_cut_model_comes_nearer_to_the_dense_one(adapter: Adapter) -> None:
    view = tiny_view(adapter, num_hidden_layers=5)
    state = state_of(view, cuts_for(view))
    before = score(state, KLDivergence())
    reports = sweep(state, REPAIRER, state.model.branches())
    assert score(state, KLDivergence()) < before
    assert len(reports) == len(state.model.branches())
    state.close()


@settings(max_examples=8)
@given(data=st.data())
def test_what_the_cache_can_hold_does_not_matter(data: st.DataObject) -> None:
    view = tiny_view(num_hidden_layers=4)
    cuts = data.draw(cut_sequences(view, longest=3))
    found = []
    for host in (10**8, 6000, 0):
        state = state_of(view, cuts, host=host)
        sweep(state, REPAIRER, state.model.branches())
        found.append(logits(state.model.model, TOKENS.batches()[0]))
        state.close()
    for other in found[1:]:
        assert torch.equal(found[0], other)


def test_the_cache_is_left_as_it_was() -> None:
    view = tiny_view()
    state = state_of(view, (DropBranch(1, "mlp"),))
    sweep(state, REPAIRER, state.model.branches())
    assert not any(key[0] == "present stream" for key in state.cache._tensors)
    state.close()


def test_every_layer_runs_a_few_times_whatever_the_number_of_branches() -> None:
    work = []
    for layers in (4, 8):
        view = tiny_view(num_hidden_layers=layers)
        state = state_of(view, (DropBranch(0, "mlp"),))
        sweep(state, REPAIRER, state.model.branches())
        work.append(state.flow.runner.layer_tokens / TOKENS.ids.numel() / layers)
        state.close()
    # of the present model once for each writer and once to go on; of the dense one once or twice
    assert max(work) <= 5.1
    assert work[1] == pytest.approx(work[0], rel=0.1)


@attrs.frozen
class Harmful(Estimator):
    """Makes everything five times as large."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(5 * regression.prior)


def test_writers_that_do_not_help_on_held_out_tokens_stay() -> None:
    view = tiny_view()
    state = state_of(view, (DropBranch(1, "mlp"),), held_out=0.25)
    before = logits(state.model.model, TOKENS.batches()[0])
    reports = sweep(state, Repairer(Harmful(), Refit()), state.model.branches())
    assert not any(report.helps for report in reports)
    assert torch.equal(logits(state.model.model, TOKENS.batches()[0]), before)
    state.close()


def test_a_sweep_may_also_fold_maps() -> None:
    view = tiny_view(num_hidden_layers=5)
    state = state_of(view, cuts_for(view))
    before = score(state, KLDivergence())
    sweep(state, Repairer(Ridge(), Fold()), state.model.branches())
    assert score(state, KLDivergence()) < before
    state.close()
