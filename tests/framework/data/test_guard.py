"""The guard's text is looked at as the calibration's is."""

from __future__ import annotations

from typing import Any

import pytest

import billhook
from billhook import Budget, Calibration, Pruner
from billhook.errors import CalibrationError
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens

SAID = r"The tokenizer makes the id 64 \('<\|im_start\|>'\), but the model has 64 embeddings"


def adding() -> Any:
    """A tokenizer with a token more than the model has."""
    tokenizer: Any = tiny_tokenizer(64)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return tokenizer


def test_ids_that_the_model_does_not_have_are_refused_in_the_guards_text_too() -> None:
    calibration = Calibration(source=tiny_tokens(), guard=["<|im_start|>hello " * 100])
    with pytest.raises(CalibrationError, match=SAID):
        Pruner(progress=False).prune(tiny_model(), adding(), calibration=calibration, budget=Budget(parameters=0.1))


def test_analyze_names_their_token_as_well() -> None:
    data = Calibration(source=["<|im_start|>hello " * 100], samples=4, seqlen=32)
    with pytest.raises(CalibrationError, match=SAID):
        billhook.analyze(tiny_model(), adding(), calibration=data)
