"""Objective: a number to minimise on calibration data."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import ClassVar

import attrs
from torch import Tensor


@attrs.frozen(eq=False)
class Predictions:
    """What a model predicts after some tokens; padding and the last token of each row are already gone.

    Attributes:
        logits: of the model in question, ``[tokens, vocab]``, in its dtype.
        labels: the tokens that did follow, ``[tokens]`` int64.
        dense_logits: call it for the dense model's logits on the same tokens, ``[tokens, vocab]``. Computed once for
            all candidates of a search that are compared on these tokens, and only if somebody asks.
    """

    logits: Tensor
    labels: Tensor
    dense_logits: Callable[[], Tensor]


class Objective(abc.ABC):
    """A number to minimise: lower is better. The mean of a loss over all predicted tokens.

    Because it is a sum over tokens, a search can add it up batch by batch and give a candidate up as soon as it
    cannot win any more. It never sees a whole data set's logits.

    Attributes:
        nonnegative: whether no token's loss is ever negative. If one may be, no candidate is given up early.
        compares: whether it asks for the dense model's logits.
    """

    nonnegative: ClassVar[bool] = True
    compares: ClassVar[bool] = False

    @abc.abstractmethod
    def loss(self, predictions: Predictions) -> float:
        """The loss summed over these tokens. Deterministic; reduce in float32 at least."""

    def value(self, mean: float) -> float:
        """What is reported for a mean loss; must grow with it. The mean itself unless overridden."""
        return mean
