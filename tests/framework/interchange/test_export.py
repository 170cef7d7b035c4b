"""Published results: read in their own shapes, cut as their authors' code does, and written again."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn
from transformers import PreTrainedModel

from billhook import (
    Budget,
    Calibration,
    Cut,
    DropBranch,
    DropLayers,
    KeepChannels,
    KeepHeads,
    ModelView,
    Plan,
    Pruner,
    PruneResult,
    Published,
    apply,
)
from billhook.errors import CalibrationError, InvalidConfig, InvalidCut, InvalidPlan
from billhook.interchange.export import to_blockpruner, to_multipruner
from billhook.interchange.removals import without
from billhook.plans.plan import ModelIdentity
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import default_registry
from billhook.pruning.applying import NO_DATA, Planned
from billhook.testing import cut_sequences, tiny_model, tiny_tokenizer, tiny_tokens, tiny_view, zeroed

LAYERS = 5
WIDTH, HEADS, HEAD, CHANNELS = 16, 4, 4, 24  # of the tiny Llama

MULTIPRUNER: dict[str, Any] = {
    "pruned_attn_idx": [3, 1],
    "pruned_mlp_idx": [3],
    "pruned_attn_width": {"0": 16, "1": 16, "2": 8, "3": 16, "4": 16},
    "pruned_mlp_width": {"0": 24, "1": 10, "2": 24, "3": 24, "4": 4},
}
"""``pruning_config.json``, as run_multipruner.py writes it."""

BLOCKPRUNER: dict[str, Any] = {
    "1": [["mha", 3]],
    "2": [["mha", 1], ["mha", 3]],
    "3": [["mha", 1], ["mlp", 3], ["mha", 3]],
}
"""``…_del_order_list.json``, as block_search.py writes it: sorted by layer, both branches of one in any order."""

ORDER = (DropBranch(3, "attention"), DropBranch(1, "attention"), DropBranch(3, "mlp"))


def view(groups: int = 2, **config: Any) -> ModelView:
    """Four query heads; under multi-head attention each is a group."""
    return tiny_view(num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=groups, **config)


def plan(model: PreTrainedModel, *cuts: Cut, estimator: str = "billhook:identity") -> Plan:
    return Plan(
        cuts=cuts,
        model=ModelIdentity(
            model_type="llama", layer_count=LAYERS, parameter_count=sum(p.numel() for p in model.parameters())
        ),
        budget=Budget(parameters=0.5),
        selector=StrategySpec(name="billhook:published"),
        estimator=StrategySpec(name=estimator),
        merger=StrategySpec(name="billhook:fold"),
        calibration=NO_DATA,
        billhook="0",
    )


def part(model: PreTrainedModel, layer: int, name: str) -> Any:
    """The ``mlp`` or ``self_attn`` of a layer."""
    return model.get_submodule(f"model.layers.{layer}.{name}")


def row_norms(linear: nn.Linear) -> torch.Tensor:
    return linear.weight.detach().double().abs().sum(1)


def largest_channels(whole: ModelView, layer: int, count: int) -> tuple[int, ...]:
    mlp = part(whole.model, layer, "mlp")
    norms = row_norms(mlp.gate_proj) + row_norms(mlp.up_proj)
    return tuple(sorted(sorted(range(CHANNELS), key=lambda unit: -float(norms[unit]))[:count]))


def keep(linear: nn.Linear, entries: torch.Tensor, *, inputs: bool = False) -> None:
    """Slice a linear layer by hand: some of its outputs, or some of its inputs."""
    linear.weight.data = linear.weight.data[:, entries] if inputs else linear.weight.data[entries]
    if linear.bias is not None and not inputs:
        linear.bias.data = linear.bias.data[entries]


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=tiny_tokens().ids, use_cache=False).logits
    return found


# Reading


def test_a_multipruner_file_gives_branches_then_channels_then_heads() -> None:
    whole = view(groups=4)
    cuts = Published(content=MULTIPRUNER).cuts(whole)
    assert cuts[:3] == (DropBranch(3, "attention"), DropBranch(1, "attention"), DropBranch(3, "mlp"))
    assert [str(cut) for cut in cuts[3:]] == [
        "mlp 1 to 10 channels",
        "mlp 4 to 4 channels",
        "attention 2 to 2 key-value groups",
    ]


def test_a_width_of_attention_counts_columns_of_query_heads() -> None:
    """Eight columns are two heads of four: two groups under multi-head attention, one of two query heads otherwise."""
    for groups, kept in ((4, 2), (2, 1)):
        (cut,) = Published(content={"pruned_attn_width": {"2": 8}}).cuts(view(groups))
        assert isinstance(cut, KeepHeads)
        assert len(cut.kept) == kept


def test_the_channels_that_stay_are_those_of_the_largest_weight_norm() -> None:
    whole = view()
    (cut,) = Published(content={"pruned_mlp_width": {"4": 7}}).cuts(whole)
    assert cut == KeepChannels(4, largest_channels(whole, 4, 7))
    assert largest_channels(whole, 4, 7) != tuple(range(7))


def test_equal_norms_keep_the_lower_channel() -> None:
    whole = view()
    with torch.no_grad():
        for name in ("gate_proj", "up_proj"):
            part(whole.model, 0, "mlp").get_submodule(name).weight.fill_(0.5)
    assert Published(content={"pruned_mlp_width": {"0": 5}}).cuts(whole) == (KeepChannels(0, (0, 1, 2, 3, 4)),)


def test_without_reordering_the_first_units_stay() -> None:
    content = {"pruned_mlp_width": {"4": 7}, "pruned_attn_width": {"1": 8}}
    cuts = Published(content=content, reordered=False).cuts(view())
    assert cuts == (KeepChannels(4, tuple(range(7))), KeepHeads(1, (0,)))


def test_a_branch_that_goes_has_no_width() -> None:
    content = {"pruned_mlp_idx": [2], "pruned_mlp_width": {"2": 7}}
    assert Published(content=content).cuts(view()) == (DropBranch(2, "mlp"),)


def test_mlps_numbered_behind_the_attentions_are_counted_from_zero() -> None:
    content = {
        "pruned_mlp_idx": [3],
        "pruned_attn_width": {str(layer): 16 for layer in range(LAYERS)},
        "pruned_mlp_width": {"5": 24, "6": 24, "7": 7, "8": 24, "9": 24},
    }
    cuts = Published(content=content, reordered=False).cuts(view())
    assert cuts == (DropBranch(3, "mlp"), KeepChannels(2, tuple(range(7))))


def test_an_order_list_gives_the_branches_in_the_order_of_their_removal() -> None:
    assert Published(content=BLOCKPRUNER).cuts(view()) == ORDER


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_order_list_can_be_followed_for_some_steps(steps: int) -> None:
    assert Published(content=BLOCKPRUNER, steps=steps).cuts(view()) == ORDER[:steps]


def test_entries_may_stand_in_any_order() -> None:
    reversed_content = dict(reversed(BLOCKPRUNER.items()))
    assert Published(content=reversed_content).removals.branches == ORDER


def test_a_list_that_begins_late_leaves_the_order_as_it_stands() -> None:
    content = {"2": [["mlp", 2], ["mha", 4]], "3": [["mha", 1], ["mlp", 2], ["mha", 4]]}
    order = (DropBranch(2, "mlp"), DropBranch(4, "attention"), DropBranch(1, "attention"))
    assert Published(content=content).removals.branches == order


def test_a_file_is_read_with_its_options(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    file.write_text(json.dumps(BLOCKPRUNER))
    assert Published.load(file, steps=2, reordered=False) == Published(content=BLOCKPRUNER, steps=2, reordered=False)


def test_shapes_are_enough_to_look_whether_a_file_fits() -> None:
    with torch.device("meta"):
        empty = view(groups=4).model.__class__(view(groups=4).model.config)
    counts = Published(content=MULTIPRUNER).removals.unit_counts(
        ModelView(empty, default_registry().adapter_for("llama"))
    )
    assert counts == {(1, "mlp"): 10, (4, "mlp"): 4, (2, "attention"): 2}


# Refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([["mha", 3]], "no published result: an object with pruned_attn_idx, pruned_attn_width"),
        ({}, "no published result"),
        ({"cuts": []}, "no published result"),
        ({"1": [], "total": 3}, "no published result"),
        ({"01": [["mha", 1]]}, "no published result"),
        ({"pruned_mlp_idx": [1], "pruned_ssm_idx": [4]}, "has pruned_ssm_idx, which nobody has published a meaning"),
        ({"pruned_mlp_idx": 3}, r"'pruned_mlp_idx' .* must be a list of layers, each once; got 3"),
        ({"pruned_attn_idx": [2, 2]}, r"each once; got \[2, 2\]"),
        ({"pruned_attn_idx": [-1]}, r"list of layers, each once; got \[-1\]"),
        ({"pruned_attn_idx": [1.0]}, r"got \[1\.0\]"),
        ({"pruned_attn_idx": [True]}, r"got \[True\]"),
        ({"pruned_mlp_width": [24, 24]}, r"must be an object of widths by layer; got \[24, 24\]"),
        ({"pruned_mlp_width": {"0": 0}}, "a width of 1 or more; got '0': 0"),
        ({"pruned_mlp_width": {"0": "24"}}, "a width of 1 or more; got '0': '24'"),
        ({"pruned_mlp_width": {"mlp": 24}}, "a width of 1 or more; got 'mlp': 24"),
        ({"1": "mha"}, "Step 1 of a BlockPruner list must be a list of branches; got 'mha'"),
        ({"1": [["attention", 3]]}, r"step 1 has \['attention', 3\]"),
        ({"1": [["mha", -3]]}, r"step 1 has \['mha', -3\]"),
        ({"1": [3]}, "step 1 has 3"),
        ({"1": [["mha", 3]], "2": [["mha", 2], ["mlp", 2]]}, "all of the step before among them; got attention 2"),
        ({"2": [["mha", 3]]}, "Step 2 of this BlockPruner list must hold 2 different branches"),
        ({"2": [["mha", 3], ["mha", 3]]}, "must hold 2 different branches"),
        ({"1": []}, "must hold 1 different branches, .* got none"),
    ],
)
def test_what_has_neither_shape_or_contradicts_itself_is_refused(content: Any, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        Published(content=content)


def test_a_step_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidPlan, match="no step 4, only 1 to 3"):
        Published(content=BLOCKPRUNER, steps=4)


def test_steps_of_a_multipruner_file_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="Only BlockPruner lists have steps"):
        Published(content=MULTIPRUNER, steps=2)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("mha 3")
    for name in ("list.json", "missing.json"):
        with pytest.raises(InvalidPlan, match=f"No published result can be read from .*{name}"):
            Published.load(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": [["mlp", 5]]}, "speaks of layer 5; this model has layers 0 to 4"),
        ({"pruned_attn_width": {"7": 16}}, "speaks of layer 7"),
        ({"pruned_mlp_width": {"0": 32}}, "gives the mlp of layer 0 32 channels; in this model it has 24"),
        ({"pruned_attn_width": {"2": 12}}, "attention of layer 2 12 channels, .*no whole key-value groups: .* has 8"),
        ({"pruned_attn_width": {"2": 4}}, "no whole key-value groups"),
        ({"pruned_mlp_width": {"0": 24}}, "Nothing would go"),
        ({"pruned_mlp_idx": []}, "Nothing would go"),
    ],
)
def test_a_file_for_another_model_is_refused(content: Any, message: str) -> None:
    with pytest.raises(InvalidPlan, match=message):
        Published(content=content).cuts(view())


def test_a_branch_that_the_model_has_lost_already_is_refused() -> None:
    cut = view()
    DropBranch(2, "mlp").remove_from(cut)
    with pytest.raises(InvalidPlan, match="gives the mlp of layer 2 7 channels; in this model it has 0"):
        Published(content={"pruned_mlp_width": {"2": 7}}).cuts(cut)


# Applying


def done(published: Published, model: PreTrainedModel, **options: Any) -> PruneResult:
    return apply(published.plan(model), model, **options)


@pytest.mark.parametrize("groups", [2, 4])
def test_an_applied_file_computes_what_the_zeroed_model_does(groups: int) -> None:
    whole = view(groups, attention_bias=True, mlp_bias=True)
    published = Published(content=MULTIPRUNER)
    result = done(published, whole.model)
    expected = logits(zeroed(whole, *published.cuts(whole)))
    # the same sums, without the terms that are zero
    torch.testing.assert_close(logits(result.model), expected, rtol=1e-4, atol=1e-5)


def test_an_applied_file_is_what_slicing_sorted_channels_gives() -> None:
    """MultiPruner's own way: sort rows of gate and up and columns of down alike, then keep the first ones."""
    whole = view()
    result = done(Published(content={"pruned_mlp_width": {"4": 7}}), whole.model)
    by_hand = copy.deepcopy(whole.model)
    mlp = part(by_hand, 4, "mlp")
    first = (row_norms(mlp.gate_proj) + row_norms(mlp.up_proj)).sort(descending=True).indices[:7]
    keep(mlp.gate_proj, first)
    keep(mlp.up_proj, first)
    keep(mlp.down_proj, first, inputs=True)
    # the same sums in another order
    torch.testing.assert_close(logits(result.model), logits(by_hand), rtol=1e-4, atol=1e-5)


