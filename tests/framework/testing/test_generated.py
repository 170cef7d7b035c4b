"""What is drawn is valid, and says what to install where it cannot be drawn."""

from __future__ import annotations

import importlib
import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import linear_maps, planted_problems, spans

import billhook.testing
from billhook import DropLayers, LinearMap
from billhook.testing import PlantedProblem


@given(data=st.data(), layers=st.integers(2, 8), first=st.integers(0, 1))
def test_spans_lie_in_the_model_and_never_are_the_whole_of_it(data: st.DataObject, layers: int, first: int) -> None:
    start, stop = data.draw(spans(layers, first))
    assert first <= start < stop <= layers
    assert len(DropLayers(start, stop)) < layers


@given(linear_map=linear_maps(3, 5, bias=True))
def test_maps_have_the_asked_shape(linear_map: LinearMap) -> None:
    assert linear_map.weight.shape == (3, 5)
    assert linear_map.bias is not None


@given(problem=planted_problems(bias=True))
def test_the_truth_of_a_problem_without_noise_explains_it(problem: PlantedProblem) -> None:
    rows = problem.regression.all_rows
    torch.testing.assert_close(problem.truth(rows.x), rows.residual)


def test_every_public_name_is_there() -> None:
    for name in dir(billhook.testing):
        assert callable(getattr(billhook.testing, name)), name


def test_without_hypothesis_the_strategies_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "billhook.testing.generated")
    with pytest.raises(ImportError, match=re.escape("with hypothesis: pip install 'billhook[test]'")):
        _ = billhook.testing.planted_problems


@pytest.mark.parametrize("module", ["adapter_law", "estimator_law", "linearisation", "merger_law", "selector_law"])
def test_the_suites_need_no_hypothesis(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, f"billhook.testing.{module}", raising=False)
    importlib.import_module(f"billhook.testing.{module}")
