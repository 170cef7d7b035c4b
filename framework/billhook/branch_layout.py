"""BranchLayout: where the parts of one branch of a layer are, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

Size = Literal["heads", "key_value_heads", "width", "channels"]
"""What a branch can have fewer of: query heads, key-value heads, all heads' dimensions together, MLP channels."""


@attrs.frozen(kw_only=True)
class Refused:
    """A config value that makes the family something a description does not fit, and why."""

    attribute: str
    value: object
    reason: str


@attrs.frozen(kw_only=True)
class BranchLayout:
    """Where the parts of one branch are; paths are dotted, from the layer.

    The *units* of a branch are what it can be narrowed by: key-value groups of attention, channels of an MLP.

    Attributes:
        writer: the last linear map.
        readers: the linear maps that read the normed stream, fused ones once.
        module: what the layer calls for this branch; the writer itself where the MLP lies in the layer (OPT).
        alone: modules that serve this branch alone, such as its norm. They go with it.
        norm_after: a norm between writer and stream (Gemma 2, OLMo 2), or None. It makes folding inexact.
        stacked: for fused readers, the blocks that lie one after the other in their output. ``q`` takes a share for
            each query head, every other block one for each unit. A reader that is not named here is one block, in
            which each unit's rows lie together (also when they are interleaved query, key, value as in GPT-NeoX).
        sizes: config attributes that hold the branch's sizes.
        counts: attributes (paths from the layer) that hold a size and must follow when the branch gets narrower. One
            that begins with ``<module>.config.`` is read from the config by the forward pass itself (Phi-3).
        rigid: config values that make narrowing inexact, with the reason.
    """

    writer: str
    readers: tuple[str, ...]
    module: str
    alone: tuple[str, ...] = ()
    norm_after: str | None = None
    stacked: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    sizes: Mapping[Size, str] = attrs.field(factory=dict)
    counts: Mapping[str, Size] = attrs.field(factory=dict)
    rigid: tuple[Refused, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """What is written into the config of a model whose layers differ, as JSON values."""
        return {
            "module": self.module,
            "writer": self.writer,
            "readers": list(self.readers),
            "stacked": {path: list(blocks) for path, blocks in self.stacked.items()},
            "alone": [*self.alone, *([self.norm_after] if self.norm_after else [])],
            "sizes": dict(self.sizes),
            "counts": dict(self.counts),
        }
