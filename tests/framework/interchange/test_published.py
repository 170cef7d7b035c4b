"""Published.plan: a published result as a plan like any other."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import Budget, DropBranch, KeepChannels, KeepHeads, Plan, Pruner, Published, apply
from billhook.errors import InvalidCut, InvalidPlan
from billhook.interchange.export import to_multipruner
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.selectors.multi_pruner import MultiPruner

MULTIPRUNER: dict[str, Any] = {
    "pruned_attn_idx": [4, 2],
    "pruned_mlp_idx": [1],
    "pruned_attn_width": {"1": 8, "2": 16},
    "pruned_mlp_width": {"1": 24, "3": 10, "5": 6},
}
BLOCKPRUNER: dict[str, Any] = {"1": [["mlp", 3]], "2": [["mha", 1], ["mlp", 3]]}


def plan_of(content: dict[str, Any], **options: Any) -> Plan:
    return Published(content=content, **options).plan(tiny_view(num_hidden_layers=6).model)


def test_branches_go_first_then_channels_then_heads() -> None:
    assert plan_of(MULTIPRUNER, reordered=False).cuts == (
        DropBranch(4, "attention"),
        DropBranch(2, "attention"),
        DropBranch(1, "mlp"),
        KeepChannels(3, tuple(range(10))),
        KeepChannels(5, tuple(range(6))),
        KeepHeads(1, (0,)),
    )


def test_the_units_that_stay_are_those_of_the_cuts() -> None:
    found = plan_of(MULTIPRUNER).cuts
    assert found == Published(content=MULTIPRUNER).cuts(tiny_view(num_hidden_layers=6))
    assert found != plan_of(MULTIPRUNER, reordered=False).cuts


def test_an_order_list_is_followed_for_the_given_steps() -> None:
    order = (DropBranch(3, "mlp"), DropBranch(1, "attention"))
    assert plan_of(BLOCKPRUNER).cuts == order
    assert plan_of(BLOCKPRUNER, steps=1).cuts == order[:1]


def test_its_budget_is_what_the_cuts_come_to() -> None:
    model = tiny_view(num_hidden_layers=6).model
    found = plan_of(MULTIPRUNER)
    assert apply(found, model).metrics["ratio"] == pytest.approx(found.budget.parameters)


def test_it_survives_its_file_and_says_where_it_is_from() -> None:
    found = plan_of(BLOCKPRUNER, steps=1)
    assert Plan.from_json(found.to_json()) == found
    assert str(found.selector).startswith("published(content=")
    assert (str(found.estimator), found.selector.options["steps"]) == ("identity", 1)


def test_what_is_gone_already_is_refused() -> None:
    whole = tiny_view(num_hidden_layers=6)
    DropBranch(1, "mlp").remove_from(whole)
    with pytest.raises(InvalidCut, match="mlp 1 cannot be dropped: it is not there"):
        Published(content={"pruned_mlp_idx": [1]}).plan(whole.model)


def test_what_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="speaks of layer 6; this model has layers 0 to 5"):
        plan_of({"1": [["mlp", 6]]})


def test_what_a_search_found_comes_back_from_the_published_shape() -> None:
    whole = tiny_view(num_hidden_layers=6, num_key_value_heads=4)
    pruner = Pruner.following("multipruner", selector=MultiPruner(channel_group=3))
    found = pruner.prune(whole.model, calibration=tiny_tokens(), budget=Budget(parameters=0.3))
    again = apply(Published(content=to_multipruner(found.plan, whole)).plan(whole.model), whole.model)
    ours, theirs = again.model.state_dict(), found.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    assert {KeepChannels, KeepHeads} <= {type(cut) for cut in again.plan.cuts}


def test_what_was_published_can_be_repaired() -> None:
    model = tiny_view(num_hidden_layers=6).model
    plan = Published(content=BLOCKPRUNER).plan(model)
    found = apply(plan, model, calibration=tiny_tokens(), pruner=Pruner(estimator="ridge"))
    assert all(report.donor is not None for report in found.reports)
