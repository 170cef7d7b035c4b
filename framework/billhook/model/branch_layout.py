"""BranchLayout: where the parts of one branch of a layer are, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Size = Literal["heads", "key_value_heads", "width", "channels"]
"""What a branch can have fewer of: query heads, key-value heads, all heads' dimensions together, MLP channels."""


@attrs.frozen(kw_only=True)
class Refused:
    """A config value that makes the family something a description does not fit; or all of the family.

    Attributes:
        attribute: of the config, dotted where it lies in a config or mapping within it (``attn_config.alibi``). None
            for what holds of every model of the family.
        value: that does not fit.
        reason: why not, as a sentence for whoever is turned away.
    """

    attribute: str | None = None
    value: object = None
    reason: str

    def holds(self, config: PreTrainedConfig) -> bool:
        """Whether a model of this config is turned away. ``model_type`` is its family's, also after a pruning."""
        from billhook.heterogeneous.configuration_billhook import family_of  # not above: plugins load without torch

        if self.attribute is None:
            return True
        if self.attribute == "model_type":
            return family_of(config) == self.value
        found: Any = config
        for name in self.attribute.split("."):
            found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
        return bool(found == self.value)


@attrs.frozen(kw_only=True)
class BranchLayout:
    """Where the parts of one branch are; paths are dotted, from the layer.

    The *units* of a branch are what it can be narrowed by: key-value groups of attention, channels of an MLP.

    Attributes:
        writer: the last linear map.
        readers: the linear maps that read the normed stream, fused ones once.
        module: what the layer calls for this branch; the writer itself where the MLP lies in the layer (OPT).
        alone: modules that serve this branch alone, such as its norm. They go with it; those that a variant of the
            family lacks are passed over.
        norm_after: a norm between writer and stream (Gemma 2, OLMo 2), or None. It makes folding inexact.
        stacked: for fused readers, the blocks that lie one after the other in their output. ``q`` takes a share for
            each query head, every other block one for each unit. A reader that is not named here is one block, in
            which each unit's rows lie together (also when they are interleaved query, key, value as in GPT-NeoX).
        per_head: parameters (paths from the layer) with one entry, in their first dimension, a query head (``q``) or a
            key-value head (``k``): sinks, norms of each head. Those that a variant of the family lacks are passed over.
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
    per_head: Mapping[str, Literal["q", "k"]] = attrs.field(factory=dict)
    sizes: Mapping[Size, str] = attrs.field(factory=dict)
    counts: Mapping[str, Size] = attrs.field(factory=dict)
    rigid: tuple[Refused, ...] = ()

    def shares(self, path: str, sizes: Mapping[Size, int]) -> list[int]:
        """How many entries of a unit each block of the output of the reader (or writer) at ``path`` has, relatively.

        One block but for stacked readers. Queries have as many entries a unit as query heads read one key-value head.

        Args:
            path: of the reader or writer, from the layer.
            sizes: of the branch, by name, at whatever number of units.
        """
        queries = _queries(sizes)
        return [queries if block == "q" else 1 for block in self.stacked.get(path, ("",))]

    def share(self, path: str, sizes: Mapping[Size, int]) -> int:
        """How many entries of a unit the parameter at ``path``, one of :attr:`per_head`, has."""
        return _queries(sizes) if self.per_head[path] == "q" else 1

    def to_data(self) -> dict[str, Any]:
        """What is written into the config of a model whose layers differ, as JSON values."""
        return {
            "module": self.module,
            "writer": self.writer,
            "readers": list(self.readers),
            "stacked": {path: list(blocks) for path, blocks in self.stacked.items()},
            "per_head": dict(self.per_head),
            "alone": [*self.alone, *([self.norm_after] if self.norm_after else [])],
            "sizes": dict(self.sizes),
            "counts": dict(self.counts),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> BranchLayout:
        """The inverse of :meth:`to_data`, but for the norm after the branch, which is among what it has ``alone``."""
        return cls(
            module=data["module"],
            writer=data["writer"],
            readers=tuple(data["readers"]),
            stacked={path: tuple(blocks) for path, blocks in data["stacked"].items()},
            alone=tuple(data["alone"]),
            per_head=data.get("per_head", {}),  # which older versions do not have
            sizes=data["sizes"],
            counts=data["counts"],
        )


def _queries(sizes: Mapping[Size, int]) -> int:
    """Query heads that read one key-value head."""
    heads = sizes.get("heads", 1)
    return heads // sizes.get("key_value_heads", heads)
