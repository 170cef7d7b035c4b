"""Window distances as tables and data."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from billhook import WindowDistances
from billhook.cli import distances


def numbered(layers: int) -> WindowDistances:
    """Distances that tell their window: start and stop as the digits behind the point."""
    values = torch.full((layers + 1, layers + 1), torch.nan, dtype=torch.float64)
    for start in range(layers):
        for stop in range(start + 1, layers + 1):
            values[start, stop] = start / 100 + stop / 10000
    return WindowDistances("cosine", values, 1)


@given(layers=st.integers(1, 40))
def test_data_hold_each_window_once(layers: int) -> None:
    data = distances.as_data(numbered(layers))
    spans = {(entry["start"], entry["stop"]) for entry in data}
    assert len(data) == len(spans) == layers * (layers + 1) // 2
    for entry in data:
        assert math.isclose(entry["distance"], entry["start"] / 100 + entry["stop"] / 10000)


@pytest.mark.parametrize("layers", [1, 2, 30, 80])
@pytest.mark.parametrize("width", [20, 80, 100, 200])
def test_the_matrix_fits_the_width_and_loses_nothing(layers: int, width: int) -> None:
    blocks = list(distances.matrix(numbered(layers), width))
    cells = [str(cell) for block in blocks for column in block.columns[1:] for cell in column.cells if cell]
    assert len(cells) == len(set(cells)) == layers * (layers + 1) // 2
    assert all(len(block.columns) * distances.CELL <= max(width, 2 * distances.CELL) for block in blocks)


def test_distances_of_any_size_fit_their_cell() -> None:
    values = torch.full((2, 2), torch.nan, dtype=torch.float64)
    values[0, 1] = 98765.4321  # l2 distances of a sink token are this large
    (block,) = distances.matrix(WindowDistances("l2", values, 1), 100)
    assert [str(cell) for cell in block.columns[1].cells] == ["98765"]