def test_an_applied_file_is_what_slicing_sorted_heads_gives() -> None:
    """MultiPruner's own way: every query head has a copy of its group's key and value; a group counts by its mean."""
    whole = view(groups=2)
    result = done(Published(content={"pruned_attn_width": {"2": 8}}), whole.model)
    by_hand = copy.deepcopy(whole.model)
    attention = part(by_hand, 2, "self_attn")
    copies = [
        row_norms(linear).view(2, 1, HEAD).expand(2, 2, HEAD).flatten()
        for linear in (attention.k_proj, attention.v_proj)
    ]
    norms = (row_norms(attention.q_proj) + copies[0] + copies[1]).view(2, -1).mean(1)
    best = int(norms.argmax())
    queries, keys = torch.arange(8) + 8 * best, torch.arange(HEAD) + HEAD * best
    keep(attention.q_proj, queries)
    keep(attention.k_proj, keys)
    keep(attention.v_proj, keys)
    keep(attention.o_proj, queries, inputs=True)
    torch.testing.assert_close(logits(result.model), logits(by_hand), rtol=1e-4, atol=1e-5)


def test_the_plan_of_an_applied_file_holds_its_cuts_and_no_data() -> None:
    whole = view(groups=4)
    published = Published(content=MULTIPRUNER)
    result = done(published, whole.model)
    assert result.plan.cuts == published.cuts(whole)
    assert result.plan.calibration == NO_DATA
    assert result.plan.estimator.name == "billhook:identity"
    assert result.plan.budget.parameters == pytest.approx(result.metrics["ratio"])
    assert "on        no data" in str(result.plan)


