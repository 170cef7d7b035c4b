"""Merger: how a cut is made is the same for all; only where a map is put is the merger's own."""

from __future__ import annotations

import pytest
import torch

from billhook import DropLayers, LinearMap, Merger
from billhook.errors import CannotMerge, PluginError, ShapeMismatch
from billhook.testing import random_map, tiny_view
from billhook.testing.conformance.expect import Snapshot
from billhook_strategies.mergers.fold import Fold


@pytest.mark.parametrize("name", ["merge", "merge_placed"])
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
