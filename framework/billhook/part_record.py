"""PartRecord: what a plan remembers of one part of the calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class PartRecord:
    """One source among those of a :class:`billhook.Blend`, or the options of a :class:`billhook.SelfGenerated`.

    Attributes:
        source: a name or path as it was given; of other objects a description.
        weight: as it was given.
        rows: how many of the rows of tokens are its.
        options: of self-generated text, by name; empty for others.
    """

    source: str
    weight: float
    rows: int
    options: Mapping[str, Any] = attrs.field(factory=dict)
