"""PruneResult: what a run hands back; saving is tested with the checkpoints."""

from __future__ import annotations

import attrs
import pytest

from billhook import Budget, Pruner
from billhook.testing import tiny_model, tiny_tokens

RESULT = Pruner.following("replaceme-ls", estimator="identity").prune(
    tiny_model(num_hidden_layers=5), calibration=tiny_tokens(), budget=Budget(layers=2)
)


def test_it_prints_its_plan_and_what_it_saved() -> None:
    before, after = (int(RESULT.metrics[f"parameters_{when}"]) for when in ("before", "after"))
    assert str(RESULT) == f"{RESULT.plan}\n  parameters {before:,} -> {after:,} (-{1 - after / before:.1%})"


def test_it_is_frozen_and_compares_by_identity() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RESULT.metrics = {}  # type: ignore[misc] # wrong on purpose
    assert attrs.evolve(RESULT) != RESULT
