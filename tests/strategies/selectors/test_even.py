"""Even: as many channels in every layer, the ones whose loss is least once the writer is solved anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from billhook import (
    Budget,
    KeepChannels,
    ModelView,
    Pruner,
    PruneResult,
    PruningState,
    Repair,
    default_registry,
    hookimpl,
)
from billhook.errors import InvalidConfig
from billhook.measures.unit_scores import InnerStatistics, measure_inner, obs
from billhook.testing import tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.selectors import even
from billhook_strategies.selectors.even import Even


def prune(model: PreTrainedModel, ratio: float, selector: Even | None = None, **options: Any) -> PruneResult:
    options = {"estimator": "identity", **options}
    pruner = Pruner.following("replaceme-ls", selector=selector or Even(multiple=1), **options)
    return pruner.prune(model, calibration=tiny_tokens(rows=6), budget=Budget(parameters=ratio))


def widths(model: PreTrainedModel) -> set[int]:
    view = ModelView(model, default_registry().adapter_for(model.config.model_type))
    return {len(view.units(number, "mlp")) for number in view.numbers}


@pytest.mark.parametrize("multiple", [1, 3, 8])
def test_all_layers_keep_one_width_and_no_more_goes_than_must(multiple: int) -> None:
    model = tiny_model(intermediate_size=48)
    result = prune(model, 0.1, Even(multiple=multiple))
    (width,) = widths(result.model)
    assert (width % multiple, result.model.config.intermediate_size) == (0, width)
    layers, d_model = model.config.num_hidden_layers, model.config.hidden_size
    wanted = 0.1 * sum(p.numel() for p in model.parameters())
    gone = [layers * 3 * d_model * (48 - left) for left in (width, width + multiple)]
    assert gone[0] >= wanted > gone[1]


def test_those_go_that_the_others_make_up_for_best() -> None:
    """The first to go, against the definition: the squared error of the best writer on the other channels."""
    view = tiny_view(num_hidden_layers=2, intermediate_size=12)
    state = PruningState(view, tiny_tokens(rows=6), merger=Fold())
    inner = measure_inner(state, "mlp", whole=True)[1]
    (cut, *_) = Even(multiple=11).select(state, Budget(parameters=1e-4))
    assert isinstance(cut, KeepChannels)
    rows = view.writer(1, "mlp").weight.detach().double().T  # type: ignore[operator]
    ridge = 1e-2 * inner.second.diagonal().mean()
    gram = inner.second + ridge * torch.eye(12, dtype=torch.float64)

    def error(gone: int) -> float:
        keep = [c for c in range(12) if c != gone]
        best = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ rows)
        full = torch.zeros_like(rows)
        full[keep] = best
        return float(((full - rows).T @ gram @ (full - rows)).trace())

    assert set(range(12)) - set(cut.kept) == {min(range(12), key=error)}


def test_the_statistics_are_the_dense_models_however_many_layers_a_pass_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    whole = prune(model, 0.1).plan.cuts
    assert [cut.layer for cut in whole if isinstance(cut, KeepChannels)] == [*range(model.config.num_hidden_layers)][
        ::-1
    ]
    monkeypatch.setattr(even, "GRAM_BYTES", 1)
    assert prune(model, 0.1).plan.cuts == whole


def test_repaired_at_the_end_it_is_nearer_to_the_dense_model() -> None:
    model, data = tiny_model(), tiny_tokens(rows=40, seq=16)
    options: dict[str, Any] = {"calibration": data, "budget": Budget(parameters=0.2)}
    selector = Even(multiple=1)
    plain = Pruner.following("replaceme-ls", selector=selector, estimator="identity", objective="kl").prune(
        model, **options
    )
    repair = Repair(when="final", held_out=0.1)
    mended = Pruner.following(
        "replaceme-ls", selector=selector, estimator="ridge", merger="refit", objective="kl", repair=repair
    )
    assert mended.prune(model, **options).metrics["objective_after"] < plain.metrics["objective_after"]


@pytest.mark.parametrize("score", ["weight-l1", "wanda", "activation", "fluctuation"])
def test_any_score_ranks_the_channels(score: Any) -> None:
    assert prune(tiny_model(), 0.1, Even(score=score, multiple=2)).metrics["ratio"] >= 0.1


def test_a_veto_leaves_its_layer_alone_and_says_what_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    class Guard:
        @hookimpl
        def billhook_before_cut(self, state: PruningState, cut: KeepChannels) -> str | None:
            return "mine" if cut.layer == 0 else None

    result = prune(tiny_model(), 0.1, hooks=[Guard()])
    assert all(cut.layer for cut in result.plan.cuts if isinstance(cut, KeepChannels))
    assert result.metrics["ratio"] < 0.1


def test_what_the_mlps_do_not_have_is_refused_before_any_work() -> None:
    with pytest.raises(InvalidConfig, match=r"cannot be met: [\d,]+ more parameters are to go, and all"):
        prune(tiny_model(), 0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multiple": 0}, "'multiple' of Even must be at least 1; got 0"),
        ({"score": "size"}, "'score' of Even must be one of weight-l1, .*, obs; got 'size'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Even(**options)


def test_obs_statistics_are_those_of_the_scores() -> None:
    view = tiny_view()
    second = torch.eye(len(view.units(0, "mlp")), dtype=torch.float64)
    ranked = obs(view, 0, "mlp", InnerStatistics(second, second[0]))
    rows = view.writer(0, "mlp").weight.detach().double().square().sum(0)  # type: ignore[operator]
    assert ranked.argsort().tolist() == rows.argsort().tolist()
