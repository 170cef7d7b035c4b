"""Unit scores: against loops over the rows of each unit, and over the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tests.families import every, marked
from torch import Tensor, nn

from billhook import DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView, PruningState
from billhook.measures import passes
from billhook.measures.unit_scores import activation, fluctuation, measure_inner, obs, score_units, wanda, weight_l1
from billhook.model.branch import Branch
from billhook.model.writer import weight_rows
from billhook.regression.elimination import eliminate
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.insert import Insert

ADAPTERS = {adapter.name: adapter for adapter in every()}

FUSED = {"phi3", "gpt2"}
"""Queries, keys and values one after the other in one matrix."""


def row_norms(module: nn.Module) -> list[float]:
    """L1 norm of the weights behind each output."""
    rows = weight_rows(module)
    return [sum(abs(float(w)) for w in rows[:, column]) for column in range(rows.shape[1])]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def parts(view: ModelView, number: int, branch: Branch) -> list[list[float]]:
    """Row norms of every reader, fused ones block by block; interleaved ones (GPT-NeoX, Falcon) are one block."""
    layout = view.adapter.layout(branch)
    norms = [row_norms(view.layer(number).get_submodule(path)) for path in layout.readers]
    if branch == "mlp":
        channels = len(view.units(number, branch))
        return [block[start : start + channels] for block in norms for start in range(0, len(block), channels)]
    if view.adapter.name not in FUSED:
        return norms
    width = weight_rows(view.writer(number, branch)).shape[0]  # the queries', and the rest is shared evenly
    (fused,) = norms
    other = (len(fused) - width) // 2
    return [fused[:width], fused[width : width + other], fused[width + other :]]


def by_hand(view: ModelView, number: int, branch: Branch) -> list[float]:
    blocks = parts(view, number, branch)
    count = len(view.units(number, branch))
    return [
        sum(mean(block[unit * len(block) // count : (unit + 1) * len(block) // count]) for block in blocks)
        for unit in range(count)
    ]


def assert_agrees(found: Tensor, wanted: list[float]) -> None:
    # the same float64 sums in another order
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("name", marked(ADAPTERS))
def test_it_is_what_loops_over_the_rows_give(name: str, branch: Branch) -> None:
    view = tiny_view(ADAPTERS[name])
    assert_agrees(weight_l1(view, 1, branch), by_hand(view, 1, branch))


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_there_is_one_number_for_each_unit(branch: Branch) -> None:
    view = tiny_view()
    assert len(weight_l1(view, 0, branch)) == len(view.units(0, branch))


def test_all_queries_of_a_group_weigh_as_much_as_its_one_key() -> None:
    """What repeating keys and values for every query head and taking the mean comes to, as MultiPruner does it."""
    view = tiny_view(num_attention_heads=4, num_key_value_heads=2)
    groups, queries, head = 2, 2, 4
    norms = [torch.tensor(row_norms(view.layer(0).get_submodule(f"self_attn.{name}_proj"))) for name in "qkv"]
    repeated = [block.view(groups, 1, head).expand(groups, queries, head).flatten() for block in norms[1:]]
    wanted = torch.stack([norms[0], *repeated]).sum(0).view(groups, -1).mean(1).double()
    # the loops' sums go through float32
    torch.testing.assert_close(weight_l1(view, 0, "attention"), wanted, rtol=1e-6, atol=0)


def test_the_units_that_are_left_keep_their_scores() -> None:
    view = tiny_view("phi3")
    before = {branch: weight_l1(view, 2, branch) for branch in ("attention", "mlp")}
    KeepHeads(2, (1,)).remove_from(view)
    KeepChannels(2, (0, 3, 7)).remove_from(view)
    assert torch.equal(weight_l1(view, 2, "attention"), before["attention"][[1]])
    assert torch.equal(weight_l1(view, 2, "mlp"), before["mlp"][[0, 3, 7]])


def test_half_precision_is_summed_in_double() -> None:
    """In bfloat16 the sums themselves would be equal for most units."""
    view = tiny_view(dtype=torch.bfloat16)
    found = weight_l1(view, 0, "mlp")
    assert found.dtype == torch.float64
    assert_agrees(found, by_hand(view, 0, "mlp"))


def test_neither_biases_nor_the_writer_count() -> None:
    view = tiny_view(attention_bias=True, mlp_bias=True)
    before = weight_l1(view, 0, "mlp")
    with torch.no_grad():
        view.model.get_parameter("model.layers.0.mlp.down_proj.weight").mul_(3)
        view.model.get_parameter("model.layers.0.mlp.up_proj.bias").mul_(3)
    assert torch.equal(weight_l1(view, 0, "mlp"), before)


# --- scores from activations -------------------------------------------------------------------------------------

TOKENS = tiny_tokens(rows=5, seq=7, padding="both")


def state_of(view: ModelView, tokens_per_batch: int = 14) -> PruningState:
    return PruningState(view, TOKENS, merger=Insert(), tokens_per_batch=tokens_per_batch)


def inner_rows(view: ModelView, number: int, branch: Branch) -> Tensor:
    """What enters the writer for each real token, in one forward of the whole model: ``[tokens, d_inner]``."""
    seen: list[Tensor] = []
    writer = view.writer(number, branch)
    handle = writer.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    with torch.no_grad():
        view.model(input_ids=TOKENS.ids, attention_mask=TOKENS.keep.long(), use_cache=False)
    handle.remove()
    return seen[0].reshape(*TOKENS.ids.shape, -1)[TOKENS.keep].double()


def rms(values: list[float]) -> float:
    return math.sqrt(mean([value * value for value in values]))


def assert_near(found: Tensor, wanted: Sequence[float]) -> None:
    # activations of one row more or less at a time, in float32
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("name", marked(ADAPTERS))
def test_inner_norms_are_those_of_the_real_tokens(name: str, branch: Branch) -> None:
    view = tiny_view(ADAPTERS[name])
    state = state_of(view)
    rows = inner_rows(view, 1, branch)
    assert len(rows) == TOKENS.token_count < TOKENS.ids.numel()
    assert_near(measure_inner(state, branch)[1].squares.sqrt(), [rms(column) for column in rows.T.tolist()])
    assert_near(measure_inner(state, branch)[1].mean, rows.mean(0).tolist())
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("name", marked(ADAPTERS))
def test_wanda_is_what_loops_over_weights_and_tokens_give(name: str, branch: Branch) -> None:
    view = tiny_view(ADAPTERS[name])
    state = state_of(view)
    rows, weight = inner_rows(view, 1, branch), weight_rows(view.writer(1, branch))
    columns = [rms(rows[:, entry].tolist()) * sum(abs(float(w)) for w in weight[entry]) for entry in range(len(weight))]
    width = len(columns) // (count := len(view.units(1, branch)))
    wanted = [sum(columns[unit * width : (unit + 1) * width]) for unit in range(count)]
    assert_near(wanda(view, 1, branch, measure_inner(state, branch)[1]), wanted)
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_the_activation_of_a_unit_is_its_length(branch: Branch) -> None:
    view = tiny_view()
    state = state_of(view)
    rows = inner_rows(view, 1, branch).unflatten(1, (len(view.units(1, branch)), -1))
    by_unit = rows.transpose(0, 1).tolist()  # [units, tokens, width]
    wanted = [math.sqrt(mean([sum(x * x for x in token) for token in unit])) for unit in by_unit]
    assert_near(activation(view, 1, branch, measure_inner(state, branch)[1]), wanted)
    state.close()


def test_they_are_measured_on_the_model_as_it_is_now() -> None:
    view = tiny_view()
    state = state_of(view)
    for cut in (KeepChannels(1, (0, 3, 7)), KeepHeads(2, (1,)), DropBranch(0, "mlp"), DropLayers(3, 4)):
        state.merger.merge(state.model, cut, None)
        state.record(cut)
    attention, mlp = measure_inner(state, "attention"), measure_inner(state, "mlp")
    assert sorted(attention) == [0, 1, 2]
    assert sorted(mlp) == [1, 2]
    rows = inner_rows(state.model, 1, "mlp")
    assert_near(mlp[1].squares.sqrt(), [rms(column) for column in rows.T.tolist()])
    assert len(wanda(state.model, 1, "mlp", mlp[1])) == 3
    assert len(activation(state.model, 2, "attention", attention[2])) == 1
    state.close()


def test_the_split_into_batches_does_not_matter_for_them() -> None:
    found = []
    for size in (1, 1000):
        state = state_of(tiny_view(), size)
        found.append(measure_inner(state, "mlp")[2].squares)
        state.close()
    assert_near(found[0], found[1].tolist())


def test_measuring_leaves_no_hooks_behind() -> None:
    state = state_of(tiny_view())
    measure_inner(state, "mlp")
    assert not any(module._forward_pre_hooks for module in state.model.model.modules())
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("name", marked(ADAPTERS))
def test_the_whole_second_moment_is_that_of_the_real_tokens(name: str, branch: Branch) -> None:
    view = tiny_view(ADAPTERS[name])
    state = state_of(view)
    rows = inner_rows(view, 1, branch)
    found = measure_inner(state, branch, whole=True)[1]
    torch.testing.assert_close(found.second, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-6)
    assert_near(found.squares, rows.square().mean(0).tolist())
    assert_near(found.mean, rows.mean(0).tolist())
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_the_fluctuation_of_a_unit_is_what_its_mean_cannot_make_up_for(branch: Branch) -> None:
    view = tiny_view()
    state = state_of(view)
    rows, weight = inner_rows(view, 1, branch), weight_rows(view.writer(1, branch)).double()
    units = len(view.units(1, branch))
    wanted = []
    for number in range(units):
        columns = slice(number * len(weight) // units, (number + 1) * len(weight) // units)
        deviation = rows[:, columns] - rows[:, columns].mean(0)
        parts = [float((d[:, None] * w).square().sum()) for d, w in zip(deviation.T, weight[columns], strict=True)]
        wanted.append(sum(parts) / len(rows))
    assert_near(fluctuation(view, 1, branch, measure_inner(state, branch)[1]), wanted)
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
def test_obs_says_when_each_unit_goes(branch: Branch) -> None:
    view = tiny_view()
    state = state_of(view)
    inner = measure_inner(state, branch, whole=True)[1]
    value = obs(view, 1, branch, inner)
    units = len(view.units(1, branch))
    order = eliminate(weight_rows(view.writer(1, branch)), inner.second, units).order
    assert [float(value[unit]) for unit in order.tolist()] == list(range(units))
    state.close()


@pytest.mark.parametrize("most", [1, 5, 12])
def test_ranking_the_first_ones_only_finds_the_same_first_ones(most: int) -> None:
    view = tiny_view()
    state = state_of(view)
    inner = measure_inner(state, "mlp", whole=True)[1]
    whole, part = obs(view, 1, "mlp", inner), obs(view, 1, "mlp", inner, most=most)
    assert part.argsort()[:most].tolist() == whole.argsort()[:most].tolist()
    assert len(set(part.tolist())) == len(whole)
    state.close()


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize("rule", ["weight-l1", "wanda", "activation", "fluctuation", "obs"])
def test_units_are_scored_by_the_name_of_the_rule(rule: Any, branch: Branch) -> None:
    view = tiny_view()
    state = state_of(view)
    inner = measure_inner(state, branch, whole=rule == "obs")
    by_name: dict[str, Any] = {"wanda": wanda, "activation": activation, "fluctuation": fluctuation, "obs": obs}
    by_name["weight-l1"] = lambda view, number, branch, inner: weight_l1(view, number, branch)
    found = score_units(state, branch, rule)
    assert list(found) == list(view.numbers)
    assert all(torch.equal(worth, by_name[rule](view, n, branch, inner[n])) for n, worth in found.items())
    state.close()


@pytest.mark.parametrize("rule", ["weight-l1", "wanda", "obs"])
def test_only_the_layers_asked_for_that_have_the_branch_are_scored(rule: Any) -> None:
    state = state_of(tiny_view())
    state.merger.merge(state.model, DropBranch(1, "mlp"), None)
    state.record(DropBranch(1, "mlp"))
    assert list(score_units(state, "mlp", rule, layers=[2, 1])) == [2]
    assert list(score_units(state, "mlp", rule)) == [0, 2, 3]
    state.close()


def test_matrices_that_do_not_fit_together_take_more_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_of(tiny_view())
    whole = score_units(state, "mlp", "obs", most=3)
    before = state.flow.runner.layer_tokens
    monkeypatch.setattr(passes, "GRAM_BYTES", 1)
    found = score_units(state, "mlp", "obs", most=3)
    assert state.flow.runner.layer_tokens - before == (1 + 2 + 3 + 4) * state.tokens.ids.numel()
    assert all(torch.equal(worth, whole[number]) for number, worth in found.items())
    state.close()
