"""Merger: how a cut is made is the same for all; only where a map is put is the merger's own."""

from __future__ import annotations

import attrs
import pytest
import torch

from billhook import (
    Budget,
    DropLayers,
    Estimator,
    LinearMap,
    Merger,
    ModelView,
    Pruner,
    Regression,
    Repair,
    weight_rows,
)
from billhook.errors import CannotMerge, PluginError, ShapeMismatch
from billhook.plans.repair import When
from billhook.testing import random_map, tiny_model, tiny_tokens, tiny_view
from billhook.testing.conformance.expect import Snapshot
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.mergers.refit import Refit


@pytest.mark.parametrize("name", ["merge", "merge_placed", "put_finite"])
def test_a_merger_that_makes_cuts_itself_is_refused_when_it_is_defined(name: str) -> None:
    with pytest.raises(PluginError, match=f"The merger Own has a {name} of its own.* Implement check_site and put"):
        type("Own", (Merger,), {name: lambda self, *args: None})


def test_merging_gives_the_view_a_model_of_its_own_and_leaves_the_one_before() -> None:
    view = tiny_view()
    dense = view.model
    Fold().merge(view, DropLayers(1, 2), random_map(view.d_model))
    assert view.model is not dense
    assert view.numbers == (0, 2, 3)
    assert len(dense.get_submodule("model.layers")) == 4  # type: ignore[arg-type] # it is a list
    writer = dense.get_submodule("model.layers.0.mlp.down_proj")
    assert view.writer(0, "mlp").weight is not writer.weight


@pytest.mark.parametrize(
    ("cut", "linear_map", "error"),
    [
        (DropLayers(0, 1), random_map(16), CannotMerge),
        (DropLayers(1, 2), LinearMap(torch.eye(5)), ShapeMismatch),
    ],
)
def test_a_refusal_leaves_the_view_as_it_was(cut: DropLayers, linear_map: LinearMap, error: type[Exception]) -> None:
    view = tiny_view()
    before, model = Snapshot(view), view.model
    with pytest.raises(error):
        Fold().merge(view, cut, linear_map)
    assert view.model is model
    before.require_same("a refusal", "it must change nothing")


MERGERS = pytest.mark.parametrize("merger", [Fold(), Insert(), Refit()], ids=lambda m: type(m).__name__)


def too_large(view: ModelView, merger: Merger, largest: float) -> LinearMap:
    """A map of the merger's shape whose weights are of that size."""
    rows = view.d_model if merger.regressor == "output" else weight_rows(view.writer(0, "mlp")).shape[0]
    return LinearMap(torch.full((rows, view.d_model), largest, dtype=torch.float64))


@MERGERS
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float16, 1e30), (torch.bfloat16, 1e300), (torch.float32, 1e300)])
def test_weights_that_overflow_are_refused_and_change_nothing(
    merger: Merger, dtype: torch.dtype, largest: float
) -> None:
    view = tiny_view(dtype=dtype)
    before, model = Snapshot(view), view.model
    expected = rf"^{type(merger).__name__}\(\) cannot put the map at layer 0 mlp: mlp\..* overflows in {dtype}\."
    with pytest.raises(CannotMerge, match=expected):
        merger.merge(view, DropLayers(1, 2), too_large(view, merger, largest))
    assert view.model is model
    before.require_same("a refusal", "it must change nothing")


@MERGERS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_that_fit_are_put(merger: Merger, dtype: torch.dtype) -> None:
    view = tiny_view(dtype=dtype)
    merger.merge(view, DropLayers(1, 2), too_large(view, merger, 1.0))
    assert view.numbers == (0, 2, 3)


@pytest.mark.parametrize("when", ["winner", "trial", "final"])
def test_a_run_whose_repair_overflows_ends_with_the_place(when: When) -> None:
    @attrs.frozen
    class Wild(Estimator):
        def estimate(self, regression: Regression) -> LinearMap:
            return LinearMap(torch.full((regression.d_in, regression.d_out), 1e30, dtype=torch.float64))

    model = tiny_model("llama", dtype=torch.float16)
    repair = Repair(when=when)
    pruner = Pruner(selector="block-pruner", estimator=Wild(), merger="fold", repair=repair)
    with pytest.raises(CannotMerge, match=r"Fold\(\) cannot put the map at layer \d .*overflows in torch.float16"):
        pruner.prune(model, calibration=tiny_tokens(), budget=Budget(parameters=0.1))
