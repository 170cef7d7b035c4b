"""Selectors within selectors go by the names that their own registry knows them by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from billhook import (
    Budget,
    Cut,
    DropLayers,
    Plan,
    Pruner,
    PruningState,
    Registry,
    Selector,
    default_registry,
    hookimpl,
)
from billhook.errors import InvalidConfig, UnknownStrategy
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.selectors.sequence import Sequence, Stage


@attrs.frozen(kw_only=True)
class Third(Selector):
    """Drops the layer in the middle, or the one that is named."""

    layer: int = 2

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """One cut."""
        yield DropLayers(self.layer, self.layer + 1)


class OfThisProgram:
    """A plugin that comes with a pruner."""

    @hookimpl
    def billhook_register_selectors(self, register: Callable[[str, Callable[..., Selector]], None]) -> None:
        """``third``."""
        register("third", Third)


NESTED = Sequence([Stage(Third(layer=3), 2.0)])
TOLD = [{"selector": {"name": "this-program:third", "options": {"layer": 3}}, "share": 2.0}]


def extended() -> Registry:
    return default_registry().extended([OfThisProgram()])


@pytest.mark.parametrize("where", ["hooks", "registry"])
def test_a_plan_names_a_nested_selector_so_that_the_same_pruner_builds_it_again(where: str, tmp_path: Path) -> None:
    own = {"hooks": [OfThisProgram()]} if where == "hooks" else {"registry": extended()}
    pruner = Pruner(selector=NESTED, estimator="identity", journal=tmp_path / "journal", **own)  # type: ignore[arg-type]
    plan = pruner.prune(tiny_model(num_hidden_layers=6), calibration=tiny_tokens(), budget=Budget(layers=1)).plan
    spec = Plan.from_json(plan.to_json()).selector
    assert spec.options == {"stages": TOLD}
    assert pruner.whole_registry.create("selector", spec.name, spec.options) == NESTED
    journal = json.loads((tmp_path / "journal").read_text().splitlines()[0])
    assert journal["run"]["selector"]["options"] == {"stages": TOLD}


def test_another_registry_does_not_know_it() -> None:
    spec = extended().spec("selector", NESTED)
    with pytest.raises(UnknownStrategy, match="No selector is named 'this-program:third'"):
        default_registry().create("selector", spec.name, spec.options)
    assert default_registry().options_of(NESTED)["stages"][0]["selector"]["name"] == f"({__name__}.Third)"


@pytest.mark.parametrize("given", [5, {"options": {}}, {"name": "sleb", "shares": 2}])
def test_what_is_no_selector_is_refused_with_what_one_looks_like(given: object) -> None:
    with pytest.raises(InvalidConfig, match="A selector within a selector is a name, or an object of name and options"):
        default_registry().create("selector", "sequence", {"stages": [{"selector": given}]})
