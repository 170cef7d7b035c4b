"""CutReport: how well one cut was repaired."""

from __future__ import annotations

from typing import Any, cast

import attrs

from billhook.cuts.cut import Cut
from billhook.cuts.kinds import cut_to_data
from billhook.model.branch import Branch
from billhook.tables import finite


@attrs.frozen(kw_only=True)
class SiteReport:
    """Figures of one repair, over the calibration tokens.

    Attributes:
        donor: original number of the layer whose writer makes up for the loss; None if nothing was repaired.
        branch: of the donor.
        r_squared: share of the residual target's variance that the map explains; NaN without data. Tokens with massive
            activations (attention sinks) dominate it, unless weighted: read it together with the cosines, where each
            token counts once.
        cosine_before: mean cosine between the stream behind the cut and the dense stream, unrepaired.
        cosine_after: the same, repaired.
        held_out: squared error on the tokens held out, as a share of that of doing nothing; NaN if there are none. A
            repair of 1 or more is not made.
        guard: the same on text of another kind than the calibration's; NaN if there is none. A repair is shrunk until
            this is below 1, or not made.
        made: whether the repair was put in: it is not where it would do harm, nor where all repairs together would.
        token_count: tokens behind these figures.
        massive_count: of these, tokens with massive activations: the stream to be reached is over
            30 times as long as the median one of its batch. 0 where nobody counts,
            in repairs on trial.
        notes: assumptions and fall-backs of the estimator, in words.
    """

    donor: int | None = None
    branch: Branch | None = None
    r_squared: float = float("nan")
    cosine_before: float = float("nan")
    cosine_after: float = float("nan")
    held_out: float = float("nan")
    guard: float = float("nan")
    made: bool = True
    token_count: int = 0
    massive_count: int = 0
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The figures by name, as a line of a table: a cut in words, NaN and None where there is nothing."""
        return {name: str(value) if name == "cut" else value for name, value in _by_name(self).items()}

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values; a cut as in a plan, and None for what is not finite."""
        data = {name: cut_to_data(value) if name == "cut" else value for name, value in _by_name(self).items()}
        return cast("dict[str, Any]", finite(data))

    @property
    def helps(self) -> bool:
        """Unless held-out tokens, or those of another kind, say that it does not."""
        return not self.held_out >= 1 and not self.guard >= 1


@attrs.frozen(kw_only=True)
class CutReport(SiteReport):
    """How well one cut was repaired.

    Attributes:
        cut: what went.
        score: the objective without it, as the search that chose it found; NaN if nobody searched.
        seconds: collecting, solving and merging; without a repair that waited for the end.
    """

    cut: Cut
    score: float = float("nan")
    seconds: float = 0.0


def _by_name(report: SiteReport) -> dict[str, Any]:
    """The fields, what was cut first."""
    names = sorted((field.name for field in attrs.fields(type(report))), key=lambda name: name not in ("cut", "score"))
    return {name: getattr(report, name) for name in names}
