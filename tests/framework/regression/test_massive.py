"""Massive rows: those that are many times as long as the median one."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from billhook.regression.massive import MASSIVE, massive_rows


@given(
    seed=st.integers(0, 1000),
    tokens=st.integers(8, 60),
    sinks=st.integers(0, 3),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_the_massive_rows_are_found_whatever_the_scale(seed: int, tokens: int, sinks: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.normalize(torch.randn(tokens, 5, generator=generator)) * scale
    large = torch.randperm(tokens, generator=generator)[:sinks]
    x[large] *= 1.01 * MASSIVE
    wanted = torch.zeros(tokens, dtype=torch.bool)
    wanted[large] = True
    assert torch.equal(massive_rows(x), wanted)


def test_where_all_rows_are_zero_none_is_massive() -> None:
    assert not massive_rows(torch.zeros(4, 3)).any()
