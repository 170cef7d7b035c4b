"""A new kind of cut is one file, and here it is: nothing in billhook has heard of it, and everything works with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
import torch

from billhook import (
    Budget,
    Cut,
    Decision,
    Journal,
    LayerVersion,
    ModelView,
    Place,
    Plan,
    Pruner,
    PruneResult,
    PruningState,
    Repair,
    RepairSite,
    Search,
    Selector,
    load,
    site_before,
    to_blockpruner,
    without_branch,
)
from billhook.cli.removed import Removed
from billhook.errors import InvalidCut, InvalidPlan
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens, tiny_view, zeroed

TOKENS = tiny_tokens(rows=8, seq=16)


@attrs.frozen
class DropBetween(Cut):
    """What stands between two attentions and the second of them: the MLP of a layer, and the attention of the next."""

    kind: ClassVar[str] = "drop-between"

    layer: int

    def __str__(self) -> str:
        return f"mlp {self.layer} and attention {self.layer + 1}"

    @property
    def branches(self) -> tuple[Place, ...]:
        """Both, in the order of the stream."""
        return ((self.layer, "mlp"), (self.layer + 1, "attention"))

    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` unless both are there."""
        if missing := [place for place in self.branches if not view.has_branch(*place)]:
            raise InvalidCut(f"{self} cannot be dropped: {missing} are not there.")

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """The attention of the first layer makes up for both."""
        return site_before(view, lambda place: place in self.branches)

    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """Each layer without its branch."""
        return {
            number: LayerVersion(without_branch(view.layer(number), branch, view.adapter.layout(branch)), {branch: ()})
            for number, branch in self.branches
        }


@attrs.frozen
class Between(Selector):
    """Searches for the best one."""

    def kinds(self) -> tuple[type[Cut], ...]:
        """The new kind."""
        return (DropBetween,)

    def needs_objective(self) -> bool:
        """Always."""
        return True

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """One cut in each step."""
        search = Search(state, budget.parameter_count(state.dense))
        while not search.done:
            yield search.best([DropBetween(number) for number in (1, 2, 3) if state.model.has_branch(number, "mlp")])


def pruned(journal: Path | None = None, *, when: str = "winner", merger: str = "refit") -> PruneResult:
    repair = Repair(when=when)  # type: ignore[arg-type] # one of the choices
    pruner = Pruner(selector=Between(), estimator="ridge", merger=merger, repair=repair, journal=journal)
    model = tiny_model(num_hidden_layers=6)
    return pruner.prune(model, tiny_tokenizer(), calibration=TOKENS, budget=Budget(parameters=0.1))


@pytest.mark.parametrize("when", ["winner", "trial", "final"])
@pytest.mark.parametrize("merger", ["fold", "refit", "insert"])
def test_it_is_searched_repaired_merged_saved_and_loaded(when: str, merger: str, tmp_path: Path) -> None:
    result = pruned(when=when, merger=merger)
    assert all(isinstance(cut, DropBetween) for cut in result.plan.cuts)
    again, _ = load(str(result.save(tmp_path / "saved")))  # compared with the model in memory before it is in place
    ids = TOKENS.ids[:1]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, result.model(input_ids=ids).logits)


def test_the_model_computes_what_it_does_with_those_branches_silenced() -> None:
    view = tiny_view(num_hidden_layers=6)
    after, batch = view.copy(), TOKENS.batches()[0]
    DropBetween(2).remove_from(after)
    with torch.no_grad():
        ours, theirs = (m(input_ids=batch.ids).logits for m in (after.model, zeroed(view, DropBetween(2))))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # float32, sums in another order


def test_plans_and_journals_remember_it(tmp_path: Path) -> None:
    plan = pruned().plan
    assert Plan.from_json(plan.to_json()) == plan
    Journal(tmp_path / "journal", {}).note(Decision(cut=DropBetween(2), score=1.5))
    assert Journal(tmp_path / "journal", {}).recall() == Decision(cut=DropBetween(2), score=1.5)


def test_a_search_goes_on_from_its_journal(tmp_path: Path) -> None:
    whole = pruned(tmp_path / "journal").plan
    lines = (tmp_path / "journal").read_text().splitlines(keepends=True)
    (tmp_path / "journal").write_text("".join(lines[:2]))
    assert pruned(tmp_path / "journal").plan == whole


def test_the_command_says_what_went_and_others_can_be_told() -> None:
    assert dict(Removed([DropBetween(2)]).facts()) == {"without attention": "layer 3", "without mlp": "layer 2"}
    plan = attrs.evolve(pruned().plan, cuts=(DropBetween(2),))
    assert to_blockpruner(plan) == {"1": [["mlp", 2]], "2": [["mlp", 2], ["mha", 3]]}


def test_of_a_plan_with_a_kind_that_nobody_has_defined_it_is_said_what_to_do() -> None:
    text = pruned().plan.to_json().replace("drop-between", "drop-beyond")
    with pytest.raises(
        InvalidPlan, match=r"No cut is of kind 'drop-beyond'\. Known: .*drop-between.* import that first"
    ):
        Plan.from_json(text)
