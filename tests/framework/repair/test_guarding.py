"""The guard: repairs are checked on text of another kind, and do no harm there."""

from __future__ import annotations

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families import some
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax
from transformers import PreTrainedModel

from billhook import (
    Budget,
    Calibration,
    DropBranch,
    KeepChannels,
    LinearMap,
    Plan,
    Pruner,
    PruneResult,
    PruningState,
    Repair,
    Rows,
    TensorRegression,
    Tokens,
    apply,
)
from billhook.errors import CalibrationError
from billhook.pruning.applying import Planned
from billhook.repair.divergence import divergences
from billhook.repair.guarding import guarded, undone_if_harmful
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.refit import Refit

CUTS = (DropBranch(4, "mlp"), KeepChannels(2, (0, 3, 4, 5, 6)), DropBranch(3, "attention"))
ALIKE = Tokens.from_batches(torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8, 5, 6]] * 6))
"""Six rows that are one: what is learnt from them holds nowhere else."""
OTHER = tiny_tokens(6, 10, seed=3)


def problem(seed: int, away: float) -> tuple[TensorRegression, Tensor]:
    """A regression whose guard wants another map: the one that is fitted, turned by ``away`` toward a random one."""
    generator = torch.Generator().manual_seed(seed)
    x, seen = (torch.randn(200, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    fitted, other = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    prior = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    wanted = (1 - away) * fitted + away * other
    rows = Rows(seen, seen @ wanted, torch.zeros(200, 3, dtype=torch.float64))
    return TensorRegression(x, x @ fitted, prior=prior, guard=rows), fitted


@given(seed=st.integers(0, 1000), away=st.floats(0, 3))
def test_no_map_does_harm_on_the_guards_rows(seed: int, away: float) -> None:
    regression, _ = problem(seed, away)
    found = LeastSquares().estimate(regression)
    kept = guarded(regression, found)
    guard = regression.guard()
    assert guard is not None
    nothing = guard.squared_error(LinearMap(regression.prior))
    if guard.squared_error(found) <= nothing:
        assert kept is found
    elif kept is not None:
        assert guard.squared_error(kept) < nothing


@pytest.mark.parametrize("seed", range(5))
def test_a_harmful_map_goes_as_far_as_serves_best(seed: int) -> None:
    regression, fitted = problem(seed, away=1.0)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    prior = regression.prior
    # the guard wants a fifth of the way: all of it is 16 times as far from there as nothing
    rows = Rows(x, x @ (prior + 0.2 * (fitted - prior)), torch.zeros(200, 3, dtype=torch.float64))
    regression = TensorRegression(x, x @ fitted, prior=prior, guard=rows)
    kept = guarded(regression, LinearMap(fitted, notes=("mine",)))
    assert kept is not None
    torch.testing.assert_close(kept.weight, prior + 0.2 * (fitted - prior))
    assert kept.notes == ("mine", "shrunk: whole, it would do harm on text of another kind")


def test_a_bias_is_shrunk_with_its_map() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior, bias = torch.zeros(4, 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    rows = Rows(x, torch.full((200, 3), 0.25, dtype=torch.float64), torch.zeros(200, 3, dtype=torch.float64))
    regression = TensorRegression(x, x @ prior + bias, prior=prior, guard=rows)
    kept = guarded(regression, LinearMap(prior, bias))
    assert kept is not None
    torch.testing.assert_close(kept.bias, bias / 4)


def test_a_map_that_leads_the_wrong_way_is_left_out() -> None:
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior, fitted = torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, 3, dtype=torch.float64)
    rows = Rows(x, -(x @ fitted), torch.zeros(200, 3, dtype=torch.float64))
    assert guarded(TensorRegression(x, x @ fitted, prior=prior, guard=rows), LinearMap(fitted)) is None


def test_without_a_guard_a_map_stays_what_it_is() -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    found = LinearMap(torch.ones(4, 4))
    assert guarded(TensorRegression(x, x), found) is found


def test_an_automatic_ridge_is_chosen_by_the_guard_as_well() -> None:
    regression, _ = problem(0, away=3.0)
    weak = TensorRegression(regression.all_rows.x, regression.all_rows.residual, prior=regression.prior, held_out=20)
    guard = Rows(weak.all_rows.x, weak.all_rows.x @ regression.prior, torch.zeros_like(weak.all_rows.residual))
    torn = TensorRegression(
        regression.all_rows.x, regression.all_rows.residual, prior=regression.prior, held_out=20, guard=guard
    )
    assert Ridge(strength="auto").estimate(weak).notes[-1] == "ridge 1e-05, chosen on held-out tokens"
    assert Ridge(strength="auto").estimate(torn).notes[-1] == "ridge 10, chosen on held-out tokens"


def prune(guard: object, share: float = 0.5, calibration: Tokens = ALIKE) -> PruneResult:
    repair = Repair(when="final", held_out=0.2, guard=share)
    pruner = Pruner.following(
        "replaceme-ls", selector=Planned(CUTS), estimator=Ridge(strength=1e-6), merger=Refit(), repair=repair
    )
    model = tiny_view(num_hidden_layers=6).model
    return pruner.prune(model, calibration=Calibration(source=calibration, guard=guard), budget=Budget(layers=1))


def divergence(pruned: PreTrainedModel, tokens: Tokens) -> float:
    """KL(dense ‖ pruned), by transformers alone."""
    dense = tiny_view(num_hidden_layers=6).model
    predicts = tokens.keep[:, :-1] & tokens.keep[:, 1:]
    with torch.no_grad():
        found, wanted = (
            log_softmax(model(tokens.ids, attention_mask=tokens.keep.long()).logits[:, :-1][predicts].double(), -1)
            for model in (pruned, dense)
        )
    return float(kl_div(found, wanted, reduction="batchmean", log_target=True))


def test_repairs_that_bring_the_model_further_from_the_dense_one_are_left_out() -> None:
    unguarded, kept = prune(OTHER, share=0.0), prune(OTHER)
    plain = attrs.evolve(unguarded.plan, repair=Repair())
    cut = apply(plain, tiny_view(num_hidden_layers=6).model, pruner=Pruner(estimator="identity"))
    assert divergence(unguarded.model, OTHER) > divergence(cut.model, OTHER)  # the text is bad, or this shows nothing
    assert divergence(kept.model, OTHER) <= divergence(cut.model, OTHER) * (1 + 1e-5)  # float32 logits


def test_the_run_says_how_far_the_result_is_from_the_dense_model_on_both_texts() -> None:
    result = prune(OTHER)
    guard = OTHER.some(3 * 10)
    assert result.metrics["kl_guard"] == pytest.approx(divergence(result.model, guard), rel=1e-3)  # float32 sums
    assert result.metrics["kl_held_out"] == pytest.approx(
        divergence(result.model, Tokens(ids=ALIKE.ids[:1], keep=ALIKE.keep[:1])), rel=1e-3
    )


def test_a_printed_result_says_so_too() -> None:
    result = prune(OTHER)
    held_out, other = (f"{result.metrics[name]:.3f}" for name in ("kl_held_out", "kl_guard"))
    said = (
        f"KL(dense, result) in nats per token: {held_out} on held-out calibration text, {other} on text of another kind"
    )
    assert said in str(result)


def test_a_run_without_a_guard_says_nothing_of_it() -> None:
    result = prune(OTHER, share=0.0)
    assert not {"kl_guard", "kl_held_out"} & set(result.metrics)
    assert result.plan.calibration.guard is None


def test_divergences_are_those_of_the_models_logits() -> None:
    dense = tiny_view(num_hidden_layers=6)
    state = PruningState(dense, OTHER, merger=Refit())
    cut = dense.copy()
    for each in CUTS:
        each.remove_from(cut)
    padded = tiny_tokens(4, 10, padding="both")
    expected = divergence(cut.model, padded)
    found = divergences(state, [dense, cut], padded.batches())
    assert found == [0.0, pytest.approx(expected, rel=1e-4)]  # float32 sums
    state.close()


def test_where_nothing_is_predicted_no_repair_is_undone() -> None:
    dense = tiny_view(num_hidden_layers=6)
    state = PruningState(dense, OTHER, merger=Refit(), guard=Tokens.from_batches(torch.tensor([[5], [6]])))
    assert not undone_if_harmful(state, dense.copy())
    state.close()


def test_a_guard_that_only_a_program_could_give_is_asked_for() -> None:
    data = Calibration(source=tiny_tokens(6, 10), guard=OTHER)
    made = Pruner(repair=Repair(when="final", held_out=0.2, guard=0.5)).prune(
        tiny_view(num_hidden_layers=6).model, calibration=data, budget=Budget(parameters=0.1)
    )
    without = attrs.evolve(data, guard=None)
    with pytest.raises(CalibrationError, match=r"say where it is \(Calibration\(guard=\.\.\.\), --guard\), or check"):
        apply(made.plan, tiny_view(num_hidden_layers=6).model, calibration=without)
    again = apply(made.plan, tiny_view(num_hidden_layers=6).model, calibration=data)
    for name, weight in made.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name
    other = apply(made.plan, tiny_view(num_hidden_layers=6).model, calibration=without, any_calibration=True)
    assert other.plan.calibration.guard is not None
    assert other.plan.calibration.guard.source == "self"


def test_the_guards_rows_change_neither_cuts_nor_the_calibrations_fingerprint() -> None:
    model, data = tiny_view(num_hidden_layers=6).model, Calibration(source=tiny_tokens(6, 10), guard=OTHER)
    one, other = (
        Pruner(repair=Repair(when="final", held_out=0.2, guard=share)).prune(
            model, calibration=data, budget=Budget(parameters=0.1)
        )
        for share in (0.0, 0.5)
    )
    assert one.plan.cuts == other.plan.cuts
    assert one.plan.calibration.fingerprint == other.plan.calibration.fingerprint


def test_the_model_writes_the_guards_text_and_the_plan_makes_the_same_weights_again() -> None:
    result = prune(None, calibration=tiny_tokens(6, 10))
    guard = result.plan.calibration.guard
    assert guard is not None
    assert (guard.source, guard.rows) == ("self", 3)
    again = apply(
        Plan.from_json(result.plan.to_json()),
        tiny_view(num_hidden_layers=6).model,
        calibration=Calibration(source=tiny_tokens(6, 10)),
    )
    assert again.plan == result.plan
    for name, weight in result.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


def test_where_the_model_wrote_the_calibration_text_the_guards_is_another_one() -> None:
    from billhook.testing import tiny_tokenizer

    model = tiny_view(num_hidden_layers=6).model
    pruner = Pruner.following("billhook", repair=Repair(when="final", held_out=0.2, guard=0.5))
    result = pruner.prune(
        model,
        tiny_tokenizer(),
        calibration=Calibration(source="self", samples=4, seqlen=16),
        budget=Budget(parameters=0.05),
    )
    assert result.plan.calibration.guard is not None
    assert result.plan.calibration.guard.source == "builtin"


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_every_adapter_is_guarded_like_the_others(seed: int) -> None:
    adapters = some()
    view = tiny_view(adapters[seed % len(adapters)])
    state = PruningState(view, ALIKE, merger=Refit(), guard=OTHER, tokens_per_batch=20)
    assert [len(batch.ids) for batch in state.flow.with_guard] == [2] * 6
    assert state.held_out_rows(3) is None
    state.close()
