"""Sweeps: every writer, and if wanted every reader, solved anew toward the dense model, in the order of the stream."""

from __future__ import annotations

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.framework.repair.naive_repair import naive_map
from torch import Tensor, nn

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
    Rows,
    default_registry,
)
from billhook.model.branch import Branch
from billhook.model.writer import bias_of, weight_rows
from billhook.repair.repairer import Repairer
from billhook.repair.sweep import sweep
from billhook.search.scoring import score
from billhook.testing import cut_sequences, tiny_tokens, tiny_view
from billhook.testing.expect import logits
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.refit import Refit
from billhook_strategies.objectives.kl_divergence import KLDivergence

TOKENS = tiny_tokens(12, 12, padding="both")
REPAIRER = Repairer(Ridge(strength=0.01), Refit())
ADAPTERS = [a for a in default_registry().adapters() if a.why_not_foldable("mlp") is None]


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


@pytest.mark.parametrize("readers", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_model_that_has_lost_nothing_stays_as_it_is(adapter: Adapter, readers: bool) -> None:
    state = state_of(tiny_view(adapter))
    before = logits(state.model.model, TOKENS.batches()[0])
    sweep(state, REPAIRER, state.model.branches(), readers=readers)
    # toward the present weights, from activations that are right up to float32
    torch.testing.assert_close(logits(state.model.model, TOKENS.batches()[0]), before, rtol=1e-3, atol=1e-3)
    state.close()


@pytest.mark.parametrize("readers", [False, True])
@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
def test_a_cut_model_comes_nearer_to_the_dense_one(adapter: Adapter, readers: bool) -> None:
    view = tiny_view(adapter, num_hidden_layers=5)
    state = state_of(view, cuts_for(view))
    before = score(state, KLDivergence())
    reports = sweep(state, REPAIRER, state.model.branches(), readers=readers)
    assert score(state, KLDivergence()) < before
    assert len(reports) == len(state.model.branches()) * (2 if readers else 1)
    state.close()


@pytest.mark.parametrize("readers", [False, True])
@settings(max_examples=8)
@given(data=st.data())
def test_what_the_cache_can_hold_does_not_matter(readers: bool, data: st.DataObject) -> None:
    view = tiny_view(num_hidden_layers=4)
    cuts = data.draw(cut_sequences(view, longest=3))
    found = []
    for host in (10**8, 6000, 0):
        state = state_of(view, cuts, host=host)
        sweep(state, REPAIRER, state.model.branches(), readers=readers)
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


@torch.no_grad()
def inputs_and_outputs(view: ModelView, number: int, branch: Branch) -> dict[str, tuple[Tensor, Tensor]]:
    """By path of a reader, what it reads and gives for the real tokens, float64."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for path in view.adapter.layout(branch).readers:

        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor, path: str = path) -> None:
            shape = (*TOKENS.ids.shape, -1)
            found[path] = (args[0].reshape(shape)[TOKENS.keep].double(), output.reshape(shape)[TOKENS.keep].double())

        handles.append(view.layer(number).get_submodule(path).register_forward_hook(hook))
    view.model(input_ids=TOKENS.ids, attention_mask=TOKENS.keep.long(), use_cache=False)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(("branch", "kept"), [("mlp", (0, 2, 3, 9)), ("attention", (1,))])
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "gpt_neox"])
def test_readers_become_what_a_plain_solver_finds(family: str, branch: Branch, kept: tuple[int, ...]) -> None:
    dense = tiny_view(family)
    cut = KeepChannels(2, kept) if branch == "mlp" else KeepHeads(2, kept)
    state = state_of(dense, (DropBranch(1, "mlp"), cut))
    present = state.model.copy()
    alone = dense.copy()  # the dense readers of the units that are left
    cut.remove_from(alone)
    sweep(state, REPAIRER, [(2, branch)], readers=True)
    read, given_ = inputs_and_outputs(present, 2, branch), inputs_and_outputs(alone, 2, branch)
    for path, (x, _) in read.items():
        reader = present.layer(2).get_submodule(path)
        bias = bias_of(alone.layer(2).get_submodule(path))
        wanted = given_[path][1] - (0 if bias is None else bias.double())
        solution = naive_map(Rows(x, wanted, torch.zeros_like(wanted)), 0.01, weight_rows(reader).double())
        found = weight_rows(state.model.layer(2).get_submodule(path)).double()
        torch.testing.assert_close(found, solution, rtol=1e-3, atol=1e-4)  # float32 activations, a ridge of 1 %
    state.close()


@attrs.frozen
class Harmful(Estimator):
    """Makes everything five times as large."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(5 * regression.prior)


def test_readers_that_do_not_help_on_held_out_tokens_stay() -> None:
    view = tiny_view()
    state = state_of(view, (DropBranch(1, "mlp"),), held_out=0.25)
    before = logits(state.model.model, TOKENS.batches()[0])
    reports = sweep(state, Repairer(Harmful(), Refit()), state.model.branches(), readers=True)
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
