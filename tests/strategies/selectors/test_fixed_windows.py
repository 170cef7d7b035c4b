"""FixedWindows: the spans that were given, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import Budget, DropLayers, PruningState, Selector
from billhook.errors import InvalidConfig, InvalidCut
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.selectors.fixed_windows import FixedWindows


def selected(selector: Selector, state: PruningState) -> list[object]:
    return list(selector.select(state, Budget(layers=1)))


@pytest.fixture
def state() -> PruningState:
    return PruningState(tiny_view(num_hidden_layers=6), tiny_tokens(), merger=Fold())


def test_spans_are_cut_in_layer_order_whatever_the_budget(state: PruningState) -> None:
    found = selected(FixedWindows(spans=((4, 6), (1, 2))), state)
    assert found == [DropLayers(1, 2), DropLayers(4, 6)]


def test_touching_spans_stay_two_cuts(state: PruningState) -> None:
    assert selected(FixedWindows(spans=((1, 2), (2, 3))), state) == [DropLayers(1, 2), DropLayers(2, 3)]


def test_no_model_is_run_for_it(state: PruningState) -> None:
    selected(FixedWindows(spans=((1, 2),)), state)
    assert state.flow.runner.layer_tokens == 0


def test_spans_outside_the_model_are_refused_before_the_first_cut(state: PruningState) -> None:
    cuts = FixedWindows(spans=((1, 2), (4, 7))).select(state, Budget(layers=1))
    with pytest.raises(InvalidCut, match=r"layers 4:7 cannot be dropped: layers \[6\] are not there"):
        next(cuts)


def test_spans_that_leave_no_layer_are_refused_before_the_first_cut(state: PruningState) -> None:
    cuts = FixedWindows(spans=((0, 3), (3, 6))).select(state, Budget(layers=1))
    with pytest.raises(InvalidCut, match="layers 0:3, layers 3:6 leave no layer"):
        next(cuts)


@pytest.mark.parametrize(
    ("spans", "error", "message"),
    [
        ((), InvalidConfig, "needs at least one span"),
        (((1, 3), (2, 4)), InvalidConfig, "layers 1:3 and layers 2:4 overlap"),
        (((2, 4), (2, 4)), InvalidConfig, "layers 2:4 and layers 2:4 overlap"),
        (((3, 3),), InvalidCut, "0 <= start < stop; got start=3, stop=3"),
        (((-1, 3),), InvalidCut, "0 <= start < stop; got start=-1"),
    ],
)
def test_spans_that_make_no_sense_are_refused_at_once(spans: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        FixedWindows(spans=spans)
