"""The rows of a leaderboard: how each is made, and which seconds count."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from benchmarks.greedy import Known, Step, Stopwatch, upto, with_reused
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import billhook
from billhook import Budget, Calibration, Plan, Pruner, PruneResult, Race, Recipe, Tokens
from billhook.cli.progress import ProgressBars
from billhook.cli.sources import source_of
from billhook.plugins.registry import default_registry
from billhook.pruning.applying import Planned
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.multi_pruner import MultiPruner
from billhook_strategies.selectors.sequence import Sequence as Stages

PUBLISHED = {
    "ShortGPT": "shortgpt",
    "ReplaceMe": "replaceme",
    "SLEB": "sleb",
    "BlockPruner": "blockpruner",
    "MultiPruner": "multipruner",
}
"""Rows, and the recipes that they follow."""

DENSE, OWN, REPAIRED = "dense", "billhook", "+repair"


@attrs.frozen
class Place:
    """Of a cell: a row, a share of parameters, a seed; 0 and 0 for the dense model."""

    row: str
    ratio: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        return self.row if self.row == DENSE else f"{self.row}-{self.ratio:g}-seed{self.seed}"


@attrs.frozen
class Made:
    """A pruned model; what choosing its cuts took, and what all took, in seconds."""

    result: PruneResult
    choosing: float
    seconds: float


@attrs.frozen
class Contestants:
    """Makes the model of any row.

    Attributes:
        model: the dense one.
        tokenizer: its tokenizer.
        repairer: how the rows "with repair" are repaired; its selector is not used.
        options: of the command.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    repairer: Pruner
    options: argparse.Namespace
    _rows: dict[int, tuple[Calibration, Tokens]] = attrs.field(factory=dict, init=False)
    _found: dict[str, tuple[list[Step], Plan]] = attrs.field(factory=dict, init=False)

    def calibration(self, seed: int) -> tuple[Calibration, Tokens]:
        """The rows that all recipes get."""
        if seed not in self._rows:
            data = Calibration(
                source=source_of(self.options.calibration),
                samples=self.options.samples,
                seqlen=self.options.seqlen,
                seed=seed,
            )
            self._rows[seed] = data, data.tokenize(self.tokenizer, self.model)
        return self._rows[seed]

    def recipe(self, row: str) -> Recipe:
        """What a row follows: racing searches, and channels in groups that fit the model."""
        found = billhook.recipe(PUBLISHED.get(row, row))
        selector = found.selector
        if isinstance(selector, MultiPruner):
            selector = attrs.evolve(selector, channel_group=self.options.group)
        if row in PUBLISHED and selector.needs_objective() and not self.options.exact:
            selector = attrs.evolve(cast(Any, selector), race=Race())
        repair = found.repair
        if row in PUBLISHED and selector.needs_objective():
            repair = attrs.evolve(repair, search_tokens=self.options.search_tokens)
        return attrs.evolve(found, selector=selector, repair=repair)

    def by(self, row: str) -> str:
        """All that a row's figures depend on but the data and the ratio."""
        if row == DENSE:
            return DENSE
        if row.endswith(REPAIRED):
            by = self.repairer
            made = self.recipe(row.removesuffix(REPAIRED))
            return f"{made.selector} {made.repair.search_tokens} {by.estimator} {by.merger} {by.repair}"
        found = self.recipe(row)
        return f"{found.selector} {found.estimator} {found.merger} {found.objective} {found.repair}"

    def make(self, place: Place) -> Made:
        """A published row, or the own one."""
        if place.row == OWN:
            return self._searched(place)
        selector = self.recipe(place.row).selector
        if not selector.needs_objective():
            return self._at_once(place)
        steps, plan = self._stages(place, selector) if isinstance(selector, MultiPruner) else self._greedy(place)
        seconds = steps[-1].seconds
        if isinstance(selector, MultiPruner):
            seconds = with_reused(self._branches(place)[0], steps)
        spec = default_registry().spec("selector", selector)
        cuts = tuple(step.cut for step in steps)
        plan = attrs.evolve(plan, cuts=cuts, budget=Budget(parameters=place.ratio), selector=spec)
        return Made(billhook.apply(plan, self.model, self.tokenizer), seconds, seconds)

    def _at_once(self, place: Place) -> Made:
        """By a recipe that does not search."""
        watch = Stopwatch()
        result = self._prune(Pruner.following(self.recipe(place.row)), place, watch)
        return Made(result, result.metrics["seconds_selecting"], watch.seconds)

    def _searched(self, place: Place) -> Made:
        """By a recipe with a search of its own for each ratio, whose journal makes an interrupted one go on."""
        watch = self._watch(str(place))
        result = self._prune(Pruner.following(self.recipe(place.row)), place, watch, journal=str(place))
        return Made(result, watch.steps[-1].seconds, watch.seconds)

    def repaired(self, place: Place, plan: Plan, choosing: float) -> Made:
        """The cuts of a published row's plan, which took so many seconds to choose, repaired."""
        watch = Stopwatch()
        pruner = attrs.evolve(self.repairer, selector=Planned(plan.cuts))
        result = self._prune(pruner, place, watch)
        result = attrs.evolve(result, plan=attrs.evolve(result.plan, selector=plan.selector))
        return Made(result, choosing, choosing + watch.seconds)

    def rebuilt(self, place: Place, plan: Plan) -> PruneResult:
        """The model of a plan that this made before."""
        data, rows = self.calibration(place.seed)
        return billhook.apply(plan, self.model, self.tokenizer, calibration=attrs.evolve(data, source=rows))

    def _greedy(self, place: Place) -> tuple[Sequence[Step], Plan]:
        """Those steps of the search to the largest ratio that reach this one."""
        recipe, largest = self.recipe(place.row), max(self.options.ratios)
        steps, plan = self._search(recipe, attrs.evolve(place, ratio=largest), f"{place.row}-upto")
        return upto(steps, place.ratio), plan

    def _branches(self, place: Place) -> tuple[Sequence[Step], Plan]:
        """BlockPruner's at this place."""
        return self._greedy(attrs.evolve(place, row="BlockPruner"))

    def _stages(self, place: Place, selector: MultiPruner) -> tuple[Sequence[Step], Plan]:
        """MultiPruner's search, which knows the branches already."""
        known = Known(tuple(step.cut for step in self._branches(place)[0]))
        stages = [
            attrs.evolve(stage, selector=known) if isinstance(stage.selector, BlockPruner) else stage
            for stage in selector.sequence.stages
        ]
        recipe = attrs.evolve(self.recipe(place.row), selector=Stages(stages))
        return self._search(recipe, place, place.row)

    def _search(self, recipe: Recipe, place: Place, name: str) -> tuple[list[Step], Plan]:
        name = f"{name}-{place.ratio:g}-seed{place.seed}"
        if name not in self._found:
            watch = self._watch(name)
            result = self._prune(Pruner.following(recipe), place, watch, journal=name)
            self._found[name] = watch.steps, result.plan
        return self._found[name]

    def _watch(self, name: str) -> Stopwatch:
        return Stopwatch(self._journals / f"{name}.seconds.json")

    def _prune(self, pruner: Pruner, place: Place, watch: Stopwatch, *, journal: str = "") -> PruneResult:
        data, rows = self.calibration(place.seed)
        file = self._journals / f"{journal}.jsonl" if journal else None
        with ProgressBars() as bars:
            pruner = attrs.evolve(pruner, hooks=[watch, bars], journal=file)
            budget = Budget(parameters=place.ratio)
            result = pruner.prune(self.model, self.tokenizer, calibration=rows, budget=budget)
        return attrs.evolve(result, plan=attrs.evolve(result.plan, calibration=data.record(rows)))

    @property
    def _journals(self) -> Path:
        return cast(Path, self.options.work) / "journals"
