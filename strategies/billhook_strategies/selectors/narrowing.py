"""Narrowing: what the selectors of channels and of heads have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import attrs

from billhook import (
    Branch,
    Cut,
    ModelView,
    Place,
    PruningState,
    Race,
    Search,
    UnitRule,
    keeping,
    refuse_hopeless,
    score_units,
    typed,
)
from billhook.errors import InvalidConfig
from billhook_strategies.selectors.evenly import evenly, sizes_of


@attrs.frozen(kw_only=True, field_transformer=typed)
class Narrowing:
    """Takes the least important units out of one branch at a time, a group in each step.

    Attributes:
        branch: which branches get narrower.
        group: units in a group.
        score: what a unit is worth. Measured once, before the first step.
        uniform: take as many groups out of *every* layer, without searching.
        race: rounds for a faster search.
    """

    branch: Branch
    group: int
    score: UnitRule
    uniform: bool
    race: Race | None

    def select(self, state: PruningState, target: int) -> Iterator[Cut]:
        """Cuts until the dense model has lost ``target`` parameters, or less than a group more.

        With :attr:`uniform` a group of every layer.
        """
        if state.removed_parameters >= target:
            return
        sizes = self._sizes(state.model)
        if self.uniform:
            yield from evenly(state, target, sizes, lambda most: self._order(state, most))
            return
        refuse_hopeless(state, target, sum(max(own.values(), default=0) for own in sizes.values()))
        order = self._order(state)
        search = Search(state, target, race=self.race)
        while not search.done:
            cuts = [self._cut(state.model, place, order[place]) for place in state.model.branches() if place in order]
            yield search.best([cut for cut in cuts if cut is not None])

    def _sizes(self, view: ModelView) -> dict[Place, dict[int, int]]:
        """Of each branch, by how many units may go: the parameters that would go with them."""
        places = [place for place in view.branches() if place[1] == self.branch]
        if places:
            self._refuse_rigid(view)
        counts = {place: range(self.group, len(view.units(*place)), self.group) for place in places}
        return {place: sizes_of(view, place, own) for place, own in counts.items()}

    def _cut(self, view: ModelView, place: Place, order: list[int]) -> Cut | None:
        """Keep all units of the branch but the ``group`` least important ones; None if too few would be left."""
        present = {*view.units(*place)}
        kept = [unit for unit in order if unit in present][self.group :]
        return keeping(place, kept) if kept else None

    def _order(self, state: PruningState, most: int | None = None) -> dict[Place, list[int]]:
        """By branch, the original numbers of its units, the least important first; of equal ones the higher number.

        Only the first ``most`` need be right; all of them if None.
        """
        order: dict[Place, list[int]] = {}
        for number, worth in score_units(state, self.branch, self.score, most=most).items():
            pairs = zip(worth.tolist(), state.model.units(number, self.branch), strict=True)
            order[number, self.branch] = [unit for _, unit in sorted(pairs, key=lambda pair: (pair[0], -pair[1]))]
        return order

    def _refuse_rigid(self, view: ModelView) -> None:
        reason = view.adapter.why_not_narrowable(view.model.config, self.branch)
        if reason:
            raise InvalidConfig(f"The {self.branch} branches cannot get narrower: {reason} Leave that stage out.")


def refuse_bad_options(owner: str, group: int | None, score: str) -> None:
    """Raise :class:`InvalidConfig` for a group of no units, or a score that is none."""
    if group is not None and group < 1:
        raise InvalidConfig(f"The 'group' of {owner} must be at least 1; got {group}.")
    rules = get_args(UnitRule)
    if score not in rules:
        raise InvalidConfig(f"The 'score' of {owner} must be one of {', '.join(rules)}; got {score!r}.")
