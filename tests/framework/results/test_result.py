"""PruneResult: what a run hands back; saving is tested with the checkpoints."""

from __future__ import annotations

import json

import attrs
import pytest

from billhook import Budget, Pruner
from billhook.testing import tiny_model, tiny_tokens

RESULT = Pruner.following("replaceme-ls", estimator="identity").prune(
    tiny_model(num_hidden_layers=5), calibration=tiny_tokens(), budget=Budget(layers=2)
)


def test_it_prints_its_plan_and_what_it_saved() -> None:
    before, after = (int(RESULT.metrics[f"parameters_{when}"]) for when in ("before", "after"))
    assert str(RESULT).startswith(f"{RESULT.plan}\n  parameters {before:,} -> {after:,} (-{1 - after / before:.1%})\n")


def test_it_prints_how_well_each_cut_was_repaired_and_how_long_it_took() -> None:
    repaired = Pruner.following("replaceme-ls").prune(
        tiny_model(num_hidden_layers=5), calibration=tiny_tokens(8, 12), budget=Budget(layers=2)
    )
    report = repaired.reports[0]
    for figure in (report.r_squared, report.cosine_before, report.cosine_after):
        assert f"{figure:.4g}" in str(repaired)
        assert f"{figure:.4g}" in repaired._repr_html_()
    assert f"seconds   {repaired.metrics['seconds_total']:.1f}" in str(repaired)
    assert repaired.table().rows[0]["r_squared"] == report.r_squared


def test_its_repr_is_one_line_and_no_module_tree() -> None:
    assert repr(RESULT).startswith("<PruneResult: llama, ")
    assert "\n" not in repr(RESULT)


def test_it_goes_to_json_values() -> None:
    data = json.loads(json.dumps(RESULT.to_dict(), allow_nan=False))
    assert data["plan"] == json.loads(RESULT.plan.to_json()) == RESULT.plan.to_dict()
    assert data["metrics"]["parameters_after"] == RESULT.metrics["parameters_after"]
    assert data["reports"][0]["cut"] == data["plan"]["cuts"][0]
    assert data["reports"][0]["r_squared"] is None  # nothing was repaired


def test_it_is_frozen_and_compares_by_identity() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RESULT.metrics = {}  # type: ignore[misc] # wrong on purpose
    assert attrs.evolve(RESULT) != RESULT
