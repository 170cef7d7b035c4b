"""ShortGpt: drop the layers that change the stream least, all at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import attrs

from billhook import Budget, Cut, DropLayers, PruningState, Selector, hookimpl, measure_windows, typed
from billhook.errors import InvalidConfig


@attrs.frozen(kw_only=True, field_transformer=typed)
class ShortGpt(Selector):
    """The layers of lowest block influence, ``1 − cos(entering, leaving)`` in the mean over tokens (arXiv 2403.03853).

    Attributes:
        protect_first: layers at the beginning that stay; none in the paper. A repair needs at least one.
        protect_last: layers at the end that stay; none in the paper.

    Measured once, on the dense model. Ties go to the lower layer. Neighbours become one cut.
    """

    protect_first: int = 0
    protect_last: int = 0

    def __attrs_post_init__(self) -> None:
        if min(self.protect_first, self.protect_last) < 0:
            raise InvalidConfig("The protected layers of ShortGpt cannot be fewer than 0.")

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The layers, in layer order."""
        if state.cuts:
            raise InvalidConfig("ShortGpt measures the dense model, so in a sequence it must come first.")
        layers = state.dense.original_layer_count
        until = layers - self.protect_last
        count = budget.layer_count(state.dense)
        if count > until - self.protect_first:
            raise InvalidConfig(
                f"{count} layers cannot go: {max(until - self.protect_first, 0)} are not protected (first "
                f"{self.protect_first}, last {self.protect_last}). Ask for fewer, or protect fewer."
            )
        influence = measure_windows(state, until=until).of_length(1)
        ranked = sorted((value, number) for number, value in influence if number >= self.protect_first)
        chosen = sorted(number for _, number in ranked[:count])
        for _, run in itertools.groupby(enumerate(chosen), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in run]
            yield DropLayers(numbers[0], numbers[-1] + 1)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``short-gpt``."""
    register("short-gpt", ShortGpt)
