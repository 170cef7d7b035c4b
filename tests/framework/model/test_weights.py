"""Models whose weights cannot be pruned are turned away with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.families import by_name
from transformers import BitsAndBytesConfig

from billhook import Adapter
from billhook.errors import UnusableModel
from billhook.model.weights import refuse_unusable
from billhook.testing import tiny_model


@by_name
def test_a_sound_model_is_let_pass(adapter: Adapter) -> None:
    refuse_unusable(tiny_model(adapter))


def hurt(value: float) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        with torch.no_grad():
            model.model.layers[2].mlp.down_proj.weight[3, 1] = value

    return change


def quantise(model: Any) -> None:
    model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)


def mark_quantised(model: Any) -> None:
    model.is_quantized = True


def offload(model: Any) -> None:
    model.model.layers[1].to(device="meta")


def store_as_integers(model: Any) -> None:
    model.model.norm.weight = torch.nn.Parameter(torch.ones(16, dtype=torch.int8), requires_grad=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (hurt(math.nan), r"Weight model\.layers\.2\.mlp\.down_proj\.weight holds NaN or infinite"),
        (hurt(math.inf), r"Weight model\.layers\.2\.mlp\.down_proj\.weight holds NaN or infinite"),
        (quantise, "This model is quantised.*prune it, and quantise the result"),
        (mark_quantised, "This model is quantised"),
        (offload, r"Weight model\.layers\.1\..* lies on the meta device"),
        (store_as_integers, r"Weight model\.norm\.weight is stored as torch\.int8"),
    ],
)
def test_a_model_that_cannot_be_pruned_is_turned_away_with_the_reason(
    change: Callable[[Any], None], message: str
) -> None:
    model = tiny_model()
    change(model)
    with pytest.raises(UnusableModel, match=message):
        refuse_unusable(model)
