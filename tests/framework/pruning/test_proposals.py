"""What selectors yield is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from billhook import Budget, Cut, DropBranch, DropLayers, Pruner, PruneResult, PruningState, Selector, hookimpl
from billhook.errors import PluginError
from billhook.testing import tiny_model, tiny_tokens


@attrs.frozen
class Says(Selector):
    """Gives what it is told to give."""

    answer: Callable[[], Any] = attrs.field(eq=False)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Whatever the test wants."""
        return self.answer()  # type: ignore[no-any-return]


@attrs.frozen
class Stubborn(Selector):
    """Proposes one cut until it is made."""

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The same, for ever."""
        while not state.cuts:
            yield DropLayers(3, 4)


class Veto:
    """Refuses everything."""

    @hookimpl
    def billhook_before_cut(self, cut: Cut) -> str:
        return "no"


def prune(selector: Selector, layers: int = 1, hooks: tuple[object, ...] = ()) -> PruneResult:
    pruner = Pruner(selector=selector, estimator="identity", hooks=hooks, progress=False)
    return pruner.prune(tiny_model(num_hidden_layers=8), calibration=tiny_tokens(), budget=Budget(layers=layers))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: [DropLayers(2, 3)], r"must yield its cuts one by one.*its select gave list\. Write it with yield"),
        (lambda: None, "its select gave NoneType"),
        (lambda: iter([3]), "yields 3, which is no cut"),
        (
            lambda: iter([DropBranch(2, "mlp")]),
            r"yields mlp 2, a DropBranch, and announces DropLayers: name it in kinds",
        ),
    ],
)
def test_what_is_no_proposal_is_refused_by_the_selectors_name(answer: Callable[[], Any], message: str) -> None:
    with pytest.raises(PluginError, match=message) as error:
        prune(Says(answer))
    assert "selector Says(" in str(error.value)


def test_a_vetoed_cut_is_not_proposed_for_ever() -> None:
    with pytest.raises(PluginError, match=r"Stubborn\(\) proposes layers 3:4 for ever, though it was vetoed"):
        prune(Stubborn(), hooks=(Veto(),))


@pytest.mark.parametrize(
    ("cuts", "layers", "message"),
    [
        ([DropLayers(2, 3)], 2, "dropped 1 layers of 2 asked for"),
        ([DropLayers(1, 5)], 2, "dropped 4 layers of 2 asked for"),
        ([], 1, "Nothing was cut: the selector Says("),
    ],
)
def test_a_budget_that_is_missed_is_told(cuts: list[Cut], layers: int, message: str, logged: list[str]) -> None:
    prune(Says(lambda: iter(cuts)), layers)
    assert [line for line in logged if message in line]


def test_cuts_beyond_a_budget_in_parameters_are_told(logged: list[str]) -> None:
    selector = Says(lambda: iter([DropLayers(n, n + 1) for n in (1, 2, 3, 4)]))
    Pruner(selector=selector, estimator="identity", progress=False).prune(
        tiny_model(num_hidden_layers=8), calibration=tiny_tokens(), budget=Budget(parameters=0.1)
    )
    assert [line for line in logged if "went on when the budget was met" in line]
