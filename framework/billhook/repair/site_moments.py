"""SiteMoments: what is known of a repair site, and the rows that it is learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.errors import InvalidConfig, SingularProblem
from billhook.model.writer import bias_of
from billhook.regression.fast_products import power_of_two
from billhook.regression.moments import Moments
from billhook.regression.regression import Regression, Regressor, Rows

if TYPE_CHECKING:
    from billhook.activations.runner import Written
    from billhook.cuts.sites import RepairSite
    from billhook.data.tokens import TokenBatch
    from billhook.model.view import ModelView
    from billhook.plans.repair import Weights


@attrs.frozen(eq=False)
class Split:
    """Rows to fit, rows held out, and rows of the guard: text of another kind."""

    fit: Rows
    held_out: Rows
    guard: Rows


@attrs.frozen(eq=False)
class SiteMoments:
    """Sums over the tokens to fit, over those held out, and over the guard's; None where there is no guard."""

    fit: Moments
    held_out: Moments
    guard: Moments | None

    @classmethod
    def empty(cls, d_in: int, d_out: int, device: torch.device, *, guard: bool = False) -> SiteMoments:
        """No tokens yet."""
        fit, held_out = (Moments.empty(d_in, d_out, device) for _ in range(2))
        return cls(fit, held_out, Moments.empty(d_in, d_out, device) if guard else None)

    @classmethod
    def from_parts(cls, parts: Iterable[Moments]) -> SiteMoments:
        """Two or three, in the order of :attr:`parts`."""
        fit, held_out, *guard = parts
        return cls(fit, held_out, guard[0] if guard else None)

    @property
    def parts(self) -> tuple[Moments, ...]:
        """Those that there are."""
        return (self.fit, self.held_out) if self.guard is None else (self.fit, self.held_out, self.guard)

    def of(self, columns: Tensor | None) -> SiteMoments:
        """Those of some of the regressor's columns, ``[columns]`` int64; all of them if None."""
        if columns is None:
            return self
        return SiteMoments.from_parts(part.of(columns) for part in self.parts)

    def with_gram_of(self, other: SiteMoments) -> SiteMoments:
        """With what ``other``, of the same donor, knows of the regressor alone."""
        pairs = zip(self.parts, other.parts, strict=True)
        return SiteMoments.from_parts(part.with_gram_of(others) for part, others in pairs)

    def add(self, rows: Split, *, gram: bool = True) -> None:
        """Take in some tokens, weighted as the rows say; ``gram`` as for :class:`Moments`."""
        for moments, part in zip(self.parts, (rows.fit, rows.held_out, rows.guard), strict=False):
            if len(part):
                moments.add(part.x, part.residual, part.weights, gram=gram)

    def require_finite(self, site: RepairSite) -> None:
        """Raise :class:`SingularProblem` if a sum is NaN or infinite."""
        if not all(part.is_finite() for part in self.parts):
            raise SingularProblem(
                f"The activations of layer {site.layer} or of the stream entering layer {site.target} are not finite. "
                f"Run the model in bfloat16 or float32."
            )


def token_weights(rows: Rows, kind: Weights) -> Tensor | None:
    """What each row counts, ``[..., tokens]`` float64; None for 1 each."""
    if kind == "equal":
        return None
    squares = (rows.residual if kind == "residual" else rows.target).double().square().sum(-1)
    return 1 / power_of_two(squares)


def site_rows(view: ModelView, site: RepairSite, regressor: Regressor, written: Written, target: Tensor) -> Rows:
    """x, residual and skip, each ``[batch, seq, ...]`` float32.

    Args:
        view: the model that the donor stands in.
        site: donor and target.
        regressor: the donor's output, or what its writer reads.
        written: what the donor wrote.
        target: the stream to be reached, ``[batch, seq, d_model]``.
    """
    # differences in float32, before anything is rounded to the model's dtype again
    if regressor == "output":
        x = contribution = written.output
    else:
        scale = view.adapter.scale(view.layer(site.layer), site.branch)
        bias = bias_of(view.writer(site.layer, site.branch))
        x = written.inner.to(torch.float32) * scale
        # its own bias stays in the writer: the map takes the place of the weight alone
        contribution = written.output if bias is None else written.output - bias.to(torch.float32) * scale
    skip = written.after - contribution
    return Rows(x, target.to(torch.float32) - skip, skip)


def split(held_out: Tensor | None, tokens: TokenBatch, rows: Rows, weights: Weights) -> Split:
    """The real tokens of a batch as ``[tokens, ...]``: those to fit, those held out, or those of the guard; weighed.

    Args:
        held_out: which rows of the batch no repair is fitted to, ``[batch]`` bool; None if it is the guard's.
        tokens: the batch.
        rows: x, residual and skip, each ``[batch, seq, ...]`` float32.
        weights: what they are to count, as :attr:`billhook.Repair.weights` says.
    """
    rows = attrs.evolve(rows, weights=token_weights(rows, weights))
    if held_out is None:
        none = torch.zeros_like(tokens.keep)
        return Split(rows[none], rows[none], rows[tokens.keep])
    aside = held_out.to(tokens.keep.device)[:, None] & tokens.keep
    return Split(rows[tokens.keep & ~aside], rows[aside], rows[tokens.keep & False])


class KnownRegression(Regression):
    """A regression from moments alone."""

    def __init__(self, moments: SiteMoments, regressor: Regressor, prior: Tensor) -> None:
        """``prior`` ``[d_in, d_out]``: see :attr:`billhook.Regression.prior`."""
        self._moments = moments
        self.regressor = regressor
        self._prior = prior.to(moments.fit.xx)

    @property
    def prior(self) -> Tensor:
        """As given."""
        return self._prior

    @property
    def d_in(self) -> int:
        """Columns of the regressor."""
        return self._moments.fit.d_in

    @property
    def d_out(self) -> int:
        """Width of the stream."""
        return self._moments.fit.d_out

    def moments(self) -> Moments:
        """Of the tokens to fit."""
        return self._moments.fit

    def held_out(self) -> Moments | None:
        """Of those held out."""
        return self._moments.held_out if self._moments.held_out.token_count else None

    def guard(self) -> Moments | None:
        """Of text of another kind."""
        return self._moments.guard

    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        """Raises :class:`InvalidConfig`: there are no rows."""
        raise InvalidConfig("A repair on trial has moments only, no rows. Use Repair(when='winner').")

    def sample(self) -> Rows:
        """Raises :class:`InvalidConfig`: there are no rows."""
        raise InvalidConfig("A repair on trial has moments only, no rows. Use Repair(when='winner').")
