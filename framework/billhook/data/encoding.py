"""The one place where text goes into a tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from billhook.errors import CalibrationError, InvalidConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, special: bool = True) -> list[list[int]]:
    """The token ids of each text, however long, with the special tokens that the tokenizer adds if ``special``.

    Quiet about texts longer than the model's context: what is too long for it is refused where it is known.

    Raises:
        CalibrationError: a text holds half of a surrogate pair (``\\ud83d`` alone in JSON), which is no character.
    """
    for text in texts:
        _refuse_half_characters(text)
    encoded = tokenizer(list(texts), verbose=False, truncation=False, add_special_tokens=special)
    return cast("list[list[int]]", encoded["input_ids"])


def refuse_no_tokenizer(tokenizer: object) -> PreTrainedTokenizerBase:
    """The tokenizer itself.

    Raises:
        CalibrationError: there is none.
        InvalidConfig: it is something else, a name for instance.
    """
    from transformers import PreTrainedTokenizerBase

    if tokenizer is None:
        raise CalibrationError("Text needs a tokenizer: give one, or ready token batches.")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InvalidConfig(
            f"The tokenizer must be a transformers tokenizer, as billhook.load(name) gives beside the model; got "
            f"{type(tokenizer).__name__}."
        )
    return tokenizer


def _refuse_half_characters(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start + 1]
        raise CalibrationError(
            f"A text holds {text[error.start]!r}, half of a surrogate pair, which is no character and has no token: "
            f"it stands at the end of {near!r}. Write the whole pair, or replace it (\\ufffd)."
        ) from error
