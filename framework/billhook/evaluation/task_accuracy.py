"""Task accuracy: how a model answered the questions of a task, and how two models differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs

from billhook.errors import ShapeMismatch
from billhook.tables import facts_html


@attrs.frozen(kw_only=True)
class TaskAccuracy:
    """How a model answered the questions of a task.

    Attributes:
        task: its name.
        hits: for each question, in order, whether the right answer was found likeliest.
    """

    task: str
    hits: tuple[bool, ...] = attrs.field(repr=False)

    @property
    def count(self) -> int:
        """Questions asked."""
        return len(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, as JSON values."""
        names = ("task", "accuracy", "standard_error", "count")
        return {**{name: getattr(self, name) for name in names}, "hits": sum(self.hits)}

    def _repr_html_(self) -> str:
        return facts_html(self.to_dict())

    @property
    def accuracy(self) -> float:
        """Hits in percent of the questions."""
        return 100 * sum(self.hits) / self.count

    @property
    def standard_error(self) -> float:
        """Standard error of the accuracy over the choice of questions, in percent points."""
        ratio = sum(self.hits) / self.count
        return 100 * math.sqrt(ratio * (1 - ratio) / self.count)

    def __str__(self) -> str:
        return f"{self.task}: {self.accuracy:.2f} ± {self.standard_error:.2f} ({self.count:,} questions)"


@attrs.frozen(kw_only=True)
class PairedDifference:
    """Between the accuracies of two models on the same questions.

    Attributes:
        points: how many percent points the first is better.
        standard_error: in percent points. Far smaller than that of either accuracy where models agree on most
            questions: which questions were asked matters less to a difference.
    """

    points: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} ± {self.standard_error:.2f} points"


def paired(hits: Sequence[bool], reference: Sequence[bool]) -> PairedDifference:
    """How much better ``hits`` are than those of a ``reference`` on the same questions in the same order.

    Args:
        hits: for each question, whether the right answer was found likeliest, such as :attr:`TaskAccuracy.hits`.
        reference: the same of the other model.

    Returns:
        The difference in percent points, positive where ``hits`` has more, with its paired standard error.

    Raises:
        ShapeMismatch: the two are not equally many, or none.
    """
    if len(hits) != len(reference) or not hits:
        raise ShapeMismatch(
            f"Hits are paired by question, so both models answer the same ones; got {len(hits)} and {len(reference)}."
        )
    gains = [bool(ours) - bool(theirs) for ours, theirs in zip(hits, reference, strict=True)]
    mean = sum(gains) / len(gains)
    variance = sum((gain - mean) ** 2 for gain in gains) / len(gains)
    return PairedDifference(points=100 * mean, standard_error=100 * math.sqrt(variance / len(gains)))