def test_the_plan_says_in_the_place_of_the_selector_what_it_was_made_of() -> None:
    published = Published(content=BLOCKPRUNER, steps=2, reordered=False)
    spec = published.plan(view().model).selector
    assert spec.name == "billhook:published"
    assert Published(**spec.options) == published


def test_what_is_applied_is_a_plan() -> None:
    with pytest.raises(InvalidPlan, match=r"What is applied is a Plan; got Published\..* published\.plan\(model\)"):
        apply(Published(content=BLOCKPRUNER), view().model)  # type: ignore[arg-type]


def test_no_layer_is_run_to_apply_a_file() -> None:
    result = done(Published(content=MULTIPRUNER), view(groups=4).model)
    assert result.metrics["layer_tokens"] == 0


def test_a_plan_from_a_file_is_done_again_without_data() -> None:
    model = view(groups=4).model
    result = done(Published(content=MULTIPRUNER), model)
    again = apply(Plan.from_json(result.plan.to_json()), model)
    assert again.plan == result.plan
    ours, theirs = again.model.state_dict(), result.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_objective_needs_data_and_says_so() -> None:
    model = view().model
    result = done(Published(content=BLOCKPRUNER), model)
    pruner = Pruner.following("replaceme-ls", estimator="identity", objective="perplexity")
    with pytest.raises(CalibrationError, match="made without calibration data"):
        apply(result.plan, model, pruner=pruner)
    measured = apply(result.plan, model, calibration=tiny_tokens(), pruner=pruner)
    assert measured.metrics["objective_after"] != measured.metrics["objective_before"]


