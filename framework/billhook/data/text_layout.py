"""TextLayout: how documents become rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

import attrs
import torch
from torch import Tensor

from billhook.data.beginning import beginning_of, begun_rows
from billhook.data.encoding import encode
from billhook.data.text_source import Document
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HEAD_CHARACTERS = 1024
"""Of a templated text, looked at to see how it begins."""


@attrs.frozen(kw_only=True)
class TextLayout:
    """What documents go through on their way to tokens; the options are those of :class:`billhook.Calibration`."""

    tokenizer: PreTrainedTokenizerBase
    seqlen: int
    packing: Literal["pack", "pad"]
    chat_template: bool
    begin: bool = False

    def rows(self, documents: Sequence[Document], name: str) -> Tokens:
        """All rows, in the order of the documents; ``name`` is what to call them.

        Raises:
            CalibrationError: they do not fill one row, or the chat template is missing or refuses one.
        """
        texts = [self._text(document) for document in documents]
        return self._packed(texts, name) if self.packing == "pack" else self._padded(texts)

    def start(self, text: str) -> tuple[int, ...]:
        """What every packed row of ``text`` begins with; nothing unless asked for.

        The tokens that the tokenizer puts before a text. Of chats the template decides: where it begins without them,
        so does the model's use.
        """
        start = beginning_of(self.tokenizer) if self.begin else ()
        if self.chat_template and start:
            written = tokenize_whole(text[:HEAD_CHARACTERS], self.tokenizer, special=False)
            return start if tuple(written[: len(start)].tolist()) == start else ()
        return start

    def _text(self, document: Document) -> str:
        if self.chat_template:
            return _templated(document, self.tokenizer)
        return document if isinstance(document, str) else "\n".join(message["content"] for message in document)

    def _packed(self, texts: list[str], name: str) -> Tokens:
        # a template writes its own ends; a blank line after them would be what no model has seen
        whole = ("" if self.chat_template else "\n\n").join(texts)
        start = self.start(whole)
        ids = tokenize_whole(whole, self.tokenizer, special=not self.chat_template and not start)
        rows = begun_rows(ids, start, self.seqlen)
        if len(rows) == 0:
            raise CalibrationError(
                f"The calibration text ({name}) is too short: {len(ids)} tokens do not fill one row of {self.seqlen}. "
                f"Give more text, a smaller seqlen, or packing='pad'."
            )
        return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool))

    def _padded(self, texts: list[str]) -> Tokens:
        rows = [self._ids(text)[: self.seqlen] for text in texts]
        return Tokens.from_batches([row[None] for row in rows if len(row)])

    def _ids(self, text: str) -> Tensor:
        """Where a template writes the special tokens, the tokenizer adds none: a second start would be a mistake."""
        return tokenize_whole(text, self.tokenizer, special=not self.chat_template)


def tokenize_whole(text: str, tokenizer: PreTrainedTokenizerBase, *, special: bool = True) -> Tensor:
    """All token ids of a text, ``[tokens]`` int64, with the special tokens that the tokenizer adds if ``special``.

    Quiet about texts longer than the model's context: they are cut into rows afterwards.
    """
    return torch.tensor(encode([text], tokenizer, special=special)[0], dtype=torch.long)


def _templated(document: Document, tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat, or text as a user's message, the way the tokenizer's chat template writes it."""
    if not getattr(tokenizer, "chat_template", None):
        raise CalibrationError("The tokenizer has no chat template: leave out chat_template=True.")
    chat = [{"role": "user", "content": document}] if isinstance(document, str) else document
    try:
        return cast(str, tokenizer.apply_chat_template(chat, tokenize=False))
    except Exception as error:  # a template is a program of its own, and may divide by zero
        roles = ", ".join(message["role"] for message in chat)
        raise CalibrationError(
            f"The tokenizer's chat template refuses a chat of {roles}: {first_line(error)}. Leave such chats out, or "
            f"chat_template=True."
        ) from error
