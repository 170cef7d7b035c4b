"""Sequence: several selectors one after the other, each with a share of one budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import attrs

from billhook import Budget, Cut, PruningState, Selector, hookimpl, typed
from billhook.errors import InvalidConfig

MOST_STAGES = 1000
MOST_SHARE = 1e9
"""More than anybody could want; shares are added up, and their sum has to be a number."""


@attrs.frozen(field_transformer=typed)
class Stage:
    """A selector and its share of the budget; shares are relative to one another."""

    selector: Selector
    share: float = 1.0

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.selector, Selector):
            raise InvalidConfig(f"The selector of a stage must be a Selector object; got {self.selector!r}.")
        if not 0 <= self.share <= MOST_SHARE:
            raise InvalidConfig(f"The share of a stage must lie between 0 and {MOST_SHARE:g}; got {self.share}.")


def _stages(given: Iterable[Stage | tuple[Selector, float]]) -> tuple[Stage, ...]:
    try:
        return tuple(stage if isinstance(stage, Stage) else Stage(*stage) for stage in given)
    except TypeError as error:
        raise InvalidConfig(
            f"The 'stages' of Sequence are Stage objects, or pairs of a selector and its share; got {given!r}."
        ) from error


@attrs.frozen(field_transformer=typed)
class Sequence(Selector):
    """Selectors in a row: every stage goes on until the shares up to its own are gone, counted from the dense model.

    So what one stage cuts too much, the next one cuts less: only the last decides how near the budget is met. Stages
    with a share of 0 are passed over. Selectors that measure the dense model (window distances, ShortGPT) must come
    first.

    Attributes:
        stages: :class:`Stage` objects, or pairs of a selector and its share.
    """

    stages: tuple[Stage, ...] = attrs.field(converter=_stages)

    def __attrs_post_init__(self) -> None:
        if len(self.stages) > MOST_STAGES:
            raise InvalidConfig(f"A Sequence has {MOST_STAGES} stages at most; got {len(self.stages)}.")
        if not self._active():
            raise InvalidConfig("A Sequence needs at least one stage with a share above 0.")

    def kinds(self) -> tuple[type[Cut], ...]:
        """All that any stage yields."""
        return tuple(dict.fromkeys(kind for stage in self._active() for kind in stage.selector.kinds()))

    def needs_objective(self) -> bool:
        """Whether any stage searches."""
        return any(stage.selector.needs_objective() for stage in self._active())

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts of every stage in turn."""
        stages = self._active()
        whole = budget.parameter_count(state.dense)
        for number, stage in enumerate(stages, 1):
            share = sum(s.share for s in stages[:number]) / sum(s.share for s in stages)
            target = whole if number == len(stages) else round(share * whole)
            if target > 0:  # a share may come to less than a parameter
                yield from stage.selector.select(state, Budget(parameters=target / state.dense.parameter_count))

    def _active(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.share > 0]


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``sequence``."""
    register("sequence", Sequence)
