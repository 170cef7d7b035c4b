"""Passes: as many matrices at a time as there is memory for."""

from __future__ import annotations

import pytest

from billhook.measures import passes
from billhook.measures.passes import in_passes


@pytest.mark.parametrize(("matrices", "parts"), [(0.5, [[1], [2], [3]]), (2.9, [[1, 2], [3]]), (3, [[1, 2, 3]])])
def test_a_part_holds_what_fits_but_one_at_least(
    matrices: float, parts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "GRAM_BYTES", int(matrices * 8 * 10**2))
    assert list(in_passes([1, 2, 3], 10)) == parts


def test_nothing_takes_no_pass() -> None:
    assert list(in_passes([], 1)) == []