def test_a_file_can_be_measured_on_data_while_it_is_applied() -> None:
    pruner = Pruner.following("replaceme-ls", estimator="identity", objective="perplexity")
    result = done(Published(content=BLOCKPRUNER), view().model, calibration=tiny_tokens(), pruner=pruner)
    assert result.metrics["objective_after"] != result.metrics["objective_before"]
    assert result.plan.calibration.token_count == tiny_tokens().token_count


def test_a_plan_whose_cuts_are_not_repaired_is_done_again_without_its_data() -> None:
    model = view().model
    text = Calibration(source=["nobody hands this text over again " * 40], samples=4, seqlen=16)
    pruner = Pruner.following("replaceme-ls", selector=Planned((DropLayers(2, 4),)), estimator="identity")
    given_plan = pruner.prune(model, tiny_tokenizer(), calibration=text, budget=Budget(layers=2)).plan
    again = apply(given_plan, model)
    assert again.plan == given_plan
    assert again.model.config.num_hidden_layers == LAYERS - 2


def test_cuts_that_cannot_be_made_together_are_refused_before_the_first() -> None:
    content = {"pruned_attn_idx": list(range(LAYERS))}
    with pytest.raises(InvalidCut, match="cannot be dropped"):
        done(Published(content=content), view().model)


