"""Whether something is a language model at all, and which token ids it knows."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook.errors import CalibrationError, UnsupportedArchitecture
from billhook.model.acceptance import refuse_unmeasurable


def refuse_no_language_model(model: object) -> None:
    """Raise :class:`UnsupportedArchitecture` for what has no token embedding, or no logits over tokens."""
    if not isinstance(model, nn.Module) or not hasattr(model, "get_input_embeddings"):
        raise UnsupportedArchitecture(
            f"The model must be a transformers model, as billhook.load(name) gives; got {type(model).__name__}."
        )
    refuse_unmeasurable(model)


def refuse_unknown_ids(model: PreTrainedModel, ids: Tensor, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
    """Turn away ids that the embedding of ``model`` does not have, those under padding included.

    Args:
        model: a model with an embedding of tokens.
        ids: of any shape, integers.
        tokenizer: that made them; None for ready ids.

    Raises:
        CalibrationError: an id is negative, or not below the number of embeddings; names the first such id.
    """
    size = len(next(model.get_input_embeddings().parameters()))
    outside = ids[(ids < 0) | (ids >= size)]
    if not len(outside):
        return
    made = None if tokenizer is None else tokenizer.convert_ids_to_tokens(max(int(outside[0]), 0))
    if made is not None and int(outside[0]) >= size:
        raise CalibrationError(
            f"The tokenizer makes the id {int(outside[0])} ({made!r}), but the model has {size} embeddings. Take the "
            f"tokenizer that belongs to it, or model.resize_token_embeddings(len(tokenizer))."
        )
    raise CalibrationError(
        f"The data hold the token id {int(outside[0])}, but this model has a vocabulary of {size} (ids 0 to "
        f"{size - 1}). Give ids that its own tokenizer made; under padding too, any id from 0 on."
    )
