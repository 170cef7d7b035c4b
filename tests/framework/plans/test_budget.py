"""Budgets: exactly one amount, inside its range, and the fewest layers that meet it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from billhook import Budget
from billhook.errors import InvalidConfig
from billhook.testing import tiny_view

LAYERS = 6
VIEW = tiny_view(num_hidden_layers=LAYERS)
PER_LAYER = sum(p.numel() for p in VIEW.layer(0).parameters())
ALL = sum(p.numel() for p in VIEW.model.parameters())


def fewest_not_below(count: int, amount: float) -> bool:
    """Up to the rounding of a float product."""
    return count - 1 < amount <= count * (1 + 1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of layers, parameters or bytes; got none of them"),
        ({"layers": 1, "bytes": 2}, "got layers and bytes"),
        ({"layers": 0}, "'layers' of Budget must be at least 1; got 0"),
        ({"parameters": 0.0}, r"must lie between 0 and 1; got 0\.0"),
        ({"parameters": 1.0}, r"must lie between 0 and 1; got 1\.0"),
        ({"parameters": float("nan")}, "must lie between 0 and 1; got nan"),
        ({"bytes": 0}, "'bytes' of Budget must be at least 1; got 0"),
        ({"layers": 1, "of": "mlp"}, "'of' of Budget must be 'all' or 'backbone'; got 'mlp'"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Budget(**arguments)


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(layers=8), "8 layers"),
        (Budget(parameters=0.25), "25.0% of all parameters"),
        (Budget(parameters=0.25, of="backbone"), "25.0% of backbone parameters"),
        (Budget(bytes=12345), "12,345 bytes"),
    ],
)
def test_a_budget_prints_as_one_would_say_it(budget: Budget, text: str) -> None:
    assert str(budget) == text


@given(share=st.floats(0.001, 0.999))
def test_a_share_of_all_counts_every_parameter_once(share: float) -> None:
    assert fewest_not_below(Budget(parameters=share).parameter_count(VIEW), share * ALL)


@given(share=st.floats(0.001, 0.999))
def test_a_share_of_the_backbone_counts_layers_alone(share: float) -> None:
    count = Budget(parameters=share, of="backbone").parameter_count(VIEW)
    assert fewest_not_below(count, share * LAYERS * PER_LAYER)


def test_tied_embeddings_count_once() -> None:
    tied, untied = (tiny_view(tie_word_embeddings=tie) for tie in (True, False))
    vocabulary = tied.model.config.vocab_size * tied.model.config.hidden_size
    assert untied.parameter_count - tied.parameter_count == vocabulary


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_bytes_are_those_of_the_models_own_dtype(dtype: torch.dtype, size: int) -> None:
    view = tiny_view(num_hidden_layers=LAYERS, dtype=dtype)
    assert Budget(bytes=size * PER_LAYER).parameter_count(view) == PER_LAYER
    assert Budget(bytes=size * PER_LAYER).layer_count(view) == 1
    assert Budget(bytes=size * PER_LAYER + 1).layer_count(view) == 2


@given(count=st.integers(1, LAYERS - 1))
def test_whole_layers_are_taken_as_asked(count: int) -> None:
    assert Budget(layers=count).layer_count(VIEW) == count
    assert Budget(layers=count).parameter_count(VIEW) == count * PER_LAYER


@given(share=st.floats(0.001, (LAYERS - 1) / LAYERS, exclude_max=True))
def test_the_layer_count_is_the_smallest_that_meets_the_share(share: float) -> None:
    count = Budget(parameters=share, of="backbone").layer_count(VIEW)
    # exact in rationals; the slack is one part in 10⁹ of a layer, far below one parameter
    assert count * PER_LAYER >= share * LAYERS * PER_LAYER - 1e-6 * PER_LAYER
    assert (count - 1) * PER_LAYER < share * LAYERS * PER_LAYER


@given(data=st.data(), layers=st.integers(2, 126), per_layer=st.integers(100, 3 * 10**9))
def test_a_share_of_whole_layers_is_not_rounded_up_by_float_noise(
    data: st.DataObject, layers: int, per_layer: int
) -> None:
    # a budget reads nothing but sizes, and those of large models are what floats round
    view: Any = SimpleNamespace(layer_parameter_count=layers * per_layer, numbers=tuple(range(layers)))
    count = data.draw(st.integers(1, layers - 1))
    assert Budget(parameters=count / layers, of="backbone").layer_count(view) == count


def test_55_per_cent_of_40_layers_are_22() -> None:
    view: Any = SimpleNamespace(layer_parameter_count=40 * 1234, numbers=tuple(range(40)))
    assert Budget(parameters=0.55, of="backbone").layer_count(view) == 22


@pytest.mark.parametrize("budget", [Budget(layers=LAYERS), Budget(layers=99), Budget(parameters=0.999, of="backbone")])
def test_more_than_the_model_can_lose_is_refused(budget: Budget) -> None:
    with pytest.raises(InvalidConfig, match=f"the model has {LAYERS} and one must stay"):
        budget.layer_count(VIEW)
