"""Mixed: branches, channels and heads in one search, by what they cost for what they save."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

import attrs
from torch import Tensor

from billhook import (
    Branch,
    Budget,
    Cut,
    Decision,
    DropBranch,
    KeepChannels,
    KeepHeads,
    ModelView,
    Place,
    PruningState,
    SearchProgress,
    Selector,
    UnitRule,
    compare,
    hookimpl,
    keeping,
    refuse_hopeless,
    score_units,
    typed,
)
from billhook.errors import InvalidConfig, InvalidJournal
from billhook_strategies.selectors.block_pruner import possible, removable

BranchCut = DropBranch | KeepChannels | KeepHeads

MOST_ROUNDS = 10_000
MOST_PARTS = 64
"""More than anybody could want. A plan that asks for more would keep a run busy for ever."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class Mixed(Selector):
    """In each round, of all structures those whose removal costs least for the parameters that it saves.

    A candidate is a whole branch, or a part of its units. All are compared by the state's objective (repaired, with
    ``Repair(when="trial")``) on the same tokens. Those with the smallest rise of the loss for each parameter go
    together, at most one from a branch, until the round's share of the budget is met. So how deep, how wide, and which
    layers how wide, is one decision, and not three with shares set beforehand.

    Attributes:
        rounds: how many times all is compared anew. More are slower, and choose better.
        parts: shares of a branch's original units that a candidate may take at once, in (0, 1).
        score: which units of a branch go first: those that are worth least by this rule, see
            :data:`billhook.UnitRule`.
        tokens: how many calibration tokens candidates are compared on.
        branches: whether whole branches may go.
        heads: whether attention may get narrower.
        first_attention: whether the first layer's attention may be touched; see
            :class:`billhook_strategies.selectors.block_pruner.BlockPruner`.

    Families whose attention cannot get narrower (OLMo 2, Falcon's older architecture) take ``heads=False``.
    """

    rounds: int = 8
    parts: tuple[float, ...] = (0.125,)
    score: UnitRule = "obs"
    tokens: int = 2048
    branches: bool = True
    heads: bool = True
    first_attention: bool = False

    def __attrs_post_init__(self) -> None:
        for name in ("rounds", "tokens"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"The {name!r} of Mixed must be at least 1; got {getattr(self, name)}.")
        if self.rounds > MOST_ROUNDS:
            raise InvalidConfig(f"The 'rounds' of Mixed must not be above {MOST_ROUNDS:,}; got {self.rounds}.")
        if len(self.parts) > MOST_PARTS:
            raise InvalidConfig(f"The 'parts' of Mixed are {MOST_PARTS} at most; got {len(self.parts)}.")
        if not self.parts or not all(0 < part < 1 for part in self.parts):
            raise InvalidConfig(f"The 'parts' of Mixed must lie between 0 and 1, at least one; got {self.parts}.")
        if self.score not in get_args(UnitRule):
            raise InvalidConfig(
                f"The 'score' of Mixed must be one of {', '.join(get_args(UnitRule))}; got {self.score!r}."
            )

    def needs_objective(self) -> bool:
        """True: it searches."""
        return True

    def kinds(self) -> tuple[type[Cut], ...]:
        """Channels, and branches and heads if they may go."""
        return (KeepChannels, *([DropBranch] if self.branches else []), *([KeepHeads] if self.heads else []))

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Cuts until the dense model has lost what the budget says, or less than a part of a branch more."""
        target, begin = budget.parameter_count(state.dense), state.removed_parameters
        refuse_hopeless(state, target, self._removable(state.model))
        number, pace = 0, _Pace(target)
        while state.removed_parameters < target:
            number += 1
            share = min(1.0, number / self.rounds)
            quota = begin + math.ceil((target - begin) * share)
            if state.removed_parameters < quota:
                yield from self._round(state, quota, functools.partial(_progress, state, number, pace))

    def _round(self, state: PruningState, quota: int, tell: Callable[[list[Decision], int], None]) -> Iterator[Cut]:
        journal = state.journal
        decisions = [] if journal is None else journal.recall_round()
        if not decisions:
            decisions = self._decide(state, quota, tell)
            if journal is not None:
                journal.note_round(decisions)
        for decision in decisions:
            if decision.cut in state.vetoed:
                continue
            if journal is not None and not possible(decision.cut, state.model):
                raise InvalidJournal(
                    f"The journal {journal.path} says {decision.cut}, which is not possible: another run, or another "
                    f"version of a strategy, has written to it. It is left as it is; to begin anew, name another "
                    f"journal (--journal FILE)."
                )
            state.scores[decision.cut] = decision.score
            yield decision.cut

    def _decide(self, state: PruningState, quota: int, tell: Callable[[list[Decision], int], None]) -> list[Decision]:
        """The cheapest cuts; the last in the stream first, so that what was found for the others still holds."""
        cuts = [cut for cut in self._candidates(state) if cut not in state.vetoed]
        missing = quota - state.removed_parameters
        if not cuts:
            raise InvalidConfig(
                f"The budget cannot be met: {missing:,} more parameters are to go, and nothing that may be cut is "
                f"left. Ask for less, or allow more to be cut."
            )
        tell([], len(cuts))
        found = compare(state, cuts, tokens=self.tokens)
        sizes = {cut: cut.parameter_count(state.model) for cut in cuts}
        picked = self._cheapest(cuts, {c: (found.after[c] - found.present) / sizes[c] for c in cuts}, sizes, missing)
        order = {place: number for number, place in enumerate(state.model.branches())}
        picked.sort(key=lambda cut: -order[cut.layer, cut.branch])
        decisions = [Decision(cut=cut, score=_value(state, found.after[cut])) for cut in picked]
        tell(decisions, len(cuts))
        return decisions

    @staticmethod
    def _cheapest(
        cuts: list[BranchCut], cost: Mapping[BranchCut, float], sizes: Mapping[BranchCut, int], missing: int
    ) -> list[BranchCut]:
        """At most one from each branch, until ``missing`` parameters are found; none that is far too large."""
        picked: dict[Place, BranchCut] = {}
        most = missing + min(sizes.values())
        for cut in sorted(cuts, key=lambda c: cost[c]):
            if (cut.layer, cut.branch) not in picked and sizes[cut] <= most:
                picked[cut.layer, cut.branch] = cut
                missing, most = missing - sizes[cut], most - sizes[cut]
            if missing <= 0:
                break
        return list(picked.values()) or [min(cuts, key=lambda c: sizes[c])]

    def _removable(self, view: ModelView) -> int:
        """Parameters of all that may go, or a little more."""
        places = self._places(view)
        if self.branches:
            return removable(view, [cut for place in places if possible(cut := DropBranch(*place), view)])
        kept = [keeping(place, view.units(*place)[:1]) for place in places if place[1] in self._narrowed(view)]
        return sum(cut.parameter_count(view) for cut in kept if possible(cut, view))

    def _places(self, view: ModelView) -> list[Place]:
        """The branches that may be touched."""
        first = (view.numbers[0], "attention")
        return [place for place in view.branches() if self.first_attention or place != first]

    def _narrowed(self, view: ModelView) -> list[Branch]:
        """The kinds of branches that may get narrower."""
        kinds: tuple[Branch, ...] = ("mlp", "attention") if self.heads else ("mlp",)
        return [kind for kind in kinds if not view.adapter.why_not_narrowable(view.model.config, kind)]

    def _candidates(self, state: PruningState) -> list[BranchCut]:
        view, cuts = state.model, list[BranchCut]()
        values = self._values(state)
        for number, branch in self._places(view):
            whole = DropBranch(number, branch)
            if self.branches and possible(whole, view):
                cuts.append(whole)
            if (number, branch) in values:
                cuts += self._narrower(state.dense, view, (number, branch), values[number, branch])
        return cuts

    def _narrower(self, dense: ModelView, view: ModelView, place: Place, values: Tensor) -> list[BranchCut]:
        """One cut for each of the parts, if enough units are left."""
        number, branch = place
        units = view.units(number, branch)
        rank = [unit for _, unit in sorted(zip((-values).tolist(), units, strict=True))]  # the most important first
        counts = {max(1, round(part * len(dense.units(number, branch)))) for part in self.parts}
        return [keeping(place, rank[: len(units) - count]) for count in sorted(counts) if count < len(units)]

    def _most(self, state: PruningState, branch: Branch) -> int:
        """Units that a candidate may take at most."""
        counts = [len(state.dense.units(number, branch)) for number in state.dense.numbers]
        return max(1, round(max(self.parts) * max(counts)))

    def _values(self, state: PruningState) -> dict[Place, Tensor]:
        """Of the branches that can get narrower, what each unit is worth."""
        values: dict[Place, Tensor] = {}
        for branch in self._narrowed(state.model):
            found = score_units(state, branch, self.score, most=self._most(state, branch))
            values |= {(number, branch): worth for number, worth in found.items()}
        return values


@attrs.define
class _Pace:
    """How fast parameters go, since the first round that no journal knew."""

    target: int
    began: float = math.nan
    removed: int = 0

    def seconds_left(self, removed: int) -> float:
        """NaN in that round."""
        if math.isnan(self.began):
            self.began, self.removed = time.perf_counter(), removed
        gone = removed - self.removed
        return (time.perf_counter() - self.began) * (self.target - removed) / gone if gone else math.nan


def _progress(state: PruningState, number: int, pace: _Pace, decisions: list[Decision], candidates: int) -> None:
    """Tell where round ``number`` stands: before the comparison (no decisions yet), or after it."""
    best = min(decisions, key=lambda decision: decision.score, default=None)
    state.on_search(
        SearchProgress(
            step=number,
            candidates=candidates,
            candidates_left=len(decisions) or candidates,
            best="" if best is None else str(best.cut),
            best_score=math.nan if best is None else best.score,
            removed=state.removed_parameters,
            target=pace.target,
            seconds_left=pace.seconds_left(state.removed_parameters),
        )
    )


def _value(state: PruningState, mean: float) -> float:
    return mean if state.objective is None else state.objective.value(mean)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``mixed``."""
    register("mixed", Mixed)
