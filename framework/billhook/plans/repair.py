"""Repair: when and how cuts are repaired, whatever the estimator and the merger."""

from __future__ import annotations

from typing import Literal

import attrs

from billhook.errors import InvalidConfig
from billhook.value_kinds import shown, typed

When = Literal["winner", "trial", "final"]
Target = Literal["dense", "present", "halfway"]
Weights = Literal["equal", "residual", "stream"]

CHOICES: dict[str, tuple[str, ...]] = {
    "when": ("winner", "trial", "final"),
    "target": ("dense", "present", "halfway"),
    "weights": ("equal", "residual", "stream"),
}

MOST_PASSES = 100
"""Closing passes that anybody could want: after a few nothing changes any more."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class Repair:
    """How a Pruner repairs.

    Attributes:
        when: ``winner`` repairs each cut as soon as it is made, so that the next one is chosen by the repaired model.
            ``trial`` also scores every candidate of a search repaired. ``final`` repairs nothing until all cuts are
            made, then every donor once, in the order of the stream.
        target: what a repair is to bring about. ``dense``, the dense model's stream, makes every repair mend what
            earlier ones left over as well, so that errors do not pile up. ``present`` mends this cut alone, less to
            learn from few tokens: the stream of the model as it was before the cut, or, where all is repaired at the
            end, what the donor as it was in the dense model would make of the stream that reaches it now.
            ``halfway``, their mean: what earlier layers did wrong can hardly be told from what reaches a donor, and
            much of what is learnt of it does not hold on other text (in quantisation: QEP, arXiv 2504.09629).
            ``trial`` and closing passes take ``dense``.
        weights: what a token's squared error counts. ``equal``: 1. ``residual``: 1/‖R‖², R being what the donor is to
            write: near the optimum twice the approximate cosine loss of ReplaceMe, in closed form. ``stream``: 1/‖H‖²,
            H being the whole target: the error as the next norm sees it. Either keeps attention sinks and other tokens
            with massive activations, hundreds of times as large as the others, from ruling the fit.
        held_out: share of the calibration rows that no repair is fitted to. They choose the strength of an automatic
            ridge, and a repair that does not help on them is not made. 0 for none, and no such check.
        guard: rows of another kind of text than the calibration's, as a share of its rows (:attr:`Calibration.guard`
            says which). Nothing is chosen by them or fitted to them. They choose the strength of an automatic ridge
            together with those held out; a repair that would do harm there is shrunk until it does not, or not made;
            and if all repairs together leave the model further from the dense one there than without them, none is
            made. 0 for no guard.
        closing: after the last cut, so many times go through the model and solve every surviving writer anew, toward
            the dense stream.
        search_tokens: choose cuts, and repair them as they are made, on so many of the calibration tokens at most
            (whole rows, spread over the data); those that ``final`` and ``closing`` say see all. A choice takes few,
            a fit many: what is fitted to few does not hold on other text. None for all.

    Raises:
        InvalidConfig: an unknown choice, or a share or count that is none.
    """

    when: When = "winner"
    target: Target = "dense"
    weights: Weights = "equal"
    held_out: float = 0.0
    guard: float = 0.0
    closing: int = 0
    search_tokens: int | None = None

    def __attrs_post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidConfig(
                    f"The {name!r} of Repair must be one of {', '.join(choices)}; got {getattr(self, name)!r}."
                )
        if self.when == "trial" and self.target != "dense":
            raise InvalidConfig(
                f"Repair(when='trial') knows the dense stream only; the 'target' is {self.target!r}. Leave it 'dense', "
                f"or repair with when='winner'."
            )
        for name in ("held_out", "guard"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise InvalidConfig(f"The {name!r} of Repair must lie between 0 and 0.5; got {getattr(self, name)}.")
        if self.search_tokens is not None and self.search_tokens < 1:
            raise InvalidConfig(f"The 'search_tokens' of Repair must be at least 1; got {self.search_tokens}.")
        if not 0 <= self.closing <= MOST_PASSES:
            raise InvalidConfig(
                f"The 'closing' of Repair must not be negative, nor above {MOST_PASSES}; got {shown(self.closing)}."
            )