# Writing


def test_a_plan_is_written_as_dropped_branches_and_the_width_of_every_branch() -> None:
    whole = view()
    cuts = (DropLayers(3, 4), DropBranch(1, "attention"), KeepChannels(4, largest_channels(whole, 4, 6)))
    assert to_multipruner(plan(whole.model, *cuts), whole) == {
        "pruned_attn_idx": [3, 1],
        "pruned_mlp_idx": [3],
        "pruned_attn_width": {"0": 16, "1": 16, "2": 16, "3": 16, "4": 16},
        "pruned_mlp_width": {"0": 24, "1": 24, "2": 24, "3": 24, "4": 6},
    }


@pytest.mark.parametrize(("groups", "width"), [(2, 8), (4, 4)])
def test_a_group_is_written_as_the_columns_of_its_query_heads(groups: int, width: int) -> None:
    whole = view(groups)
    (cut,) = Published(content={"pruned_attn_width": {"1": width}}).cuts(whole)
    assert to_multipruner(plan(whole.model, cut), whole)["pruned_attn_width"]["1"] == width


def test_the_last_narrowing_of_a_branch_counts_and_none_of_one_that_goes() -> None:
    whole = view()
    wide, narrow = (KeepChannels(4, largest_channels(whole, 4, count)) for count in (12, 6))
    gone = KeepChannels(2, largest_channels(whole, 2, 12))
    found = to_multipruner(plan(whole.model, wide, gone, narrow, DropBranch(2, "mlp")), whole)
    assert found["pruned_mlp_width"] == {"0": 24, "1": 24, "2": 24, "3": 24, "4": 6}


def test_an_order_list_grows_by_one_branch_a_step_and_is_sorted_by_layer() -> None:
    cuts = (DropBranch(4, "mlp"), DropLayers(2, 3), DropBranch(4, "attention"))
    assert to_blockpruner(plan(view().model, *cuts)) == {
        "1": [["mlp", 4]],
        "2": [["mha", 2], ["mlp", 4]],
        "3": [["mha", 2], ["mlp", 2], ["mlp", 4]],
        "4": [["mha", 2], ["mlp", 2], ["mha", 4], ["mlp", 4]],
    }


def test_a_narrowed_branch_is_no_part_of_an_order_list() -> None:
    given_plan = plan(view().model, DropBranch(1, "mlp"), KeepHeads(2, (0,)))
    with pytest.raises(InvalidPlan, match=r"attention 2 to 1 key-value groups cannot be exported: .* whole branches"):
        to_blockpruner(given_plan)


@pytest.mark.parametrize("reordered", [True, False])
def test_units_that_a_reader_would_not_keep_are_refused(reordered: bool) -> None:
    whole = view()
    others = tuple(sorted(set(range(CHANNELS)) - set(largest_channels(whole, 4, 6)) - {0}))
    rule = "largest weight norm" if reordered else "the first ones"
    with pytest.raises(InvalidPlan, match=f"The mlp of layer 4 cannot be exported: .* {rule}; the plan keeps others"):
        to_multipruner(plan(whole.model, KeepChannels(4, others)), whole, reordered=reordered)


def test_a_plan_that_cuts_nothing_is_refused() -> None:
    whole = view()
    for write in (to_blockpruner, lambda given_plan: to_multipruner(given_plan, whole)):
        with pytest.raises(InvalidPlan, match="cuts nothing"):
            write(plan(whole.model))


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="This plan is for a llama model"):
        to_multipruner(plan(view().model, DropBranch(1, "mlp")), view(groups=4))


@attrs.frozen
class Rotate(Cut):
    """A kind of cut that nobody has published."""

    kind = "rotate"

    def check(self, view: ModelView) -> None:
        """Possible everywhere."""

    def repair_site(self, view: ModelView) -> None:
        """Nowhere."""

    def changes(self, view: ModelView) -> dict[int, Any]:
        """None."""
        return {}


