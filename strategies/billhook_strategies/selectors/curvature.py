"""Curvature: which channels of which MLPs go, by what the loss is to rise; all decided at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
from loguru import logger
from torch import Tensor

from billhook import Budget, Cut, DropBranch, KeepChannels, KeepHeads, ModelView, PruningState, Selector, hookimpl
from billhook.cuts.candidate import Candidate
from billhook.cuts.sites import branches_of
from billhook.errors import InvalidConfig
from billhook.measures.curvature import WriterCurvature, measure_curvature
from billhook.model.branch import Branch, Place
from billhook.model.writer import weight_rows
from billhook.regression.elimination import Elimination, eliminate
from billhook.search.search import refuse_hopeless
from billhook_strategies.selectors.allocation import Offer, allocate
from billhook_strategies.selectors.even import GRAM_BYTES


@attrs.frozen(kw_only=True)
class Curvature(Selector):
    """The channels of all MLPs whose loss, once the writers are solved anew, costs the model least.

    One pass forward and back says for each writer how much the model's loss rises with an error of what it writes
    (:func:`billhook.measures.curvature.measure_curvature`). In that metric the channels of each MLP are taken out in the
    order in which the others make up for them best, and the widths of the layers are chosen together. The curvature is LLM
    Surgeon's (arXiv 2312.17244), the elimination ZipLM's (arXiv 2302.04089). Nothing is searched.

    The widths differ from layer to layer, unless ``uniform`` asks for a stock checkpoint.

    Attributes:
        tokens: how many calibration tokens the statistics are taken from at most. Here, too, many are better.
        ridge: for the solves that say what the others make up for, relative to the mean square of what a writer reads.
            Stronger than for a solve that is put in, as many thousand candidates are compared: what the others make up
            for by chance would win. It also spares the MLPs that make attention sinks, where a few channels are huge.
        multiple: the widths that are left are multiples of this, as fast kernels like it.
        most: share of a branch's channels that may go at most, above 0 and below 1.
        heads: whether groups of attention heads, and with the last of them the whole attention, may go as well.
        uniform: take as many channels out of every MLP, so that stock code can load the result.
    """

    tokens: int = 65536
    ridge: float = 0.1
    multiple: int = 8
    most: float = 0.8
    heads: bool = False
    uniform: bool = False

    def __attrs_post_init__(self) -> None:
        for name in ("tokens", "multiple"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"The {name!r} of Curvature must be at least 1; got {getattr(self, name)}.")
        if not 0 < self.most < 1:
            raise InvalidConfig(f"The 'most' of Curvature must lie between 0 and 1; got {self.most}.")
        if not 0 < self.ridge < math.inf:
            raise InvalidConfig(f"The 'ridge' of Curvature must be above 0 and finite; got {self.ridge}.")
        if self.heads and self.uniform:
            raise InvalidConfig("With 'uniform', Curvature takes channels only. Leave 'heads' out.")

    def kinds(self) -> tuple[type[Cut], ...]:
        """Channels; heads and branches if they may go."""
        return (KeepChannels, KeepHeads, DropBranch) if self.heads else (KeepChannels,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """At most one cut of each branch, in the order of the stream; all are chosen by the present statistics.

        Raises:
            InvalidConfig: the branches have fewer parameters than are to go.
        """
        target, view = budget.parameter_count(state.dense), state.model
        missing = target - state.removed_parameters
        sizes = {place: self._sizes(view, place) for place in branches_of(view) if self._may(place)}
        refuse_hopeless(state, target, sum(max(own.values(), default=0) for own in sizes.values()))
        if missing <= 0:
            return
        offers: dict[Place, list[Offer]] = {}
        orders: dict[Place, Tensor] = {}
        for place, found in self._eliminations(state, {place: own for place, own in sizes.items() if own}):
            offers[place] = [Offer(size, _loss(found, count)) for count, size in sizes[place].items()]
            orders[place] = found.order
        taken = _alike(offers, missing) if self.uniform else allocate(offers, missing)
        logger.info(
            "The loss is to rise by about {:.3f} nats per token.", sum(offers[p][at].loss for p, at in taken.items())
        )
        cuts = {place: _cut(view, place, orders[place], [*sizes[place]][at]) for place, at in taken.items()}
        for place in branches_of(view):
            if place in cuts and cuts[place] not in state.vetoed:
                yield cuts[place]
        if state.removed_parameters < target:
            logger.warning("{:,} parameters too few are gone: cuts were vetoed.", target - state.removed_parameters)

    def _may(self, place: Place) -> bool:
        return place[1] == "mlp" or self.heads

    def _sizes(self, view: ModelView, place: Place) -> dict[int, int]:
        """By how many units may go from a branch: the parameters that would go with them."""
        units = len(view.units(*place))
        if place[1] == "attention":
            counts = [*range(1, units + 1)]
        else:
            least = max(1, round(units * (1 - self.most)))
            counts = [units - width for width in range(units - 1, least - 1, -1) if width % self.multiple == 0]
        if not counts:
            return {}
        each = Candidate.of(_cut(view, place, None, 1), view).parameters if units > 1 else 0
        whole = {units: Candidate.of(DropBranch(*place), view).parameters} if counts[-1] == units else {}
        return {count: count * each for count in counts} | whole

    def _eliminations(
        self, state: PruningState, sizes: Mapping[Place, Mapping[int, int]]
    ) -> Iterator[tuple[Place, Elimination]]:
        """Of the branches that can lose something, in as many passes as memory asks for."""
        view, places = state.model, [*sizes]
        width = max((weight_rows(view.writer(*place)).shape[0] for place in places), default=1)
        size = max(1, GRAM_BYTES // (8 * width**2))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            found = measure_curvature(state, chunk, tokens=self.tokens)
            for at, place in enumerate(chunk, start + 1):
                yield place, self._eliminate(view, place, found.pop(place), most=max(sizes[place]))
                state.progress("eliminating", at, len(places))

    def _eliminate(self, view: ModelView, place: Place, curvature: WriterCurvature, *, most: int) -> Elimination:
        rows = weight_rows(view.writer(*place)).double().cpu() @ curvature.root
        return eliminate(rows, curvature.inner, len(view.units(*place)), most=most, ridge=self.ridge)


def _alike(offers: Mapping[Place, Sequence[Offer]], missing: int) -> dict[Place, int]:
    """The first offer, counted alike in all, with which enough goes; the last of those with fewer."""
    taken: dict[Place, int] = {}
    for at in range(max(map(len, offers.values()), default=0)):
        taken = {place: min(at, len(own) - 1) for place, own in offers.items()}
        if sum(offers[place][own].parameters for place, own in taken.items()) >= missing:
            break
    return taken


def _loss(found: Elimination, count: int) -> float:
    """Half the squared error after ``count`` units have gone; between two steps, on the line."""
    before, loss = 0, 0.0
    for after, total in zip(found.counts, found.losses, strict=True):
        if count <= after:
            return (loss + (total - loss) * (count - before) / (after - before)) / 2
        before, loss = after, total
    return loss / 2


def _cut(view: ModelView, place: Place, order: Tensor | None, count: int) -> KeepChannels | KeepHeads | DropBranch:
    """Without the first ``count`` units of the order (of the branch if None)."""
    number, branch = place
    units = view.units(number, branch)
    if count == len(units):
        return DropBranch(number, branch)
    gone = set(range(count)) if order is None else set(order[:count].tolist())
    return _KEEP[branch](number, tuple(unit for at, unit in enumerate(units) if at not in gone))


_KEEP: dict[Branch, type[KeepChannels | KeepHeads]] = {"mlp": KeepChannels, "attention": KeepHeads}


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``curvature``."""
    register("curvature", Curvature)
