"""Objective: what is promised of one that overrides nothing but the loss."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest
import torch

from billhook import Objective, Predictions


@attrs.frozen
class Count(Objective):
    """Tokens."""

    def loss(self, predictions: Predictions) -> float:
        """One for each."""
        return float(len(predictions.labels))


def test_the_mean_is_reported_as_it_is() -> None:
    assert Count().value(2.5) == 2.5


def test_a_loss_is_taken_to_be_never_negative_and_to_compare_nothing() -> None:
    assert Count.nonnegative
    assert not Count.compares


def test_without_a_loss_there_is_no_objective() -> None:
    abstract = cast(Any, Objective)
    with pytest.raises(TypeError, match=r"abstract method '?loss'?"):
        abstract()


def test_predictions_are_told_apart_by_identity() -> None:
    """Comparing their tensors would give a tensor."""
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)
    one, other = (Predictions(logits, labels, lambda: logits) for _ in range(2))
    assert one != other
