"""MultiPruner: branches, then MLP channels, then attention heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import attrs

from billhook import Budget, Cut, PruningState, Race, Selector, UnitRule, hookimpl, typed
from billhook.errors import InvalidConfig, did_you_mean
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.heads import Heads
from billhook_strategies.selectors.narrowing import refuse_bad_options
from billhook_strategies.selectors.sequence import Sequence, Stage
from billhook_strategies.selectors.sleb import Sleb

Dimension = Literal["branches", "channels", "heads"]


@attrs.frozen(field_transformer=typed)
class Preset:
    """Published settings for a model: shares of branches, channels and heads, and channels in a group if unusual."""

    shares: tuple[float, float, float]
    channel_group: int | None = None


PRESETS: dict[str, Preset] = {
    "default": Preset((44, 52, 4)),
    "llama-2": Preset((44, 52, 4), channel_group=1024),
    "qwen1.5-7b": Preset((44, 52, 4), channel_group=1024),
    "qwen1.5-14b": Preset((44, 52, 4), channel_group=2048),
    "baichuan2": Preset((44, 52, 4), channel_group=1024),
    "llama-3-8b": Preset((20, 80, 0), channel_group=1024),
    "llama-3.1-8b": Preset((30, 70, 0), channel_group=1024),
    "llama-3.2-3b": Preset((10, 90, 0), channel_group=768),
    "qwen2.5-7b": Preset((50, 50, 0), channel_group=1024),
}
"""arXiv 2501.09949, section 4.1 and appendix: grouped-query models keep their heads."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class MultiPruner(Selector):
    """Three greedy searches in a row, each over one dimension (arXiv 2501.09949).

    Attributes:
        preset: published settings, by the name of a model; ``default`` for any other.
        shares: how the budget is split over branches, channels and heads, relative to one another; the preset's if
            None. A dimension with 0 is left alone.
        order: of the three dimensions.
        channel_group: channels in a group; the preset's, or a quarter of the stream's width, if None.
        head_group: key-value heads in a group.
        score: which channels and heads of a layer go first; see :class:`Channels`.
        first_attention: whether the first layer's attention may go; see :class:`BlockPruner`.
        uniform: for a result that stock code can load: whole layers instead of branches, and all layers narrowed alike.
        race: rounds for a faster search that is not exact; None for the exact one.
    """

    preset: str = "default"
    shares: tuple[float, float, float] | None = None
    order: tuple[Dimension, Dimension, Dimension] = ("branches", "channels", "heads")
    channel_group: int | None = None
    head_group: int = 1
    score: UnitRule = "weight-l1"
    first_attention: bool = False
    uniform: bool = False
    race: Race | None = None

    def __attrs_post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise InvalidConfig(
                f"MultiPruner has no preset {self.preset!r}.{did_you_mean(self.preset, PRESETS)} Known: "
                f"{', '.join(PRESETS)}."
            )
        if sorted(self.order) != ["branches", "channels", "heads"]:
            raise InvalidConfig(f"The 'order' of MultiPruner must be branches, channels and heads; got {self.order}.")
        if self.shares is not None and (min(self.shares) < 0 or not sum(self.shares) > 0):
            raise InvalidConfig(f"The 'shares' of MultiPruner must be 0 or more, not all 0; got {self.shares}.")
        for group in (self.channel_group, self.head_group):
            refuse_bad_options("MultiPruner", group, self.score)

    def kinds(self) -> tuple[type[Cut], ...]:
        """Those of the stages with a share."""
        return self.sequence.kinds()

    def needs_objective(self) -> bool:
        """True unless all that is cut is cut alike in every layer, which takes no search."""
        return self.sequence.needs_objective()

    @property
    def sequence(self) -> Sequence:
        """The same as a sequence of selectors."""
        shares = dict(zip(("branches", "channels", "heads"), self.shares or self._preset.shares, strict=True))
        return Sequence([Stage(self._stage(dimension), shares[dimension]) for dimension in self.order])

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts of the three stages in turn."""
        return self.sequence.select(state, budget)

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.preset]

    def _stage(self, dimension: Dimension) -> Selector:
        if dimension == "channels":
            group = self.channel_group or self._preset.channel_group
            return Channels(group=group, score=self.score, uniform=self.uniform, race=self.race)
        if dimension == "heads":
            return Heads(group=self.head_group, score=self.score, uniform=self.uniform, race=self.race)
        if self.uniform:
            return Sleb(race=self.race)
        return BlockPruner(first_attention=self.first_attention, race=self.race)


@hookimpl
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """``multi-pruner``."""
    register("multi-pruner", MultiPruner)
