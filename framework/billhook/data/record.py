"""What a plan remembers of the calibration data."""

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
        fingerprint: of these rows alone, where they stand apart: a guard's.
    """

    source: str
    weight: float
    rows: int
    options: Mapping[str, Any] = attrs.field(factory=dict)
    fingerprint: str = ""


@attrs.frozen(kw_only=True)
class CalibrationRecord:
    """Which data a plan was made with.

    ``source`` is what :class:`billhook.Calibration` was given, if that can be written down; ``fingerprint`` is the
    SHA-256 over the token ids and mask that came out, so that another tokenizer or text is noticed. ``parts`` says
    what a blend is made of, and how the model wrote its own text; empty for a single text. ``guard`` is the text of
    another kind that repairs were checked on; None for none. It is not in ``fingerprint``: what a model writes differs
    from machine to machine. ``begin`` is False in the plans of versions that knew no such option.
    """

    source: str
    samples: int
    seqlen: int
    seed: int
    packing: str
    chat_template: bool
    token_count: int
    fingerprint: str
    parts: tuple[PartRecord, ...] = ()
    guard: PartRecord | None = None
    begin: bool = False

    def __str__(self) -> str:
        if not self.token_count:
            return "no data"
        return f"{self.token_count:,} tokens of {self.source} (seed {self.seed}, {self.fingerprint[:12]})"


NO_DATA = CalibrationRecord(
    source="none", samples=0, seqlen=0, seed=0, packing="pack", chat_template=False, token_count=0, fingerprint=""
)
"""What a plan remembers of data that nobody needed."""
