"""Estimator: the role that solves one repair problem."""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, ClassVar

from billhook.regression.regression import Regressor  # at run time: what resolves the annotations needs it

if TYPE_CHECKING:
    from billhook.regression.linear_map import LinearMap
    from billhook.regression.regression import Regression


class Needs(enum.Enum):
    """What must be collected before an estimator can run; nothing else is."""

    NOTHING = "nothing"
    """No data: the cut is not repaired, or the map is known beforehand."""
    MOMENTS = "moments"
    """Streamed sufficient statistics: memory does not grow with the number of tokens."""
    ROWS = "rows"
    """The activations themselves, re-iterable, kept in a cache with a byte budget."""


class Estimator(abc.ABC):
    """Solves one repair problem. Sees activations or their moments, never a model.

    Options belong to the constructor, data to the call. Subclasses are final attrs classes (frozen), so that
    equality, ``repr`` and JSON come from their options.

    Attributes:
        needs: what is collected for it.
        weighs_rows: whether one that reads rows heeds their ``weights``. Where it does not, tokens cannot be weighted
            (:attr:`billhook.Repair.weights`); moments are weighted already.
        regressors: what its maps may start from. One whose maps make sense on the stream alone, such as a rotation,
            says ``("output",)``, and is refused with a merger that asks for a writer (``inner``).
    """

    needs: ClassVar[Needs] = Needs.MOMENTS
    weighs_rows: ClassVar[bool] = False
    regressors: ClassVar[tuple[Regressor, ...]] = ("output", "inner")

    @property
    def gives_bias(self) -> bool:
        """Whether its maps may have a bias: where the merger can put none, that is refused before any work."""
        return False

    @abc.abstractmethod
    def estimate(self, regression: Regression) -> LinearMap | None:
        """Find the map that best turns the regressor into the residual target.

        The regressor is ``[tokens, d_in]``, the target ``[tokens, d_out]``; the answer is ``[d_in, d_out]``,
        float32 or float64, on any device, or None to leave the donor as it is. Same regression and options,
        same answer.

        Raises:
            SingularProblem: the data cannot determine a map and no ridge was asked for, or is not finite.
        """
