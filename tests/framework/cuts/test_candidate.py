"""Candidate: what a model would be without a cut, beside the model that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import cuts, tiny_models
from transformers import PreTrainedModel

from billhook import Cut, DropBranch, DropLayers, KeepChannels, ModelView, default_registry
from billhook.cuts.candidate import Candidate
from billhook.errors import InvalidCut
from billhook.testing import tiny_view


@given(model=tiny_models(), data=st.data())
def test_it_counts_what_the_model_loses(model: PreTrainedModel, data: st.DataObject) -> None:
    view = ModelView(model, default_registry().adapter_for(model.config.model_type))
    cut = data.draw(cuts(view))
    before = view.parameter_count
    found = Candidate.of(cut, view)
    assert view.parameter_count == before
    cut.remove_from(view)
    assert found.parameters == before - view.parameter_count


@pytest.mark.parametrize(
    ("cut", "first"), [(DropLayers(1, 3), 1), (DropBranch(2, "mlp"), 2), (KeepChannels(0, (0, 1)), 0)], ids=str
)
def test_the_first_layer_that_changes(cut: Cut, first: int) -> None:
    assert Candidate.of(cut, tiny_view()).first == first


def test_of_what_goes_nothing_is_left_and_of_what_gets_narrower_a_version() -> None:
    view = tiny_view()
    assert Candidate.of(DropLayers(1, 3), view).changes == {1: None, 2: None}
    version = Candidate.of(DropBranch(1, "mlp"), view).changes[1]
    assert version is not None
    assert version.module is not view.layer(1)


def test_the_last_branch_of_a_layer_takes_the_layer_with_it() -> None:
    view = tiny_view()
    DropBranch(1, "attention").remove_from(view)
    found = Candidate.of(DropBranch(1, "mlp"), view)
    assert found.changes == {1: None}
    assert found.parameters == sum(parameter.numel() for parameter in view.layer(1).parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidCut, match="layers 7:8 cannot be dropped"):
        Candidate.of(DropLayers(7, 8), tiny_view())


def test_equal_cuts_make_two_candidates() -> None:
    """They are keys: a model that changes in between makes another one of the same cut."""
    view = tiny_view()
    assert Candidate.of(DropLayers(1, 2), view) != Candidate.of(DropLayers(1, 2), view)
