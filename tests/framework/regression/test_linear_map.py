"""LinearMap: shapes are checked when it is built, and it maps row vectors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import linear_maps

from billhook import LinearMap
from billhook.errors import ShapeMismatch


@given(data=st.data(), d_in=st.integers(1, 5), d_out=st.integers(1, 5))
def test_it_maps_row_vectors(data: st.DataObject, d_in: int, d_out: int) -> None:
    linear_map = data.draw(linear_maps(d_in, d_out))
    x = torch.randn(2, 3, d_in, generator=torch.Generator().manual_seed(0)).to(linear_map.weight)
    expected = torch.einsum("bsi,io->bso", x, linear_map.weight)
    if linear_map.bias is not None:
        expected += linear_map.bias
    torch.testing.assert_close(linear_map(x), expected)


def test_it_computes_in_the_dtype_of_the_map() -> None:
    linear_map = LinearMap(torch.eye(2, dtype=torch.float64))
    assert linear_map(torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.float64


@pytest.mark.parametrize(
    ("weight", "bias", "message"),
    [
        (torch.ones(3), None, r"got \[3\] and None"),
        (torch.ones(2, 3), torch.ones(2), r"got \[2, 3\] and \[2\]"),
        (torch.ones(2, 3), torch.ones(1, 3), r"got \[2, 3\] and \[1, 3\]"),
    ],
)
def test_shapes_that_make_no_map_are_refused(weight: torch.Tensor, bias: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ShapeMismatch, match=message):
        LinearMap(weight, bias)
