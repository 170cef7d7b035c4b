"""Curvature: which channels of which MLPs go, by what the loss is to rise; all decided at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import attrs
from loguru import logger

from billhook import (
    Budget,
    Cut,
    DropBranch,
    Elimination,
    KeepChannels,
    KeepHeads,
    ModelView,
    Place,
    PruningState,
    Selector,
    eliminate,
    hookimpl,
    keeping,
    measure_curvature,
    refuse_hopeless,
    typed,
    weight_rows,
)
from billhook.errors import InvalidConfig
from billhook_strategies.selectors.allocation import Offer, allocate
from billhook_strategies.selectors.evenly import evenly, sizes_of


@attrs.frozen(kw_only=True, field_transformer=typed)
class Curvature(Selector):
    """The channels of all MLPs whose loss, once the writers are solved anew, costs the model least.

    One pass forward and back says for each writer how much the model's loss rises with an error of what it writes
    (:func:`billhook.measure_curvature`). In that metric the channels of each MLP are taken out in the order in which
    the others make up for them best, and the widths of the layers are chosen together. The curvature is LLM Surgeon's
    (arXiv 2312.17244), the elimination ZipLM's (arXiv 2302.04089). Nothing is searched.

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
        sizes = {place: self._sizes(view, place) for place in view.branches() if self._may(place)}
        if self.uniform:
            yield from evenly(state, target, sizes, lambda count: self._alike(state, [*sizes], count))
            return
        refuse_hopeless(state, target, sum(max(own.values(), default=0) for own in sizes.values()))
        if state.removed_parameters >= target:
            return
        for cut in self._chosen(state, target, {place: own for place, own in sizes.items() if own}):
            if cut not in state.vetoed:
                yield cut
        if state.removed_parameters < target:
            logger.warning("{:,} parameters too few are gone: cuts were vetoed.", target - state.removed_parameters)

    def _chosen(self, state: PruningState, target: int, sizes: Mapping[Place, Mapping[int, int]]) -> list[Cut]:
        """At most one cut of each branch, in the order of the stream."""
        offers: dict[Place, list[Offer]] = {}
        orders: dict[Place, list[int]] = {}
        for place, found in self._eliminations(state, {place: max(own) for place, own in sizes.items()}):
            offers[place] = [Offer(size, _loss(found, count)) for count, size in sizes[place].items()]
            orders[place] = _numbers(state.model, place, found)
        taken = allocate(offers, target - state.removed_parameters)
        _tell(sum(offers[place][at].loss for place, at in taken.items()))
        counts = {place: [*sizes[place]][at] for place, at in taken.items()}
        return [_cut(state.model, place, orders[place][: counts[place]]) for place in sizes if place in counts]

    def _alike(self, state: PruningState, places: list[Place], count: int) -> dict[Place, list[int]]:
        """Of each branch the units that go, if ``count`` are to go from every one."""
        orders: dict[Place, list[int]] = {}
        rise = 0.0
        for place, found in self._eliminations(state, dict.fromkeys(places, count)):
            orders[place] = _numbers(state.model, place, found)
            rise += _loss(found, count)
        _tell(rise)
        return orders

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
        whole = {units: DropBranch(*place).parameter_count(view)} if counts[-1] == units else {}
        return sizes_of(view, place, counts) | whole

    def _eliminations(self, state: PruningState, most: Mapping[Place, int]) -> Iterator[tuple[Place, Elimination]]:
        """Of branches that may lose so many units at most."""
        view = state.model
        for done, (place, found) in enumerate(measure_curvature(state, [*most], tokens=self.tokens), 1):
            rows = weight_rows(view.writer(*place)).double().cpu() @ found.root
            units = len(view.units(*place))
            yield place, eliminate(rows, found.inner, units, most=most[place], ridge=self.ridge)
            state.progress("eliminating", done, len(most))


def _tell(rise: float) -> None:
    logger.info("The loss is to rise by about {:.3f} nats per token.", rise)


def _numbers(view: ModelView, place: Place, found: Elimination) -> list[int]:
    """The original numbers of a branch's units, the first to go first."""
    units = view.units(*place)
    return [units[at] for at in found.order.tolist()]


def _loss(found: Elimination, count: int) -> float:
    """Half the squared error after ``count`` units have gone; between two steps, on the line."""
    before, loss = 0, 0.0
    for after, total in zip(found.counts, found.losses, strict=True):
        if count <= after:
            return (loss + (total - loss) * (count - before) / (after - before)) / 2
        before, loss = after, total
    return loss / 2


def _cut(view: ModelView, place: Place, gone: list[int]) -> Cut:
    """A branch without these units; the whole branch if they are all that it has."""
    left = {*view.units(*place)} - {*gone}
    return keeping(place, left) if left else DropBranch(*place)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``curvature``."""
    register("curvature", Curvature)
