"""tiny_state: what a selector works on, in milliseconds."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from billhook.data.tokens import Tokens
from billhook.model.adapter import Adapter
from billhook.plugins.registry import default_registry
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.state import PruningState
from billhook.testing.samples.bare import Bare
from billhook.testing.samples.models import tiny_tokens, tiny_view


def tiny_state(
    given: Adapter | str | PreTrainedModel = "llama",
    *,
    tokens: Tokens | None = None,
    objective: str | Objective | None = None,
    merger: Merger | None = None,
    **options: Any,
) -> PruningState:
    """A :class:`billhook.PruningState` on a tiny model, ready for a selector: ``Mine().select(tiny_state(), budget)``.

    Nobody makes the cuts that are yielded; ``state.trial(cut)`` shows the model without one.

    Args:
        given: an adapter, a ``model_type``, or a model of an installed adapter's, such as :func:`planted_model` makes.
        tokens: the calibration data; some padded rows of random tokens if None.
        objective: for selectors that search; an object, or a name such as ``perplexity``.
        merger: puts repairs in; one that only cuts if None.
        options: those of :func:`tiny_model`, if ``given`` is no model.
    """
    view = default_registry().view(given) if isinstance(given, PreTrainedModel) else tiny_view(given, **options)
    if isinstance(objective, str):
        made = default_registry().create("objective", objective)
        assert isinstance(made, Objective)  # the registry has seen to it
        objective = made
    data = tokens or tiny_tokens(rows=6, vocab_size=min(64, view.model.config.vocab_size), padding="both")
    return PruningState(view, data, merger=merger or Bare(), objective=objective)
