"""Which rows of tokens a model takes: how long they may be, and which ids it knows."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


def refuse_unknown_ids(model: PreTrainedModel, ids: Tensor, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Turn away tokens that the model has no embedding for.

    Args:
        model: with its weights or without.
        ids: of any shape.
        tokenizer: that made them; None for ready ids.

    Raises:
        CalibrationError: an id is negative, or not below the number of embeddings; names it, and the token.
    """
    count = next(model.get_input_embeddings().parameters()).shape[0]
    if not ids.numel() or (int(ids.min()) >= 0 and int(ids.max()) < count):
        return
    strange = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
    if tokenizer is None:
        raise CalibrationError(
            f"The tokens hold the id {strange}, but the model has {count} embeddings, ids 0 to {count - 1}. They are "
            f"another model's, or its embeddings were not resized."
        )
    raise CalibrationError(
        f"The tokenizer makes the id {strange} ({tokenizer.convert_ids_to_tokens(strange)!r}), but the model has "
        f"{count} embeddings. Take the tokenizer that belongs to it, or model.resize_token_embeddings(len(tokenizer))."
    )
