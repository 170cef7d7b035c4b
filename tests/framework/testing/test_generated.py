"""What is drawn is valid, and says what to install where it cannot be drawn."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from tests.strategies import cut_sequences, cuts, linear_maps, plans, planted_problems, spans

import billhook.testing
from billhook import Cut, DropLayers, KeepChannels, LinearMap, Plan
from billhook.testing import PlantedProblem, tiny_view
from billhook.testing.conformance.expect import Snapshot


@given(data=st.data(), layers=st.integers(2, 8), first=st.integers(0, 1))
def test_spans_lie_in_the_model_and_never_are_the_whole_of_it(data: st.DataObject, layers: int, first: int) -> None:
    start, stop = data.draw(spans(layers, first))
    assert first <= start < stop <= layers
    assert len(DropLayers(start, stop)) < layers


VIEW = tiny_view("gemma2")  # two kinds of attention
ANY = settings(max_examples=300, phases=[Phase.generate])
"""Finding one example, not the simplest."""


@given(data=st.data())
def test_a_drawn_cut_can_be_made_and_drawing_changes_nothing(data: st.DataObject) -> None:
    before = Snapshot(VIEW)
    data.draw(cuts(VIEW)).check(VIEW)
    before.require_same("cuts", "a strategy looks only")


@given(data=st.data())
def test_drawn_cuts_can_be_made_one_after_the_other(data: st.DataObject) -> None:
    view = VIEW.copy()
    for cut in data.draw(cut_sequences(VIEW)):
        cut.check(view)
        cut.remove_from(view)
    assert view.numbers


@pytest.mark.parametrize("kind", ["drop-layers", "drop-branch", "keep-channels", "keep-heads"])
def test_every_kind_of_cut_is_drawn(kind: str) -> None:
    find(cuts(VIEW), lambda cut: cut.kind == kind, settings=ANY)
    find(cut_sequences(VIEW), lambda found: len(found) > 1 and found[1].kind == kind, settings=ANY)
    find(plans(), lambda plan: any(cut.kind == kind for cut in plan.cuts), settings=ANY)


def test_a_branch_that_is_narrow_already_can_be_drawn_again() -> None:
    view = VIEW.copy()
    KeepChannels(1, (3, 5, 8)).remove_from(view)
    found = find(cuts(view), lambda cut: isinstance(cut, KeepChannels) and cut.layer == 1, settings=ANY)
    assert isinstance(found, KeepChannels)
    assert {*found.kept} < {3, 5, 8}


@given(plan=plans())
def test_the_cuts_of_a_plan_lie_in_its_model(plan: Plan) -> None:
    assert all(0 <= number < plan.model.layer_count for cut in plan.cuts for number in layers_of(cut))


def layers_of(cut: Cut) -> Iterable[int]:
    fields: dict[str, Any] = attrs.asdict(cut)  # type: ignore[arg-type] # every Cut is an attrs class
    return [fields["layer"]] if "layer" in fields else range(fields["start"], fields["stop"])


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
    monkeypatch.delitem(sys.modules, "billhook.testing.samples.generated")
    with pytest.raises(ImportError, match=re.escape("with hypothesis: pip install 'billhook[test]'")):
        _ = billhook.testing.planted_problems


@pytest.mark.parametrize(
    "module",
    [
        "conformance.adapter_law",
        "conformance.cut_law",
        "conformance.estimator_law",
        "samples.linearisation",
        "conformance.merger_law",
        "conformance.objective_law",
        "conformance.selector_law",
        "samples.zeroing",
    ],
)
def test_the_suites_need_no_hypothesis(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, f"billhook.testing.{module}", raising=False)
    importlib.import_module(f"billhook.testing.{module}")
