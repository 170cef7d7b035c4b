"""How far every window of layers moves the residual stream, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from billhook.activations.activation_cache import CacheBudget
from billhook.data.calibration import Calibration
from billhook.data.encoding import refuse_no_tokenizer
from billhook.measures.windows import Metric, Which, WindowDistances, measure_windows
from billhook.model.positions import refuse_long_rows
from billhook.model.vocabulary import refuse_unknown_ids
from billhook.news import News
from billhook.plugins.registry import default_registry
from billhook.progress import Progress
from billhook.pruning.refusals import refuse_no_model
from billhook.roles.state import PruningState

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from billhook.roles.merger import Merger


def analyze(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    calibration: object = None,
    metric: Metric = "cosine",
    tokens: Which = "all",
    skip_sink: bool = False,
    progress: Progress | None = None,
) -> WindowDistances:
    """The distances that ``billhook analyze`` prints: near windows of layers can go. The model is not changed.

    Args:
        model: a causal language model that an adapter knows.
        tokenizer: as for :meth:`Pruner.prune`.
        calibration: a :class:`Calibration`, or what its ``source`` takes; the default one if None.
        metric: ``cosine`` (1 - cos), ``angular`` (angle in half-turns) or ``l2`` (Euclidean).
        tokens: average over ``all`` tokens, or the ``last`` of each row.
        skip_sink: leave out the first token of each row.
        progress: told how far it is. If None, a bar is shown (see :class:`Pruner`).

    Returns:
        The distances, by ``distances[start, stop]``; as a table (``print``, ``table()``), as a heat map in a notebook,
        and as JSON values (``to_dict()``).

    Raises:
        BillhookError: the model, the data or an option cannot be used.
    """
    refuse_no_model(model)
    registry = default_registry()
    view = registry.view(model)
    if tokenizer is not None:
        refuse_no_tokenizer(tokenizer)
    with News(shown=progress is None) as news:
        told = progress or news
        data = Calibration.of(calibration).tokenize(tokenizer, model, progress=told)
        refuse_unknown_ids(model, data.ids, tokenizer)
        refuse_long_rows(model, data.ids.shape[1])
        state = PruningState(
            view,
            data,
            merger=cast("Merger", registry.create("merger", "billhook:fold")),
            cache=CacheBudget(device=0, host=0),  # every stream is needed once
            progress=told,
        )
        try:
            return measure_windows(state, metric=metric, tokens=tokens, skip_sink=skip_sink)
        finally:
            state.close()
