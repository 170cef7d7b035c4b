"""How long the rows of tokens may be that a model takes."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from billhook.errors import CalibrationError


def position_limit(model: PreTrainedModel) -> int | None:
    """Tokens that a row may have: what a table of positions holds (GPT-2, OPT); computed ones (rotary) have no end."""
    words = model.get_input_embeddings()
    has_table = any(isinstance(module, nn.Embedding) and module is not words for module in model.modules())
    limit = getattr(model.config, "max_position_embeddings", None)
    return limit if has_table and isinstance(limit, int) else None


def refuse_long_rows(model: PreTrainedModel, seq: int) -> None:
    """Turn away rows that run off a table of positions: :func:`position_limit`.

    Raises:
        CalibrationError: rows of ``seq`` tokens are longer than the table.
    """
    limit = position_limit(model)
    if limit is not None and seq > limit:
        raise CalibrationError(
            f"Rows of {seq} tokens are too long: this {model.config.model_type} model has {limit} positions. "
            f"Use a smaller seqlen."
        )
