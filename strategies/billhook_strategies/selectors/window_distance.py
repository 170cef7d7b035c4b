"""WindowDistance: drop the windows of layers that turn the residual stream least."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from billhook import Budget, Cut, DropLayers, PruningState, Selector, WindowDistances, hookimpl, measure_windows, typed
from billhook.errors import InvalidConfig


@attrs.frozen(kw_only=True, field_transformer=typed)
class WindowDistance(Selector):
    """One or several windows of consecutive layers with the smallest distance from entry to exit.

    ReplaceMe (arXiv 2505.02819, section 3.1 and algorithm 1) with ``metric="cosine"``; UIDL (arXiv 2403.17887,
    equation 7) with ``metric="angular", tokens="last"`` and the estimator ``identity``.

    Attributes:
        metric: ``cosine``, ``angular`` or ``l2``; see :class:`billhook.WindowDistances`.
        tokens: average over ``all`` tokens, or the ``last`` of each row.
        skip_sink: leave out the first token of each row.
        windows: how many windows; the budget's layers are spread over them as evenly as possible, the first ones
            one longer. Chosen greedily, nearest first, without overlap. Ties go to the lower layer.
        touching: whether chosen windows may touch; if not, at least one layer stays between them.
        merge_touching: whether touching windows become one cut with one repair.
        protect_first: layers at the beginning that stay; a repair needs at least one.
        protect_last: layers at the end that stay.

    Cuts come in layer order, so that each repair sees the ones before it.
    """

    metric: Literal["cosine", "angular", "l2"] = "cosine"
    tokens: Literal["all", "last"] = "all"
    skip_sink: bool = False
    windows: int = 1
    touching: bool = True
    merge_touching: bool = True
    protect_first: int = 1
    protect_last: int = 1

    def __attrs_post_init__(self) -> None:
        if self.metric not in ("cosine", "angular", "l2"):
            raise InvalidConfig(
                f"The 'metric' of WindowDistance must be 'cosine', 'angular' or 'l2'; got {self.metric!r}."
            )
        if self.tokens not in ("all", "last"):
            raise InvalidConfig(f"The 'tokens' of WindowDistance must be 'all' or 'last'; got {self.tokens!r}.")
        if self.windows < 1:
            raise InvalidConfig(f"The 'windows' of WindowDistance must be at least 1; got {self.windows}.")
        if min(self.protect_first, self.protect_last) < 0:
            raise InvalidConfig("The protected layers of WindowDistance cannot be fewer than 0.")

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """Measure all windows in one pass, then yield the best ones in layer order."""
        if state.cuts:
            raise InvalidConfig("WindowDistance measures the dense model, so in a sequence it must come first.")
        layers = len(state.dense.numbers)
        until = layers - self.protect_last
        lengths = self._lengths(budget.layer_count(state.dense), until - self.protect_first)
        distances = measure_windows(
            state, metric=self.metric, tokens=self.tokens, skip_sink=self.skip_sink, until=until
        )
        chosen = self._choose(distances, lengths, until)
        yield from (DropLayers(start, stop) for start, stop in self._merged(chosen))

    def _lengths(self, count: int, free: int) -> list[int]:
        """Lengths of the windows, longest first; their sum is ``count``."""
        windows = min(self.windows, count)
        gaps = 0 if self.touching else windows - 1
        if count + gaps > free:
            raise InvalidConfig(
                f"{count} layers in {windows} window(s) do not fit into the {max(free, 0)} layers that are not "
                f"protected (first {self.protect_first}, last {self.protect_last}). Ask for fewer layers or windows, "
                f"or protect fewer."
            )
        return [count // windows + (number < count % windows) for number in range(windows)]

    def _choose(self, distances: WindowDistances, lengths: list[int], until: int) -> list[tuple[int, int]]:
        """Greedily the nearest window of each length that leaves room for the others, in layer order."""
        chosen: list[tuple[int, int]] = []
        for number, length in enumerate(lengths):
            fitting = [
                (distance, start)
                for start, distance in distances.of_length(length)
                if self.protect_first <= start
                and start + length <= until
                and self._leaves_room([*chosen, (start, start + length)], lengths[number + 1 :], until)
            ]
            _, start = min(fitting)  # never empty: a layout that leaves room had room for the next
            chosen.append((start, start + length))
        return sorted(chosen)

    def _leaves_room(self, chosen: list[tuple[int, int]], rest: list[int], until: int) -> bool:
        """Whether ``chosen`` keep apart and windows of the lengths ``rest`` still fit beside them."""
        margin = 0 if self.touching else 1
        spans = sorted(chosen)
        if any(a_stop + margin > b_start for (_, a_stop), (b_start, _) in itertools.pairwise(spans)):
            return False
        edges = [self.protect_first - margin, *(edge for span in spans for edge in span), until + margin]
        free = [stop - start - 2 * margin for start, stop in zip(edges[::2], edges[1::2], strict=True)]
        return _fits(tuple(rest), tuple(sorted(free)), margin)

    def _merged(self, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
        if not self.merge_touching:
            return spans
        merged: list[tuple[int, int]] = []
        for start, stop in spans:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], stop)
            else:
                merged.append((start, stop))
        return merged


@functools.cache
def _fits(lengths: tuple[int, ...], free: tuple[int, ...], margin: int) -> bool:
    """Whether windows of these lengths, ``margin`` apart, can be laid into gaps of these sizes."""
    if not lengths:
        return True
    return any(
        _fits(lengths[1:], tuple(sorted((*free[:i], gap - lengths[0] - margin, *free[i + 1 :]))), margin)
        for i, gap in enumerate(free)
        if gap >= lengths[0]
    )


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``window-distance``, and ``cosine``, ``angular``, ``l2``, ``uidl`` for its usual settings."""
    register("window-distance", WindowDistance)
    for metric in ("cosine", "angular", "l2"):
        register(metric, functools.partial(WindowDistance, metric=metric))
    register("uidl", functools.partial(WindowDistance, metric="angular", tokens="last"))
