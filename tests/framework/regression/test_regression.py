"""Rows and TensorRegression: a repair problem over tensors in memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from billhook import Rows, TensorRegression
from billhook.errors import ShapeMismatch
from billhook.regression.regression import concatenate


def some(tokens: int = 10, d_in: int = 3, d_out: int = 2) -> Rows:
    generator = torch.Generator().manual_seed(tokens)
    return Rows(*(torch.randn(tokens, d, generator=generator) for d in (d_in, d_out, d_out)))


def assert_same(one: Rows, other: Rows) -> None:
    assert one.x.equal(other.x)
    assert one.residual.equal(other.residual)
    assert one.skip.equal(other.skip)


def test_the_target_is_what_the_skip_lacks_added() -> None:
    rows = some()
    assert rows.target.equal(rows.skip + rows.residual)


@pytest.mark.parametrize("index", [slice(2, 5), torch.tensor([7, 0]), torch.arange(10) > 6])
def test_an_index_takes_the_same_tokens_of_all_three(index: slice | torch.Tensor) -> None:
    rows = some()
    assert_same(rows[index], Rows(rows.x[index], rows.residual[index], rows.skip[index]))


def test_a_dtype_is_taken_on_by_all_three() -> None:
    rows = some().to(dtype=torch.bfloat16)
    assert {rows.x.dtype, rows.residual.dtype, rows.skip.dtype} == {torch.bfloat16}


def test_concatenated_pieces_are_the_whole() -> None:
    rows = some()
    assert_same(concatenate([rows[:3], rows[3:3], rows[3:]]), rows)


@given(tokens=st.integers(1, 50), size=st.integers(1, 60))
def test_batches_have_the_asked_size_and_hold_every_row_in_order(tokens: int, size: int) -> None:
    rows = some(tokens)
    regression = TensorRegression(rows.x, rows.residual, rows.skip)
    batches = list(regression.batches(size))
    assert_same(concatenate(batches), rows)
    assert all(len(batch) == size for batch in batches[:-1])


def test_batches_can_be_asked_for_again() -> None:
    regression = TensorRegression(*some_pair())
    for one, other in zip(regression.batches(4), regression.batches(4), strict=True):
        assert_same(one, other)


def test_moments_are_those_of_the_tensors_and_the_same_object_at_every_call() -> None:
    x, residual = some_pair()
    regression = TensorRegression(x, residual)
    torch.testing.assert_close(regression.moments().xr, x.double().mT @ residual.double())
    assert regression.moments() is regression.moments()


def test_widths_are_those_of_the_tensors() -> None:
    regression = TensorRegression(*some_pair())
    assert (regression.d_in, regression.d_out) == (3, 2)


def test_without_a_skip_the_residual_is_the_target() -> None:
    x, residual = some_pair()
    assert TensorRegression(x, residual).all_rows.target.equal(residual)


def test_the_sample_is_float32() -> None:
    x, residual = some_pair()
    assert TensorRegression(x.double(), residual.double()).sample().x.dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "residual", "skip"), [((4,), (4, 2), (4, 2)), ((4, 3), (5, 2), (5, 2)), ((4, 3), (4, 2), (4, 3))]
)
def test_shapes_that_disagree_are_refused(x: tuple[int, ...], residual: tuple[int, ...], skip: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch, match="must agree; got"):
        TensorRegression(torch.zeros(x), torch.zeros(residual), torch.zeros(skip))


def some_pair() -> tuple[torch.Tensor, torch.Tensor]:
    rows = some()
    return rows.x, rows.residual


def test_weights_go_with_their_rows() -> None:
    rows, plain = some(10), some(4)
    weighted = Rows(rows.x, rows.residual, rows.skip, torch.arange(10.0).double())
    assert weighted[torch.tensor([7, 0])].counts.tolist() == [7, 0]
    assert weighted.to(dtype=torch.bfloat16).counts.dtype == torch.float64
    assert plain.counts.tolist() == [1] * 4
    assert concatenate([plain, weighted]).counts.tolist() == [1] * 4 + list(range(10))
    assert concatenate([plain, plain]).weights is None


def test_weighted_rows_give_the_moments_of_rows_that_come_as_often() -> None:
    rows = some(10)
    often = torch.tensor([1, 2, 0, 3, 1, 1, 2, 1, 1, 4])
    again = rows[torch.arange(10).repeat_interleave(often)]
    ours = TensorRegression(rows.x, rows.residual, rows.skip, weights=often).moments()
    theirs = TensorRegression(again.x, again.residual, again.skip).moments()
    assert torch.allclose(ours.xx, theirs.xx)
    assert torch.allclose(ours.xr, theirs.xr)
    assert ours.weight == theirs.weight