def test_a_kind_of_cut_that_the_formats_do_not_know_is_refused_by_name() -> None:
    whole = view()
    for write in (to_blockpruner, lambda given_plan: to_multipruner(given_plan, whole)):
        with pytest.raises(InvalidPlan, match="'rotate', and published formats hold only whole branches"):
            write(plan(whole.model, DropBranch(1, "mlp"), Rotate()))


def test_repairs_have_no_place_in_a_file_and_a_warning_says_so(logged: list[str]) -> None:
    to_blockpruner(plan(view().model, DropLayers(2, 4), estimator="billhook:ridge"))
    assert logged == ["The plan repairs its cuts (ridge); the exported file holds only what goes."]


# There and back


VIEWS = {groups: view(groups) for groups in (2, 4)}
ALL_BRANCHES = [cut for layer in range(LAYERS) for cut in (DropBranch(layer, "attention"), DropBranch(layer, "mlp"))]


def through_json(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


@st.composite
def multipruner_files(draw: st.DrawFn, groups: int) -> dict[str, Any]:
    """What run_multipruner.py could have written for the tiny Llama, that removes something and can be done."""
    some = st.lists(st.integers(0, LAYERS - 1), max_size=LAYERS - 1, unique=True)
    unit = WIDTH // groups
    heads = st.lists(st.integers(1, groups), min_size=LAYERS, max_size=LAYERS)
    channels = st.lists(st.integers(1, CHANNELS), min_size=LAYERS, max_size=LAYERS)
    return {
        "pruned_attn_idx": draw(some),
        "pruned_mlp_idx": draw(some.filter(len)),
        "pruned_attn_width": {str(n): count * unit for n, count in enumerate(draw(heads))},
        "pruned_mlp_width": {str(n): count for n, count in enumerate(draw(channels))},
    }


@given(data=st.data(), groups=st.sampled_from([2, 4]), reordered=st.booleans())
def test_a_file_becomes_cuts_and_those_the_file_again(data: st.DataObject, groups: int, reordered: bool) -> None:
    whole = VIEWS[groups]
    content = data.draw(multipruner_files(groups))
    cuts = Published(content=content, reordered=reordered).cuts(whole)
    found = to_multipruner(plan(whole.model, *cuts), whole, reordered=reordered)
    for branch, full in (("attn", WIDTH), ("mlp", CHANNELS)):  # the width of a branch that goes means nothing
        content[f"pruned_{branch}_width"] |= {str(layer): full for layer in content[f"pruned_{branch}_idx"]}
    assert through_json(found) == content


@given(data=st.data(), groups=st.sampled_from([2, 4]))
def test_the_branches_of_any_plan_survive_both_formats(data: st.DataObject, groups: int) -> None:
    whole = VIEWS[groups]
    drawn = data.draw(cut_sequences(whole))
    cuts = [cut for cut in drawn if isinstance(cut, DropLayers | DropBranch)]
    assume(cuts)
    given_plan = plan(whole.model, *cuts)
    as_list = Published(content=through_json(to_blockpruner(given_plan))).cuts(whole)
    as_config = Published(content=through_json(to_multipruner(given_plan, whole))).cuts(whole)
    assert set(as_list) == set(as_config)
    smaller = without(whole, cuts)
    for found in (as_list, as_config):
        again = without(whole, found)
        assert again.numbers == smaller.numbers
        assert present(again) == present(smaller)


def present(view: ModelView) -> list[DropBranch]:
    return [cut for cut in ALL_BRANCHES if view.has_branch(cut.layer, cut.branch)]


@given(data=st.data(), groups=st.sampled_from([2, 4]))
def test_an_order_list_keeps_the_order(data: st.DataObject, groups: int) -> None:
    whole = VIEWS[groups]
    order = data.draw(st.lists(st.sampled_from(ALL_BRANCHES), min_size=1, max_size=6, unique=True))
    content = through_json(to_blockpruner(plan(whole.model, *order)))
    assert Published(content=content).removals.branches == tuple(order)


def test_a_tiny_model_is_what_the_numbers_above_say() -> None:
    config = tiny_model("llama").config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (WIDTH, HEADS, CHANNELS)
    assert WIDTH == HEADS * HEAD
