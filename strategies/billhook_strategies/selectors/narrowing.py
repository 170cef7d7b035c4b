"""Narrowing: what the selectors of channels and of heads have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import attrs
from torch import Tensor

from billhook import Cut, KeepChannels, KeepHeads, ModelView, PruningState, Race, Search
from billhook.cuts.candidate import Candidate
from billhook.cuts.uniform import can_be_uniform
from billhook.errors import InvalidConfig
from billhook.measures.unit_scores import InnerStatistics, activation, fluctuation, measure_inner, obs, wanda, weight_l1
from billhook.model.branch import Branch
from billhook.search.search import refuse_hopeless

Score = Literal["weight-l1", "wanda", "activation", "fluctuation", "obs"]
SCORES: dict[str, Callable[[ModelView, int, Branch, InnerStatistics], Tensor]] = {
    "wanda": wanda,
    "activation": activation,
    "fluctuation": fluctuation,
    "obs": obs,
}
"""Those that are measured on activations; ``weight-l1`` needs none."""


@attrs.frozen(kw_only=True)
class Narrowing:
    """Takes the least important units out of one branch at a time, a group in each step.

    Attributes:
        branch: which branches get narrower.
        group: units in a group.
        score: what a unit is worth: see :mod:`billhook.measures.unit_scores`. Measured once, before the first step.
        uniform: take a group out of *every* layer in each step, without searching.
        race: rounds for a faster search.
    """

    branch: Branch
    group: int
    score: Score
    uniform: bool
    race: Race | None

    def select(self, state: PruningState, target: int) -> Iterator[Cut]:
        """Cuts until the dense model has lost ``target`` parameters, or less than a group more.

        With :attr:`uniform` a group of every layer.
        """
        if state.removed_parameters >= target:
            return
        ranks = self._ranks(state)
        refuse_hopeless(state, target, self._most(state.model, ranks))
        if self.uniform:
            yield from self._evenly(state, target, ranks)
            return
        search = Search(state, target, race=self.race)
        while not search.done:
            cuts = [self._cut(state.model, n, ranks[n]) for n in state.model.numbers if n in ranks]
            yield search.best([cut for cut in cuts if cut is not None])

    def _evenly(self, state: PruningState, target: int, ranks: dict[int, list[int]]) -> Iterator[Cut]:
        while state.removed_parameters < target:
            cuts = [self._cut(state.model, n, ranks[n]) for n in ranks]
            if not cuts or None in cuts:
                raise InvalidConfig(
                    f"The budget cannot be met: {target - state.removed_parameters:,} more parameters are to go, and "
                    f"no layer can lose {self.group} more {self.branch} units. Ask for less, or allow more to be cut."
                )
            for cut in cuts:
                if cut is not None:
                    yield cut
                if cut in state.vetoed:
                    raise InvalidConfig(
                        f"All {self.branch} branches were to get narrower alike, but a hook vetoed {cut}. Do without "
                        f"uniform, or without the veto."
                    )

    def _cut(self, view: ModelView, number: int, rank: list[int]) -> Cut | None:
        """Keep all units of the branch but the ``group`` least important ones; None if too few would be left."""
        present = set(view.units(number, self.branch))
        kept = [unit for unit in rank if unit in present][: -self.group]
        return self._kept(number, kept) if kept else None

    def _most(self, view: ModelView, ranks: dict[int, list[int]]) -> int:
        """Parameters of all groups that may go."""
        groups = {number: (len(rank) - 1) // self.group for number, rank in ranks.items()}
        if self.uniform:
            groups = dict.fromkeys(groups, min(groups.values(), default=0))
        smallest = [self._kept(n, rank[: len(rank) - groups[n] * self.group]) for n, rank in ranks.items() if groups[n]]
        return sum(Candidate.of(cut, view).parameters for cut in smallest)

    def _kept(self, number: int, units: list[int]) -> Cut:
        make = KeepChannels if self.branch == "mlp" else KeepHeads
        return make(number, tuple(sorted(units)))

    def _ranks(self, state: PruningState) -> dict[int, list[int]]:
        """By layer, the original numbers of its units, the most important first; ties to the lower number."""
        view = state.model
        layers = [number for number in view.numbers if view.has_branch(number, self.branch)]
        if layers:
            self._refuse_rigid(view)
        values = self._values(state, layers)
        ranks = {}
        for number in layers:
            pairs = zip(view.units(number, self.branch), values[number].tolist(), strict=True)
            ranks[number] = [unit for unit, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]
        return ranks

    def _values(self, state: PruningState, layers: list[int]) -> dict[int, Tensor]:
        if self.score == "weight-l1":
            return {number: weight_l1(state.model, number, self.branch) for number in layers}
        found = measure_inner(state, self.branch, whole=self.score == "obs")
        score = SCORES[self.score]
        return {number: score(state.model, number, self.branch, found[number]) for number in layers}

    def _refuse_rigid(self, view: ModelView) -> None:
        reason = view.adapter.why_not_narrowable(view.model.config, self.branch)
        if reason:
            raise InvalidConfig(f"The {self.branch} branches cannot get narrower: {reason} Leave that stage out.")
        if self.uniform and not can_be_uniform(view, self.branch):
            raise InvalidConfig(
                f"The {self.branch} branches of a {view.model.config.model_type} model cannot get narrower and stay "
                f"stock: its config cannot say so. Leave that stage out (a share of 0), or do without uniform."
            )


def refuse_bad_options(owner: str, group: int | None, score: str) -> None:
    """Raise :class:`InvalidConfig` for a group of no units, or a score that is none."""
    if group is not None and group < 1:
        raise InvalidConfig(f"The 'group' of {owner} must be at least 1; got {group}.")
    if score not in ("weight-l1", *SCORES):
        raise InvalidConfig(f"The 'score' of {owner} must be one of weight-l1, {', '.join(SCORES)}; got {score!r}.")
