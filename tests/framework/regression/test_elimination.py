"""Elimination: the order, and the loss along the way, against least squares on the rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from billhook.regression import elimination
from billhook.regression.elimination import eliminate

ALMOST_NONE = 1e-12
"""Of ridge: what is left over is then that of least squares."""


def problem(columns: int = 12) -> tuple[Tensor, Tensor]:
    """Correlated rows of what a writer reads, and the writer."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    rows = torch.randn(400, columns, generator=generator, dtype=torch.float64) @ mixing
    return rows, torch.randn(columns, 5, generator=generator, dtype=torch.float64)


def left_over(rows: Tensor, weight: Tensor, gone: list[int], width: int) -> float:
    """Mean squared error of the best writer that does not read the units that are gone."""
    units = rows.shape[1] // width
    kept = [unit * width + c for unit in range(units) if unit not in gone for c in range(width)]
    wanted = rows @ weight
    if not kept:
        return float(wanted.square().sum() / len(rows))
    found = torch.linalg.lstsq(rows[:, kept], wanted).solution
    return float((rows[:, kept] @ found - wanted).square().sum() / len(rows))


def second(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("steps", [4, 64])
def test_the_loss_is_what_the_best_writer_on_the_rest_leaves(
    width: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elimination, "STEPS", steps)
    rows, weight = problem()
    units = 12 // width
    found = eliminate(weight, second(rows), units, ridge=ALMOST_NONE)
    assert sorted(found.order.tolist()) == list(range(units))
    assert found.counts == tuple(range(-(-units // steps), units + 1, -(-units // steps)))
    for count, loss in zip(found.counts, found.losses, strict=True):
        # float64, after up to twelve downdates of an inverse whose condition is about 1e4
        assert loss == pytest.approx(left_over(rows, weight, found.order[:count].tolist(), width), rel=1e-6)


@pytest.mark.parametrize("width", [1, 3])
def test_units_go_in_the_order_in_which_the_rest_makes_up_for_them_best(width: int) -> None:
    rows, weight = problem()
    left = list(range(12 // width))
    for unit in eliminate(weight, second(rows), len(left), ridge=ALMOST_NONE).order.tolist():
        gone = [u for u in range(12 // width) if u not in left]
        losses = {u: left_over(rows, weight, [*gone, u], width) for u in left}
        assert losses[unit] == pytest.approx(min(losses.values()), rel=1e-6)  # two float64 ways to one number
        left.remove(unit)


def test_in_a_metric_the_loss_is_measured_behind_its_root() -> None:
    rows, weight = problem()
    root = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = eliminate(weight @ root, second(rows), 12, ridge=ALMOST_NONE)
    first = min(range(12), key=lambda unit: left_over(rows, weight @ root, [unit], 1))
    assert int(found.order[0]) == first
    assert found.losses[0] == pytest.approx(left_over(rows, weight @ root, [first], 1), rel=1e-6)


@pytest.mark.parametrize("most", [1, 5, 12])
def test_no_more_steps_than_asked_for_are_made(most: int) -> None:
    rows, weight = problem()
    whole, part = eliminate(weight, second(rows), 12), eliminate(weight, second(rows), 12, most=most)
    assert part.counts == whole.counts[:most]
    assert part.losses == whole.losses[:most]
    assert part.order[:most].tolist() == whole.order[:most].tolist()
    assert sorted(part.order.tolist()) == list(range(12))
