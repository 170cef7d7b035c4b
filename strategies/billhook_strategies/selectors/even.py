"""Even: every MLP gets narrower by the same number of channels, in one shot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs
from loguru import logger
from torch import Tensor

from billhook import Budget, Cut, KeepChannels, ModelView, PruningState, Selector, hookimpl
from billhook.cuts.candidate import Candidate
from billhook.errors import InvalidConfig
from billhook.measures.unit_scores import measure_inner, obs, weight_l1
from billhook.search.search import refuse_hopeless
from billhook_strategies.selectors.narrowing import SCORES, Score

GRAM_BYTES = 2 * 2**30
"""Of the matrices that a pass collects at most, in float64; more layers take more passes."""


@attrs.frozen(kw_only=True)
class Even(Selector):
    """In every layer the channels that the others make up for best; as many in each, so that all stay alike.

    Nothing is searched. With the score ``obs`` and a repair by ``refit`` this is what ZipLM (arXiv 2302.04089) does
    to an MLP, at one width: the channels whose loss is least *after* the writer is solved anew. The checkpoint is a
    stock one, with a smaller ``intermediate_size``.

    Attributes:
        score: which channels go first; see :class:`billhook_strategies.selectors.channels.Channels`.
        multiple: the width that is left is a multiple of this, as fast kernels like it.
    """

    score: Score = "obs"
    multiple: int = 8

    def __attrs_post_init__(self) -> None:
        if self.multiple < 1:
            raise InvalidConfig(f"The 'multiple' of Even must be at least 1; got {self.multiple}.")
        if self.score not in ("weight-l1", *SCORES):
            raise InvalidConfig(
                f"The 'score' of Even must be one of weight-l1, {', '.join(SCORES)}; got {self.score!r}."
            )

    def kinds(self) -> tuple[type[Cut], ...]:
        """Channels."""
        return (KeepChannels,)

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """One cut for each layer, the last first, so that each is chosen by the dense model's statistics.

        Raises:
            InvalidConfig: the MLPs have fewer parameters than are to go.
        """
        target = budget.parameter_count(state.dense)
        layers = [number for number in state.model.numbers if state.model.has_branch(number, "mlp")]
        narrowest = [_kept(number, state.model.units(number, "mlp")[:1]) for number in layers]
        most = sum(Candidate.of(cut, state.model).parameters for cut in narrowest)
        refuse_hopeless(state, target, most)
        width = self._width(state.model, layers, target - state.removed_parameters)
        logger.info("Every MLP keeps {} channels.", width)
        for chunk in self._chunks(state.model, layers):
            for number, values in self._values(state, chunk, width).items():
                if state.removed_parameters >= target:
                    return
                units = state.model.units(number, "mlp")
                best = values.argsort(descending=True, stable=True)[:width].tolist()
                cut = _kept(number, tuple(sorted(units[at] for at in best)))
                if len(units) > width and cut not in state.vetoed:
                    yield cut
        if state.removed_parameters < target:
            logger.warning("{:,} parameters too few are gone: cuts were vetoed.", target - state.removed_parameters)

    def _width(self, view: ModelView, layers: Sequence[int], missing: int) -> int:
        """The largest multiple that takes enough; 1 at least."""
        sizes = [len(view.units(number, "mlp")) for number in layers]
        channel = [
            Candidate.of(_kept(number, view.units(number, "mlp")[:-1]), view).parameters if size > 1 else 0
            for number, size in zip(layers, sizes, strict=True)
        ]
        for width in range(max(sizes) // self.multiple * self.multiple, 0, -self.multiple):
            gone = sum(max(0, size - width) * each for size, each in zip(sizes, channel, strict=True))
            if gone >= missing:
                return width
        return 1

    def _chunks(self, view: ModelView, layers: Sequence[int]) -> Iterator[list[int]]:
        """The last layers first, as many at a time as memory takes."""
        width = max(len(view.units(number, "mlp")) for number in layers)
        size = max(1, GRAM_BYTES // (8 * width**2)) if self.score == "obs" else len(layers)
        for stop in range(len(layers), 0, -size):
            yield list(layers[max(0, stop - size) : stop])

    def _values(self, state: PruningState, layers: Sequence[int], width: int) -> dict[int, Tensor]:
        """What each channel is worth, the last layer first."""
        view, order = state.model, sorted(layers, reverse=True)
        if self.score == "weight-l1":
            return {number: weight_l1(view, number, "mlp") for number in order}
        inner = measure_inner(state, "mlp", whole=self.score == "obs", layers=layers)
        if self.score != "obs":
            return {number: SCORES[self.score](view, number, "mlp", inner[number]) for number in order}
        values: dict[int, Tensor] = {}
        for number in order:
            values[number] = obs(view, number, "mlp", inner[number], most=len(view.units(number, "mlp")) - width)
            state.progress("eliminating", len(values), len(order))
        return values


def _kept(number: int, units: tuple[int, ...]) -> KeepChannels:
    return KeepChannels(number, units)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``even``."""
    register("even", Even)
