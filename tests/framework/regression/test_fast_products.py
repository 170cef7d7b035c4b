"""Fast products: as good as float32 ones, whatever the weights, and with attention sinks among the rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from billhook import Moments
from billhook.regression.fast_products import add_products, is_bfloat16
from billhook.regression.moments import FAST_COLUMNS

TOLERANCE = 2e-5
"""Relative to the lengths of the two columns: 2⁻¹⁷ for a number made of two, and float32 sums of some hundred terms."""


def activations(seed: int, tokens: int, columns: int, sink: float = 1.0) -> Tensor:
    x = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(seed))
    x[0] *= sink
    return x.to(torch.bfloat16).float()


def error(found: Tensor, x: Tensor, other: Tensor, weights: Tensor | None = None) -> float:
    """Largest difference from float64, as a share of the lengths of the columns, the largest row left out."""
    w = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    exact = (x.double() * w[:, None]).T @ other.double()
    lengths = [(t[1:].double().square() * w[1:, None]).sum(0).sqrt() for t in (x, other)]
    return float(((found - exact) / torch.outer(*lengths)).abs().max())


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000), tokens=st.integers(40, 300), sink=st.sampled_from([1.0, 600.0]), weighted=st.booleans()
)
def test_products_equal_those_of_float64(seed: int, tokens: int, sink: float, weighted: bool) -> None:
    x, other = activations(seed, tokens, 40, sink), torch.randn(tokens, 30, generator=torch.Generator().manual_seed(1))
    weights = torch.rand(tokens, generator=torch.Generator().manual_seed(2)) + 0.1 if weighted else None
    total = torch.zeros(40, 30, dtype=torch.float64)
    add_products(total, x, other, weights)
    assert error(total, x, other, weights) < TOLERANCE
    gram = torch.zeros(40, 40, dtype=torch.float64)
    add_products(gram, x, None, weights)
    assert error(gram, x, x, weights) < TOLERANCE


def test_what_is_there_is_added_to() -> None:
    x = activations(0, 50, 4)
    once, twice = torch.zeros(4, 4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    add_products(once, x)
    add_products(twice, x)
    add_products(twice, x)
    torch.testing.assert_close(twice, 2 * once)


def test_the_precision_of_other_products_is_left_as_it_was() -> None:
    before = torch.get_float32_matmul_precision()
    add_products(torch.zeros(4, 4, dtype=torch.float64), activations(0, 50, 4))
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (torch.tensor([1.0, 0.5, -3.0]), True),
        (torch.tensor([1.0, 1.0 + 2**-9]), False),
        (torch.tensor([1.0, float("nan")]), False),
        (torch.tensor([1.0], dtype=torch.bfloat16), True),
        (torch.tensor([1.0 + 2**-20], dtype=torch.float64), False),
    ],
)
def test_bfloat16_numbers_are_known(x: Tensor, expected: bool) -> None:
    assert is_bfloat16(x) is expected


@pytest.mark.parametrize("weighted", [False, True])
def test_moments_of_many_columns_are_the_same_whether_bfloat16_or_not(weighted: bool) -> None:
    x, r = activations(3, 600, FAST_COLUMNS, 600.0), torch.randn(600, 5, generator=torch.Generator().manual_seed(4))
    weights = torch.exp2(torch.arange(600.0) % 5) if weighted else None
    fast, plain = (Moments.empty(FAST_COLUMNS, 5) for _ in range(2))
    fast.add(x, r, weights)
    plain.add(x.double() + 1e-12, r, weights)  # no bfloat16 numbers any more
    assert error(fast.xx, x, x, weights) < TOLERANCE
    torch.testing.assert_close(fast.x, plain.x)
    torch.testing.assert_close(fast.rr, plain.rr)
    assert error(fast.xr, x, r, weights) < TOLERANCE
