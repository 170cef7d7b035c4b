"""Outcome: what a checkpoint is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from billhook.plans.plan import Plan
    from billhook.plans.report import CutReport, SiteReport


class Outcome(Protocol):
    """A pruned model and its papers; :class:`billhook.PruneResult` is one, with the same attributes."""

    @property
    def model(self) -> PreTrainedModel:
        """The pruned model."""
        ...

    @property
    def plan(self) -> Plan:
        """What was cut."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures by name."""
        ...

    @property
    def reports(self) -> tuple[CutReport, ...]:
        """One for each cut."""
        ...

    @property
    def repairs(self) -> tuple[SiteReport, ...]:
        """One for each writer that was solved anew at the end."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """To be saved beside the model."""
        ...
