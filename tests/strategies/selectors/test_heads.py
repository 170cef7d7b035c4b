"""Heads: whole key-value groups of the attention that misses them least, against the naive search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.framework.search.naive_search import naive_search
from tests.strategies.selecting import TOKENS, select, state_of
from transformers import AutoModelForCausalLM

from billhook import Budget, Cut, KeepHeads, ModelView, Pruner
from billhook.errors import InvalidConfig
from billhook.measures.unit_scores import measure_inner, wanda, weight_l1
from billhook.testing import tiny_model, tiny_tokenizer, tiny_view
from billhook_strategies.selectors.heads import Heads

FIVE_PERCENT = Budget(parameters=0.05)


@pytest.mark.parametrize("score", ["weight-l1", "wanda"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "falcon", "qwen3"])
def test_it_makes_the_cuts_of_the_naive_search(family: str, score: Any) -> None:
    view = tiny_view(family, num_hidden_layers=3, seed=7)
    with state_of(view) as state:
        measured = measure_inner(state, "attention")
        values = {
            n: weight_l1(view, n, "attention") if score == "weight-l1" else wanda(view, n, "attention", measured[n])
            for n in view.numbers
        }
    order = {number: value.argsort(stable=True).tolist() for number, value in values.items()}

    def candidates(present: ModelView) -> list[Cut]:
        left = {number: len(present.units(number, "attention")) - 1 for number in present.numbers}
        return [KeepHeads(n, tuple(sorted(order[n][-count:]))) for n, count in left.items() if count]

    found = select(Heads(score=score), FIVE_PERCENT, view)
    naive = naive_search(view, candidates, TOKENS, "perplexity", len(found.cuts))
    assert found.cuts == [step.cut for step in naive]
    assert found.scores == pytest.approx([step.score for step in naive], rel=1e-4)  # float32 against float64 losses


@pytest.mark.parametrize("group", [1, 2, 3])
def test_the_budget_is_met_by_less_than_one_group_more(group: int) -> None:
    view = tiny_view("opt")  # four heads
    found = select(Heads(group=group), FIVE_PERCENT, view)
    assert 0 <= found.overshoot < found.last
    kept = {len(cut.kept) for cut in found.cuts if isinstance(cut, KeepHeads)}
    assert kept <= {4 - group * steps for steps in (1, 2, 3)}


def test_query_heads_go_with_the_key_value_head_that_they_read() -> None:
    view = tiny_view(num_attention_heads=4, num_key_value_heads=2)
    found = select(Heads(), Budget(parameters=0.01), view)
    (cut,) = found.cuts
    assert isinstance(cut, KeepHeads)
    attention = found.model.layer(cut.layer).get_submodule("self_attn")
    shapes = [tuple(attention.get_parameter(f"{name}_proj.weight").shape) for name in "qkvo"]
    assert shapes == [(8, 16), (4, 16), (4, 16), (16, 8)]


def test_every_attention_keeps_a_group() -> None:
    found = select(Heads(), Budget(parameters=0.13), tiny_view())
    assert {len(found.model.units(number, "attention")) for number in range(4)} == {1}
    with pytest.raises(InvalidConfig, match=r"cannot be met: [\d,]+ more parameters are to go"):
        select(Heads(), Budget(parameters=0.3), tiny_view())


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3"])
def test_uniform_results_are_loaded_by_stock_code(family: str, tmp_path: Path) -> None:
    pruner = Pruner.following("replaceme-ls", selector=Heads(uniform=True), estimator="identity")
    result = pruner.prune(tiny_model(family), tiny_tokenizer(), calibration=TOKENS, budget=FIVE_PERCENT)
    fresh = AutoModelForCausalLM.from_pretrained(result.save(tmp_path / "out"))
    assert type(fresh) is type(tiny_model(family))
    assert sum(p.numel() for p in fresh.parameters()) == result.metrics["parameters_after"]
    assert fresh.config.num_key_value_heads == 1


@pytest.mark.parametrize("family", ["gpt2", "opt", "falcon"])
def test_uniform_is_refused_where_stock_code_could_not_load_it(family: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"attention branches of a {family} model cannot .* and stay stock"):
        select(Heads(uniform=True), FIVE_PERCENT, tiny_view(family))


def test_a_family_whose_heads_cannot_be_taken_apart_is_refused() -> None:
    message = r"The attention branches cannot get narrower: .*normalised over all heads.* Leave that stage out"
    with pytest.raises(InvalidConfig, match=message):
        select(Heads(), FIVE_PERCENT, tiny_view("olmo2"))


def test_it_yields_heads_and_needs_an_objective_if_it_searches() -> None:
    assert Heads().kinds() == (KeepHeads,)
    assert Heads().needs_objective()
    assert not Heads(uniform=True).needs_objective()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 0}, "'group' of Heads must be at least 1; got 0"),
        ({"score": "magnitude"}, "'score' of Heads must be one of weight-l1, .*, obs; got 'magnitude'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Heads(**options)
