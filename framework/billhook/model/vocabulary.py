"""Whether something is a language model at all, and which token ids it knows."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.errors import CalibrationError, UnsupportedArchitecture


def refuse_no_language_model(model: object) -> None:
    """Raise :class:`UnsupportedArchitecture` for what has no token embedding to begin with: a name, a single layer."""
    if not isinstance(model, nn.Module) or not hasattr(model, "get_input_embeddings"):
        raise UnsupportedArchitecture(
            f"The model must be a transformers model, as billhook.load(name) gives; got {type(model).__name__}."
        )


def refuse_unknown_ids(model: PreTrainedModel, ids: Tensor) -> None:
    """Turn away ids that the embedding of ``model`` does not have, those under padding included.

    Args:
        model: a model with an embedding of tokens.
        ids: of any shape, integers.

    Raises:
        CalibrationError: an id is negative, or not below the number of embeddings; names the first such id.
    """
    size = len(next(model.get_input_embeddings().parameters()))
    outside = ids[(ids < 0) | (ids >= size)]
    if len(outside):
        raise CalibrationError(
            f"The data hold the token id {int(outside[0])}, but this model has a vocabulary of {size} (ids 0 to "
            f"{size - 1}). Give ids that its own tokenizer made; under padding too, any id from 0 on."
        )
