"""Curvature: widths chosen together, by what the loss is to rise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from billhook import (
    Budget,
    Cut,
    DropBranch,
    KeepChannels,
    Pruner,
    PruneResult,
    PruningState,
    Repair,
    hookimpl,
)
from billhook.errors import InvalidConfig
from billhook.measures import passes
from billhook.measures.curvature import measure_curvature
from billhook.model.writer import replace_weight, weight_rows
from billhook.testing import tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.selectors.curvature import Curvature


def prune(ratio: float, selector: Curvature | None = None, **options: Any) -> PruneResult:
    options = {"estimator": "identity", **options}
    pruner = Pruner.following("replaceme-ls", selector=selector or Curvature(multiple=1), **options)
    return pruner.prune(tiny_model(), calibration=tiny_tokens(rows=6), budget=Budget(parameters=ratio))


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("ratio", [0.05, 0.15, 0.3])
def test_the_budget_is_met_to_the_unit(ratio: float, heads: bool) -> None:
    result = prune(ratio, Curvature(multiple=1, most=0.9, heads=heads))
    wanted = ratio * result.metrics["parameters_before"]
    gone = result.metrics["parameters_before"] - result.metrics["parameters_after"]
    d_model = result.model.config.hidden_size
    group = 4 * d_model * d_model // 2  # queries, keys, values and writer, half of them at most
    assert wanted <= gone < wanted + (group if heads else 3 * d_model)


def test_widths_are_multiples_and_none_is_below_the_least() -> None:
    result = prune(0.15, Curvature(multiple=4, most=0.5))
    kept = [len(cut.kept) for cut in result.plan.cuts if isinstance(cut, KeepChannels)]
    width = tiny_view().model.config.intermediate_size
    assert all(count % 4 == 0 and count >= width / 2 for count in kept)


def test_a_layer_that_hardly_matters_loses_more_than_the_others() -> None:
    view = tiny_view()
    writer = view.writer(2, "mlp")
    replace_weight(writer, weight_rows(writer) * 1e-3, None)
    pruner = Pruner.following("replaceme-ls", selector=Curvature(multiple=1, most=0.9), estimator="identity")
    result = pruner.prune(view.model, calibration=tiny_tokens(rows=6), budget=Budget(parameters=0.15))
    kept = {cut.layer: len(cut.kept) for cut in result.plan.cuts if isinstance(cut, KeepChannels)}
    assert min(kept, key=lambda layer: kept[layer]) == 2
    # as narrow as it may get, to rounding
    assert kept[2] == max(1, round(view.model.config.intermediate_size * 0.1))


def test_those_go_whose_loss_in_the_metric_is_least() -> None:
    """One channel of one layer, against the definition."""
    view = tiny_view(num_hidden_layers=1, intermediate_size=12)
    state = PruningState(view, tiny_tokens(rows=6), merger=Fold())
    (cut,) = Curvature(multiple=1, ridge=0.05).select(state, Budget(parameters=1e-4))
    assert isinstance(cut, KeepChannels)
    found = dict(measure_curvature(state, [(0, "mlp")]))[0, "mlp"]
    gram = found.inner + 0.05 * found.inner.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    rows = weight_rows(view.writer(0, "mlp")).double()

    def rise(gone: int) -> float:
        keep = [c for c in range(12) if c != gone]
        full = torch.zeros_like(rows)
        full[keep] = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ rows)
        off = full - rows
        return float((found.outer @ off.T @ gram @ off).trace())

    assert set(range(12)) - set(cut.kept) == {min(range(12), key=rise)}
    state.close()


def test_uniform_widths_make_a_stock_model() -> None:
    result = prune(0.2, Curvature(multiple=2, uniform=True))
    model, dense = result.model, tiny_model()
    (width,) = {len(cut.kept) for cut in result.plan.cuts if isinstance(cut, KeepChannels)}
    assert (model.config.model_type, model.config.intermediate_size) == (dense.config.model_type, width)
    wider = (width + 2) * 3 * dense.config.hidden_size * dense.config.num_hidden_layers
    mlps = dense.config.intermediate_size * 3 * dense.config.hidden_size * dense.config.num_hidden_layers
    assert result.metrics["ratio"] >= 0.2 > (mlps - wider) / result.metrics["parameters_before"]


def test_heads_and_whole_attentions_may_go_as_well() -> None:
    cuts = prune(0.5, Curvature(multiple=1, most=0.5, heads=True)).plan.cuts
    assert {type(cut) for cut in cuts} >= {KeepChannels, DropBranch}
    assert len({(cut.layer, cut.branch) for cut in cuts}) == len(cuts)  # type: ignore[attr-defined] # each has both


def test_memory_for_one_writer_at_a_time_gives_the_same_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prune(0.2).plan.cuts
    monkeypatch.setattr(passes, "GRAM_BYTES", 1)
    assert prune(0.2).plan.cuts == whole


def test_repaired_at_the_end_it_is_nearer_to_the_dense_model() -> None:
    data = tiny_tokens(rows=40, seq=16)
    options: dict[str, Any] = {"calibration": data, "budget": Budget(parameters=0.2)}
    selector = Curvature(multiple=1)
    plain = Pruner.following("replaceme-ls", selector=selector, estimator="identity", objective="kl").prune(
        tiny_model(), **options
    )
    repair = Repair(when="final", held_out=0.1)
    mended = Pruner.following(
        "replaceme-ls", selector=selector, estimator="ridge", merger="refit", objective="kl", repair=repair
    )
    assert mended.prune(tiny_model(), **options).metrics["objective_after"] < plain.metrics["objective_after"]


def test_a_veto_leaves_its_layer_alone() -> None:
    class Guard:
        @hookimpl
        def billhook_before_cut(self, state: PruningState, cut: Cut) -> str | None:
            return "mine" if isinstance(cut, KeepChannels) and cut.layer == 0 else None

    result = prune(0.3, hooks=[Guard()])
    assert all(cut.layer for cut in result.plan.cuts if isinstance(cut, KeepChannels))
    assert result.metrics["ratio"] < 0.3


def test_what_may_not_go_is_refused_before_any_work() -> None:
    with pytest.raises(InvalidConfig, match=r"cannot be met: [\d,]+ more parameters are to go, and all"):
        prune(0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 0}, "'tokens' of Curvature must be at least 1; got 0"),
        ({"ridge": 0.0}, r"'ridge' of Curvature must be above 0 and finite; got 0\.0"),
        ({"multiple": 0}, "'multiple' of Curvature must be at least 1; got 0"),
        ({"heads": True, "uniform": True}, "takes channels only. Leave 'heads' out"),
        ({"most": 1.0}, r"'most' of Curvature must lie between 0 and 1; got 1\.0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Curvature(**options)
