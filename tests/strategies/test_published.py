"""PublishedCuts: what the file says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import Budget, Cut, DropBranch, KeepChannels, KeepHeads, Pruner, PruningState, Published, apply
from billhook.errors import InvalidConfig, InvalidCut, InvalidPlan
from billhook.interchange import to_multipruner
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.fold import Fold
from billhook_strategies.multi_pruner import MultiPruner
from billhook_strategies.published import PublishedCuts

MULTIPRUNER: dict[str, Any] = {
    "pruned_attn_idx": [4, 2],
    "pruned_mlp_idx": [1],
    "pruned_attn_width": {"1": 8, "2": 16},
    "pruned_mlp_width": {"1": 24, "3": 10, "5": 6},
}
BLOCKPRUNER: dict[str, Any] = {"1": [["mlp", 3]], "2": [["mha", 1], ["mlp", 3]]}


def selected(selector: PublishedCuts, state: PruningState) -> list[Cut]:
    return list(selector.select(state, Budget(layers=1)))


@pytest.fixture
def state() -> PruningState:
    return PruningState(tiny_view(num_hidden_layers=6), tiny_tokens(), merger=Fold())


def test_branches_go_first_then_channels_then_heads_whatever_the_budget(state: PruningState) -> None:
    found = selected(PublishedCuts(content=MULTIPRUNER, reordered=False), state)
    assert found == [
        DropBranch(4, "attention"),
        DropBranch(2, "attention"),
        DropBranch(1, "mlp"),
        KeepChannels(3, tuple(range(10))),
        KeepChannels(5, tuple(range(6))),
        KeepHeads(1, (0,)),
    ]


def test_the_units_that_stay_are_those_that_a_published_result_names(state: PruningState) -> None:
    found = selected(PublishedCuts(content=MULTIPRUNER), state)
    assert tuple(found) == Published(content=MULTIPRUNER).cuts(state.dense)
    assert found != selected(PublishedCuts(content=MULTIPRUNER, reordered=False), state)


def test_an_order_list_is_followed_for_the_given_steps(state: PruningState) -> None:
    order = [DropBranch(3, "mlp"), DropBranch(1, "attention")]
    assert selected(PublishedCuts(content=BLOCKPRUNER), state) == order
    assert selected(PublishedCuts(content=BLOCKPRUNER, steps=1), state) == order[:1]


def test_no_model_is_run_for_it(state: PruningState) -> None:
    selected(PublishedCuts(content=MULTIPRUNER), state)
    assert state.flow.layer_calls == 0


def test_it_yields_no_other_kinds_of_cut_than_it_says(state: PruningState) -> None:
    selector = PublishedCuts(content=MULTIPRUNER)
    assert {type(cut) for cut in selected(selector, state)} == set(selector.kinds())


def test_what_is_gone_already_is_refused_before_the_first_cut(state: PruningState) -> None:
    DropBranch(1, "mlp").remove_from(state.model)
    with pytest.raises(InvalidCut, match="mlp 1 cannot be dropped: it is not there"):
        next(PublishedCuts(content=MULTIPRUNER).select(state, Budget(layers=1)))


def test_what_the_dense_model_does_not_have_is_refused_before_the_first_cut(state: PruningState) -> None:
    with pytest.raises(InvalidPlan, match="speaks of layer 6; this model has layers 0 to 5"):
        next(PublishedCuts(content={"1": [["mlp", 6]]}).select(state, Budget(layers=1)))


def test_what_a_search_found_comes_back_from_the_published_shape() -> None:
    whole = tiny_view(num_hidden_layers=6, num_key_value_heads=4)
    pruner = Pruner(selector=MultiPruner(channel_group=3), estimator="identity")
    found = pruner.prune(whole.model, calibration=tiny_tokens(), budget=Budget(parameters=0.3))
    again = apply(Published(content=to_multipruner(found.plan, whole)), whole.model)
    ours, theirs = again.model.state_dict(), found.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert {KeepChannels, KeepHeads} <= {type(cut) for cut in again.plan.cuts}


def test_what_was_published_can_be_repaired() -> None:
    pruner = Pruner(selector=PublishedCuts(content=BLOCKPRUNER), estimator="ridge")
    found = pruner.prune(tiny_view(num_hidden_layers=6).model, calibration=tiny_tokens(), budget=Budget(layers=1))
    assert all(report.donor is not None for report in found.reports)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"content": {}}, InvalidPlan, "no published result"),
        ({"content": {"1": 3}}, InvalidPlan, "must be a list of branches"),
        ({"content": BLOCKPRUNER, "steps": 9}, InvalidPlan, "no step 9, only 1 to 2"),
        ({"content": MULTIPRUNER, "steps": 1}, InvalidConfig, "Only BlockPruner lists have steps"),
    ],
)
def test_files_that_make_no_sense_are_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PublishedCuts(**options)
