"""Solving ``(G + λD) T = B`` for the estimators that have a closed form."""

from __future__ import annotations

import math
from typing import Literal

import attrs
import torch
from loguru import logger
from torch import Tensor

from billhook import LinearMap, Moments, Regression
from billhook.errors import InvalidConfig, SingularProblem

Toward = Literal["present", "zero"]


@attrs.frozen
class Solution:
    """``weight`` ``[d_in, d_out]`` float64, and in how many directions the data said nothing."""

    weight: Tensor
    undetermined: int


def solve(moments: Moments, prior: Tensor, *, ridge: float, bias: bool, tell: bool = True) -> LinearMap:
    """Ridge regression from moments: ``(XᵀX + λI)⁻¹ (XᵀR + λT₀)``, λ = ``ridge`` · mean diagonal of ``XᵀX``.

    λ is relative because ``XᵀX`` grows with the number of tokens: the absolute α of ReplaceMe's table 5 does
    nothing up to 1000 for that reason.

    Args:
        moments: the sums.
        prior: T₀ ``[d_in, d_out]``, what ridge pulls to and undetermined directions keep.
        ridge: relative strength, 0 for plain least squares.
        bias: fit an intercept too, unpenalised.
        tell: warn of what the data leave undetermined, which stands in the notes in any case.

    Raises:
        SingularProblem: without ridge, fewer tokens than columns; or sums that are not finite.
    """
    refuse_not_finite(moments)
    sums = moments.centred() if bias else moments
    if ridge == 0 and moments.token_count < moments.d_in + bias:
        raise SingularProblem(
            f"{moments.token_count} calibration tokens cannot determine a map of {moments.d_in} columns. "
            f"Use more samples, or the estimator 'ridge'."
        )
    strength = ridge * float(sums.xx.diagonal().mean())
    prior = prior.to(moments.xx)
    found = _solve_deviation(sums, prior, strength)
    weight = prior + found.weight
    intercept = (moments.r - moments.x @ weight) / moments.weight if bias else None
    return LinearMap(weight, intercept, notes=_notes(found.undetermined, tell))


def minimise(moments: Moments, prior: Tensor, penalty: float) -> Tensor:
    """The T ``[d_in, d_out]`` float64 with the least ``Σ ‖xT − r‖² + penalty · ‖T − prior‖²``.

    Directions that the data leave undetermined keep the prior.
    """
    return prior + _solve_deviation(moments, prior, penalty).weight


def prior_of(regression: Regression, toward: Toward) -> Tensor:
    """What a penalty pulls to, ``[d_in, d_out]``: the map that changes nothing, or zero."""
    return regression.prior if toward == "present" else torch.zeros_like(regression.prior)


def refuse_not_finite(moments: Moments) -> None:
    """Raise :class:`SingularProblem` when there are no tokens, or a sum is NaN or infinite."""
    if moments.token_count == 0 or moments.weight <= 0:
        raise SingularProblem("There are no calibration tokens: everything is padding or weighs nothing.")
    if not moments.is_finite():
        raise SingularProblem("The activations are not finite. Run the model in bfloat16 or float32.")


def refuse_inner(regression: Regression, what: str) -> None:
    """Raise :class:`InvalidConfig` unless the map is to follow a branch's output: there it may be near the identity."""
    if regression.regressor != "output" or regression.d_in != regression.d_out:
        raise InvalidConfig(
            f"{what} follows the output of a branch; this one goes from the {regression.d_in} columns of its "
            f"{regression.regressor} to {regression.d_out}. Use the merger 'fold', or the estimator 'ridge'."
        )


def _solve_deviation(sums: Moments, prior: Tensor, strength: float) -> Solution:
    """``(G + λI) D = B − G T₀`` for the deviation D = T − T₀: small where T₀ is good, so rounding hurts least."""
    right = sums.xr - sums.xx @ prior
    if not math.isfinite(strength):  # a pull that float64 cannot hold leaves no deviation
        return Solution(torch.zeros_like(right), 0)
    gram = sums.xx + strength * torch.eye(sums.d_in, dtype=sums.xx.dtype, device=sums.xx.device)
    scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()  # unit diagonal: sink columns differ by 1e5
    scaled = gram * scale[:, None] * scale[None, :]
    factor, failed = torch.linalg.cholesky_ex(scaled)
    pivots = factor.diagonal()
    # a pivot below sqrt(d·eps) of a unit diagonal is rounding noise: those columns repeat others
    if int(failed) == 0 and float(pivots.min()) > (len(gram) * torch.finfo(gram.dtype).eps) ** 0.5:
        deviation = scale[:, None] * torch.cholesky_solve(scale[:, None] * right, factor)
        return Solution(deviation, 0)
    return _solve_determined_part(gram, right)


def _solve_determined_part(gram: Tensor, right: Tensor) -> Solution:
    """The solution of least norm by eigenvalues: directions the data do not determine get no deviation."""
    try:
        values, vectors = torch.linalg.eigh(gram)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined] # not in its list of names
        raise SingularProblem(
            "The sums of the activations span more than float64 holds. Use other data, or a weaker ridge."
        ) from error
    determined = values > values[-1] * len(gram) * torch.finfo(gram.dtype).eps
    inverse = torch.where(determined, 1 / values.where(determined, torch.ones_like(values)), 0.0)
    deviation = vectors @ (inverse[:, None] * (vectors.T @ right))
    return Solution(deviation, int((~determined).sum()))


def _notes(undetermined: int, tell: bool) -> tuple[str, ...]:
    if not undetermined:
        return ()
    note = f"the data leave {undetermined} directions of the regressor undetermined; nothing is changed there"
    if tell:
        logger.warning("{}", note)
    return (note,)
