"""Comparison: what the objective would be after each of many cuts, on the same few tokens."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import torch

from billhook.cuts.candidate import Candidate
from billhook.errors import InvalidConfig
from billhook.search.candidate_streams import CandidateStreams
from billhook.search.scoring import losses, predicted_count, refuse_no_candidate, require_predictions

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.data.tokens import TokenBatch
    from billhook.roles.state import PruningState


@attrs.frozen(eq=False)
class Comparison:
    """Mean losses on the same tokens.

    Attributes:
        present: of the model as it is.
        after: of the model after each cut, repaired where the state has trials; infinite if it is not finite.
    """

    present: float
    after: Mapping[Cut, float]


@torch.no_grad()
def compare(state: PruningState, cuts: Sequence[Cut], *, tokens: int | None = None) -> Comparison:
    """The mean loss after each of ``cuts``, all on the same tokens; nothing is given up early.

    What stands before a candidate is computed once for all, as in a :class:`billhook.Search`.

    Args:
        state: model, data, objective and trials.
        cuts: valid for the present model.
        tokens: how many tokens at least, in rows spread over the data (over what is held out, if repairs are tried);
            all of those if None.

    Raises:
        InvalidConfig: the state has no objective.
        NotFinite: the model's logits are not finite after any of the cuts.
        PluginError: the objective gives no number for any of them.
    """
    if state.objective is None:
        raise InvalidConfig("To compare cuts takes an objective: Pruner(objective='perplexity'), for instance.")
    candidates = state.candidates(cuts)
    batches = _some(state, tokens)
    streams = CandidateStreams(state, batches)
    streams.start_step(candidates)
    nothing = Candidate(None, {state.flow.last: None}, 0)  # type: ignore[arg-type] # a candidate that cuts nothing
    totals = dict.fromkeys([nothing, *candidates], 0.0)
    for index in range(len(batches)):
        for candidate, stream, batch in streams.last_streams(index, [nothing, *candidates]):
            dense = functools.partial(streams.dense_last, index, batch)
            loss = losses(state.flow.runner, state.objective, [stream], batch.tokens, dense)[0]
            totals[candidate] += loss if math.isfinite(loss) else math.inf
        state.progress("comparing", index + 1, len(batches))
    refuse_no_candidate(state, state.objective, {c.cut: totals[c] for c in candidates})
    count = require_predictions(sum(predicted_count(batch) for batch in batches))
    return Comparison(totals[nothing] / count, {c.cut: totals[c] / count for c in candidates})


def _some(state: PruningState, tokens: int | None) -> Sequence[TokenBatch]:
    """Rows spread over the data, in batches of the state's size."""
    size = max(len(batch.ids) for batch in state.flow.batches)
    return state.compared_on.some(tokens).batches(size * state.tokens.ids.shape[1])
