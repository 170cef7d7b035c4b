"""Moments: the same sums however the tokens arrive, and the figures that follow from them."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import linear_maps
from torch import Tensor

from billhook import LinearMap, Moments
from billhook.errors import ShapeMismatch

SEEDS = st.integers(0, 2**31 - 1)
CLOSE: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
"""Float64 sums of a few hundred products of order 1: rounding stays five orders below this."""


def some(seed: int, tokens: int, d_in: int, d_out: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, d_in, generator=generator, dtype=torch.float64)
    return x + 0.5, torch.randn(tokens, d_out, generator=generator, dtype=torch.float64) - 0.2


def of(x: Tensor, r: Tensor, weights: Tensor | None = None) -> Moments:
    moments = Moments.empty(x.shape[1], r.shape[1])
    moments.add(x, r, weights)
    return moments


def assert_same(one: Moments, other: Moments) -> None:
    for ours, theirs in zip(attrs.astuple(one, recurse=False), attrs.astuple(other, recurse=False), strict=True):
        torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs), **CLOSE)


@given(seed=SEEDS, tokens=st.integers(1, 60), d_in=st.integers(1, 5), d_out=st.integers(1, 5))
def test_they_are_the_sums_they_are_named_for(seed: int, tokens: int, d_in: int, d_out: int) -> None:
    x, r = some(seed, tokens, d_in, d_out)
    expected = Moments(x.mT @ x, x.mT @ r, (r * r).sum(0), x.sum(0), r.sum(0), float(tokens), tokens)
    assert_same(of(x, r), expected)


@given(seed=SEEDS, sizes=st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_they_do_not_depend_on_how_tokens_are_split_into_batches(seed: int, sizes: list[int]) -> None:
    x, r = some(seed, sum(sizes), 3, 2)
    split = Moments.empty(3, 2)
    for x_part, r_part in zip(x.split(sizes), r.split(sizes), strict=True):
        split.add(x_part, r_part)
    assert_same(split, of(x, r))


@given(seed=SEEDS, tokens=st.integers(1, 40), data=st.data())
def test_tokens_of_weight_zero_do_not_enter(seed: int, tokens: int, data: st.DataObject) -> None:
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=tokens, max_size=tokens)))
    x, r = some(seed, tokens, 3, 2)
    weighted = of(x.where(keep[:, None], 1e6), r, keep.double())
    assert_same(weighted, attrs.evolve(of(x[keep], r[keep]), token_count=tokens))


@given(seed=SEEDS, tokens=st.integers(1, 20))
def test_a_whole_weight_counts_a_token_so_many_times(seed: int, tokens: int) -> None:
    x, r = some(seed, tokens, 3, 2)
    counts = torch.arange(tokens) % 4
    repeated = of(x.repeat_interleave(counts, 0), r.repeat_interleave(counts, 0))
    assert_same(of(x, r, counts), attrs.evolve(repeated, token_count=tokens))


@given(seed=SEEDS, ranks=st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_the_sum_over_ranks_is_that_of_all_tokens(seed: int, ranks: list[int]) -> None:
    x, r = some(seed, sum(ranks), 3, 2)
    parts = [of(a, b) for a, b in zip(x.split(ranks), r.split(ranks), strict=True)]
    total = Moments.empty(3, 2)
    for part in parts:
        total = total + part
    assert_same(total, of(x, r))


def test_adding_two_leaves_both_as_they_were() -> None:
    one, other = of(*some(0, 5, 2, 2)), of(*some(1, 7, 2, 2))
    before = one.xx.clone()
    assert (one + other).token_count == 12
    assert one.xx.equal(before)
    assert one.token_count == 5


@given(seed=SEEDS, tokens=st.integers(2, 60))
def test_centred_are_those_of_the_deviations_from_the_means(seed: int, tokens: int) -> None:
    x, r = some(seed, tokens, 3, 2)
    assert_same(of(x, r).centred(), of(x - x.mean(0), r - r.mean(0)))


@given(seed=SEEDS, tokens=st.integers(1, 60), data=st.data())
def test_the_squared_error_is_that_of_the_residuals(seed: int, tokens: int, data: st.DataObject) -> None:
    x, r = some(seed, tokens, 3, 2)
    linear_map = data.draw(linear_maps(3, 2))
    double = LinearMap(linear_map.weight.double(), None if linear_map.bias is None else linear_map.bias.double())
    direct = float((r - double(x)).square().sum())
    # the sums cancel, so the error is relative to what they cancel from
    assert of(x, r).squared_error(linear_map) == pytest.approx(direct, rel=1e-9, abs=1e-9 * float(r.square().sum()))


@given(seed=SEEDS, tokens=st.integers(5, 60), data=st.data())
def test_r_squared_is_the_share_of_the_variance_that_is_explained(seed: int, tokens: int, data: st.DataObject) -> None:
    x, r = some(seed, tokens, 3, 2)
    linear_map = data.draw(linear_maps(3, 2))
    double = LinearMap(linear_map.weight.double(), None if linear_map.bias is None else linear_map.bias.double())
    direct = 1 - (r - double(x)).square().sum() / (r - r.mean(0)).square().sum()
    assert of(x, r).r_squared(linear_map) == pytest.approx(float(direct), rel=1e-8, abs=1e-8)


def test_a_perfect_map_explains_everything_and_its_error_is_not_below_zero() -> None:
    x, _ = some(0, 50, 3, 3)
    truth = LinearMap(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    moments = of(x, truth(x))
    assert moments.squared_error(truth) >= 0
    assert moments.r_squared(truth) == pytest.approx(1.0)


@given(value=st.floats(-1e3, 1e3), tokens=st.integers(1, 100))
def test_a_target_that_does_not_vary_has_no_share_to_explain(value: float, tokens: int) -> None:
    x, _ = some(0, tokens, 2, 2)
    r = torch.full((tokens, 2), value, dtype=torch.float64)
    assert math.isnan(of(x, r).r_squared(LinearMap(torch.eye(2))))


def test_sums_are_float64_whatever_comes_in() -> None:
    x, r = some(0, 20, 2, 2)
    moments = of(x.bfloat16(), r.float())
    assert {t.dtype for t in (moments.xx, moments.xr, moments.rr, moments.x, moments.r)} == {torch.float64}
    torch.testing.assert_close(moments.xx, x.bfloat16().double().mT @ x.bfloat16().double(), **CLOSE)


def test_small_columns_keep_their_digits_beside_an_attention_sink() -> None:
    x, r = some(0, 500, 2, 1)
    x[0, 0] = 1e6  # one token, as position 0 of a row has it
    assert float(of(x.float(), r).xx[1, 1]) == pytest.approx(float(x.float()[:, 1].double().square().sum()), rel=1e-12)


@pytest.mark.parametrize(("x", "r"), [((4, 3), (4, 3)), ((4, 2), (5, 3)), ((4, 2), (4, 2)), ((2,), (2, 3))])
def test_shapes_that_disagree_are_refused(x: tuple[int, ...], r: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch, match=r"Moments of \[tokens, 2\] to \[tokens, 3\] got"):
        Moments.empty(2, 3).add(torch.zeros(x), torch.zeros(r))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_numbers_that_are_not_finite_are_noticed(value: float, side: int) -> None:
    pair = some(0, 5, 2, 2)
    assert of(*pair).is_finite()
    pair[side][3, 1] = value
    assert not of(*pair).is_finite()
