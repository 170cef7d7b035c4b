"""LeastSquares, end to end: streamed through a real model, against lstsq on activations that plain hooks saw."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import planted_problems, spans, tiny_models
from tests.strategies.mergers.test_fold import view_of
from tests.strategies.observing import own_mlp_addition, own_streams
from torch import Tensor
from transformers import PreTrainedModel

from billhook import (
    Budget,
    CacheBudget,
    DropLayers,
    Estimator,
    ModelView,
    Pruner,
    PruningState,
    TensorRegression,
    Tokens,
)
from billhook.errors import SingularProblem
from billhook.repair.streamed_regression import StreamedRegression
from billhook.testing import PlantedProblem, planted_problem, random_map, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.selectors.fixed_windows import FixedWindows

NO_CACHE = CacheBudget(device=0, host=0, disk=0)


def lstsq(x: Tensor, residual: Tensor) -> Tensor:
    return cast(Tensor, torch.linalg.lstsq(x, residual, driver="gelsd").solution)


def expected(dense: ModelView, present: ModelView, cut: DropLayers, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Regressor and residual target of ``cut``, from whole forwards of both models."""
    before = [n for n in present.numbers if n < cut.start]
    donor = before[-1]
    x = own_mlp_addition(present, donor, tokens)
    leaving = own_streams(present, tokens)[present.numbers.index(donor) + 1]
    target = own_streams(dense, tokens)[cut.stop]
    return x, target - (leaving - x)


def estimated(state: PruningState, cut: DropLayers, estimator: Estimator | None = None) -> Tensor:
    site = cut.repair_site(state.model)
    assert site is not None
    found = (estimator or LeastSquares()).estimate(StreamedRegression(state, site, keep_rows=False))
    assert found is not None
    return found.weight


def close_in_effect(x: Tensor, found: Tensor, wanted: Tensor) -> None:
    """Compare what two maps do to the data: entries themselves may be ill-conditioned where float32 streams are not."""
    reached = x @ wanted
    # float32 activations of a few layers are good to about 1e-5 of the largest; the solve is float64
    torch.testing.assert_close(x @ found, reached, rtol=0, atol=1e-3 * float(reached.abs().max()))


@given(st.data())
def test_streamed_least_squares_is_lstsq_on_the_concatenated_activations(data: st.DataObject) -> None:
    view = view_of(data.draw(tiny_models()))
    cut = DropLayers(*data.draw(spans(len(view.numbers))))
    tokens = tiny_tokens(rows=9, padding=data.draw(st.sampled_from(["none", "left", "right", "both"])))
    cache = data.draw(st.sampled_from([None, NO_CACHE]))
    state = PruningState(view, tokens, merger=Fold(), tokens_per_batch=24, cache=cache)
    assert len(state.flow.batches) > 1
    x, residual = expected(view, view, cut, tokens)
    close_in_effect(x, estimated(state, cut), lstsq(x, residual))
    state.close()


@pytest.mark.parametrize("model_type", ["llama", "granite", "falcon", "gpt2", "opt", "gemma2"])
def test_in_float64_the_entries_of_the_map_agree_too(model_type: str) -> None:
    view, tokens, cut = tiny_view(model_type, dtype=torch.float64), tiny_tokens(rows=20), DropLayers(1, 3)
    state = PruningState(view, tokens, merger=Fold(), tokens_per_batch=24)
    x, residual = expected(view, view, cut, tokens)
    # rows are handed over in float32 whatever the model's dtype
    torch.testing.assert_close(estimated(state, cut), lstsq(x, residual), rtol=1e-3, atol=1e-3)
    state.close()


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "granite"])
@pytest.mark.parametrize("second", [DropLayers(3, 5), DropLayers(2, 4), DropLayers(5, 6)])
def test_a_second_repair_reads_the_cut_model_and_aims_at_the_dense_one(model_type: str, second: DropLayers) -> None:
    view, tokens = tiny_view(model_type, num_hidden_layers=6), tiny_tokens(rows=9, padding="both")
    state = PruningState(view, tokens, merger=Fold(), tokens_per_batch=24)
    first = DropLayers(1, 2)
    x, residual = expected(view, view, first, tokens)
    state.merger.merge(state.model, first, LeastSquares().estimate(TensorRegression(x, residual)))
    state.record(first)

    x, residual = expected(view, state.model, second, tokens)

    close_in_effect(x, estimated(state, second), lstsq(x, residual))
    state.close()


@given(model=tiny_models(layers=st.just(5)), seed=st.integers(0, 9))
def test_the_repaired_model_comes_nearer_to_the_dense_streams_than_any_other_map(
    model: PreTrainedModel, seed: int
) -> None:
    cut, tokens = DropLayers(2, 4), tiny_tokens(rows=9, seed=seed)
    pruner = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((2, 4),)), merger=Insert())
    repaired = view_of(pruner.prune(model, calibration=tokens, budget=Budget(layers=2)).model)
    target = own_streams(view_of(model), tokens)[cut.stop]
    error = (own_streams(repaired, tokens)[2] - target).square().sum()
    for other in (torch.eye(16, dtype=torch.float64), random_map(16, seed=seed).weight):
        x, residual = expected(view_of(model), view_of(model), cut, tokens)
        # float32 streams
        assert float(error) <= float((x @ other - residual).square().sum()) * (1 + 1e-4)


@given(problem=planted_problems())
def test_a_planted_map_is_recovered(problem: PlantedProblem) -> None:
    found = LeastSquares().estimate(problem.regression)
    torch.testing.assert_close(found.weight, problem.truth.weight, rtol=1e-8, atol=1e-8)  # float64


@given(problem=planted_problems(bias=True, square=False))
def test_a_planted_map_with_bias_is_recovered_between_any_widths(problem: PlantedProblem) -> None:
    found = LeastSquares(bias=True).estimate(problem.regression)
    assert found.bias is not None
    assert problem.truth.bias is not None
    torch.testing.assert_close(found.weight, problem.truth.weight, rtol=1e-8, atol=1e-8)  # float64
    torch.testing.assert_close(found.bias, problem.truth.bias, rtol=1e-8, atol=1e-8)


def test_fewer_tokens_than_columns_end_a_run_and_leave_the_model_alone() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(SingularProblem, match=r"10 calibration tokens cannot determine a map of 16 columns.*'ridge'"):
        Pruner.following("replaceme-ls").prune(model, calibration=tiny_tokens(rows=2, seq=5), budget=Budget(layers=2))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert model.config.num_hidden_layers == 4


def test_a_dead_column_is_reported_with_the_cut() -> None:
    model = tiny_model("opt")
    with torch.no_grad():
        writer = view_of(model).writer(0, "mlp")
        for parameter in writer.parameters():
            parameter[5] = 0  # the MLP of layer 0 never writes to channel 5
    pruner = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((1, 2),)))
    result = pruner.prune(model, calibration=tiny_tokens(rows=9), budget=Budget(layers=1))
    assert "leave 1 directions of the regressor undetermined" in result.reports[0].notes[0]


def test_a_bias_is_fitted_where_it_is_asked_for() -> None:
    problem = planted_problem(bias=True)
    assert LeastSquares().estimate(problem.regression).bias is None
    assert LeastSquares(bias=True).estimate(problem.regression).bias is not None
