"""Scoring: the objective of models whose last streams are at hand, a few tokens' logits at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import attrs
from torch import Tensor

from billhook.errors import BillhookError, CalibrationError, NotFinite, PluginError
from billhook.evaluation.loss import logit_tokens
from billhook.roles.objective import Objective, Predictions

if TYPE_CHECKING:
    from billhook.activations.runner import Runner
    from billhook.cuts.cut import Cut
    from billhook.data.tokens import TokenBatch
    from billhook.roles.state import PruningState


def score(state: PruningState, objective: Objective) -> float:
    """What ``objective`` says of the present model, ``state.model``, on all calibration tokens; lower is better.

    A few tokens' logits at a time; what the present model shares with the dense one is not computed twice.

    Args:
        state: model and data.
        objective: in its own unit: a perplexity, or nats per token.

    Raises:
        CalibrationError: no row has two tokens, so nothing is predicted.
    """
    total, count = 0.0, 0
    for index, (stream, batch) in enumerate(state.final_streams()):
        dense = functools.partial(state.dense_final_stream, index)
        total += losses(state.flow.runner, objective, [stream], batch, dense)[0]
        count += predicted_count(batch)
    return value_of(objective, total / require_predictions(count))


def refuse_no_candidate(state: PruningState, objective: Objective, totals: Mapping[Cut, float]) -> None:
    """Raise where ``objective`` gives no number for any cut that it was to compare: none is the best then.

    Args:
        state: with the model that all of them were tried in.
        objective: what they were compared by.
        totals: the summed loss after each cut, infinite where it was none.

    Raises:
        NotFinite: the logits of the model are not finite after the first of them.
        PluginError: they are, so the objective is to blame.
    """
    if not totals or any(map(math.isfinite, totals.values())):
        return
    cut = next(iter(totals))
    with state.trial(cut):
        logits = f"the logits after each of {len(totals)} cuts that are compared, {cut} for instance,"
        raise why_not_finite(state, objective, math.nan, logits=logits)


def why_not_finite(state: PruningState, objective: Objective, found: float, *, logits: str = "") -> BillhookError:
    """The error to raise, or to tell, where ``objective`` gave ``found``, which is not finite, for the present model.

    The model is to blame where its logits are not finite, and the objective where they are. ``logits`` says
    which these are.
    """
    logits = logits or f"the {'pruned' if state.cuts else 'dense'} model's logits,"
    if score(state, _NotFiniteLogits()) > 0:
        return NotFinite(f"By the objective {objective!r} {logits.rstrip(',')} are")
    return PluginError(
        f"The objective {objective!r} gives {found} by {logits} which are finite: its loss and value must be numbers "
        f"wherever logits are, or nothing can be compared by it."
    )


@attrs.frozen
class _NotFiniteLogits(Objective):
    """Share of tokens of which a logit is NaN or infinite."""

    def loss(self, predictions: Predictions) -> float:
        """How many of these tokens."""
        return float((~predictions.logits.isfinite().all(-1)).sum())


def losses(
    runner: Runner, objective: Objective, streams: Sequence[Tensor], batch: TokenBatch, dense: Callable[[], Tensor]
) -> list[float]:
    """The summed loss of each candidate.

    Args:
        runner: for the final norm and the head.
        objective: what to sum up.
        streams: by candidate, what left its last layer, ``[batch, seq, d_model]``.
        batch: the tokens, on the streams' device.
        dense: gives the dense model's last stream, same shape; called at most once.
    """
    predicts = batch.keep[:, :-1] & batch.keep[:, 1:]
    labels = batch.ids[:, 1:][predicts]
    entering = [stream[:, :-1][predicts] for stream in streams]  # [tokens, d_model] each
    reference = functools.cache(lambda: dense()[:, :-1][predicts])
    totals = [0.0] * len(streams)
    size = logit_tokens(labels.device)
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        dense_logits = functools.cache(functools.partial(_logits_of, runner, reference, part))
        for number, tokens in enumerate(entering):
            predictions = Predictions(runner.logits(tokens[part]), labels[part], dense_logits)
            totals[number] += _number(objective, "loss", objective.loss(predictions))
    return totals


def value_of(objective: Objective, mean: float) -> float:
    """What the objective makes of a mean loss.

    Raises:
        PluginError: it is no number.
    """
    return _number(objective, "value", objective.value(mean))


def _number(objective: Objective, method: str, answer: object) -> float:
    if isinstance(answer, Real) or (isinstance(answer, Tensor) and answer.numel() == 1 and not answer.is_complex()):
        return float(answer)
    raise PluginError(f"The {method} of the objective {objective!r} must be one number; got {answer!r}.")


def _logits_of(runner: Runner, reference: Callable[[], Tensor], part: slice) -> Tensor:
    return runner.logits(reference()[part])


def predicted_count(batch: TokenBatch) -> int:
    """Tokens of the batch that are predicted: all that follow another one in their row."""
    return int((batch.keep[:, :-1] & batch.keep[:, 1:]).sum())


def require_predictions(count: int) -> int:
    """``count``, unless it is 0."""
    if count == 0:
        raise CalibrationError("An objective needs rows of at least two tokens.")
    return count
