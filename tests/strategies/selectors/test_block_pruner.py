"""BlockPruner: against the naive search, with its budget met and its protections kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.framework.search.naive_search import BRANCHES, branches, naive_search
from tests.strategies.selecting import TOKENS, first_cut, select, state_of

from billhook import Budget, Cut, DropBranch, ModelView, Pruner, Race
from billhook.errors import InvalidConfig
from billhook.model.branch import Branch
from billhook.testing import tiny_model, tiny_view
from billhook_strategies.objectives.kl_divergence import KLDivergence
from billhook_strategies.selectors.block_pruner import BlockPruner

FIRST = DropBranch(0, "attention")


def without_first_attention(view: ModelView) -> list[Cut]:
    return [cut for cut in branches(view) if cut != FIRST]


def silent(view: ModelView, *which: tuple[int, Branch]) -> ModelView:
    """These branches write nothing, so that nobody misses them."""
    with torch.no_grad():
        for number, branch in which:
            for parameter in view.writer(number, branch).parameters():
                parameter.zero_()
    return view


def all_silent(view: ModelView) -> ModelView:
    which: list[tuple[int, Branch]] = [(number, branch) for number in view.numbers for branch in BRANCHES]
    return silent(view, *which)


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon", "gemma3_text"])
def test_it_drops_what_the_naive_search_drops(family: str) -> None:
    view = tiny_view(family, num_hidden_layers=4, seed=4)
    found = select(BlockPruner(), Budget(parameters=0.3), view)
    naive = naive_search(view, without_first_attention, TOKENS, "perplexity", len(found.cuts))
    assert found.cuts == [step.cut for step in naive]
    assert found.scores == pytest.approx([step.score for step in naive], rel=1e-4)  # float32 against float64 losses


@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
@pytest.mark.parametrize("branches", ["mix", "mha", "mlp"])
@pytest.mark.parametrize(
    "budget",
    [Budget(parameters=0.1), Budget(parameters=0.2, of="backbone"), Budget(bytes=5000), Budget(layers=1)],
    ids=str,
)
def test_the_budget_is_met_by_less_than_one_branch_more(budget: Budget, branches: Any, race: Race | None) -> None:
    found = select(BlockPruner(branches=branches, race=race), budget, tiny_view(num_hidden_layers=6))
    assert 0 <= found.overshoot < found.last


@pytest.mark.parametrize(
    ("branches", "allowed"), [("mix", {"attention", "mlp"}), ("mha", {"attention"}), ("mlp", {"mlp"})]
)
def test_only_the_branches_asked_for_go(branches: Any, allowed: set[str]) -> None:
    found = select(BlockPruner(branches=branches), Budget(parameters=0.2), tiny_view(num_hidden_layers=6))
    assert {cut.branch for cut in found.cuts if isinstance(cut, DropBranch)} == allowed


def test_the_first_layers_attention_is_kept_unless_asked_for() -> None:
    view = silent(tiny_view(), (0, "attention"))  # nothing else could be missed less
    budget, loss = Budget(parameters=0.1), KLDivergence()
    assert first_cut(BlockPruner(), budget, view, objective=loss) != FIRST
    assert first_cut(BlockPruner(first_attention=True), budget, view, objective=loss) == FIRST


def test_it_is_kept_to_the_last() -> None:
    """Until the budget cannot be met without it."""
    view = tiny_view()
    most = sum(p.numel() for p in view.layers.parameters()) - sum(p.numel() for p in view.layer(0).parameters())
    found = select(BlockPruner(), Budget(parameters=(most - 1) / view.parameter_count), view)
    assert FIRST not in found.cuts
    assert found.model.has_branch(0, "attention")


def test_ties_go_to_the_lower_layer_and_to_attention_first() -> None:
    found = select(BlockPruner(), Budget(parameters=0.5), all_silent(tiny_view()))
    order: list[Cut] = [DropBranch(0, "mlp"), *(DropBranch(n, b) for n in (1, 2) for b in ("attention", "mlp"))]
    assert found.cuts == order[: len(found.cuts)]
    assert len(found.cuts) > 3


def test_a_layer_that_loses_both_branches_goes_as_a_whole() -> None:
    view = silent(tiny_view(), (2, "attention"), (2, "mlp"))
    found = select(BlockPruner(), Budget(layers=1), view)
    assert found.cuts == [DropBranch(2, "attention"), DropBranch(2, "mlp")]
    assert found.model.numbers == (0, 1, 3)
    assert found.overshoot == 0


@pytest.mark.parametrize(
    ("selector", "ratio"),
    [(BlockPruner(), 0.795), (BlockPruner(branches="mlp"), 0.5), (BlockPruner(branches="mha"), 0.3)],
)
def test_what_all_it_may_cut_is_too_little_for_is_refused_before_anything_is_scored(
    selector: BlockPruner, ratio: float
) -> None:
    with state_of(tiny_view()) as state:
        message = r"cannot be met: [\d,]+ more parameters are to go, and all that may be cut has [\d,]+\. Ask for less"
        with pytest.raises(InvalidConfig, match=message):
            next(selector.select(state, Budget(parameters=ratio)))
        assert state.flow.runner.layer_tokens == 0


def test_what_only_turns_out_too_little_is_refused_then() -> None:
    """One branch must stay: which one, nobody knows beforehand."""
    view = tiny_view()
    budget = Budget(parameters=(view.layer_parameter_count - 10) / view.parameter_count)
    with pytest.raises(InvalidConfig, match=r"cannot be met: [\d,]+ more parameters are to go, and nothing .* is left"):
        select(BlockPruner(first_attention=True), budget, view)


def test_it_yields_branches_and_needs_an_objective() -> None:
    assert BlockPruner().kinds() == (DropBranch,)
    assert BlockPruner().needs_objective()


def test_what_it_drops_is_repaired_by_what_is_left_before_it() -> None:
    result = Pruner.following("replaceme-ls", selector="block-pruner", estimator="ridge").prune(
        tiny_model(), calibration=TOKENS, budget=Budget(parameters=0.2)
    )
    assert all(report.donor is not None for report in result.reports)


def test_other_branches_are_refused() -> None:
    wrong: Any = "attention"
    with pytest.raises(InvalidConfig, match="'branches' of BlockPruner must be 'mix', 'mha' or 'mlp'; got 'attention'"):
        BlockPruner(branches=wrong)
