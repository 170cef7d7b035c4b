"""TextLayout: how documents become rows of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

import attrs
import torch
from torch import Tensor

from billhook.data.beginning import beginning_of, begun_rows
from billhook.data.corpus import Corpus, Pieces, drawn_texts
from billhook.data.encoding import encode
from billhook.data.text_source import Document, plain
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONGEST_TOKEN = 64
"""Characters for each token of a row that are tokenised of a document that is cut off behind the row."""

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
            return templated_text(document, self.tokenizer)
        return plain(document)

    def drawn(self, corpus: Corpus, name: str, *, count: int, seed: int) -> Tokens:
        """At most ``count`` rows of documents that are too many to go through :meth:`rows`, already shuffled.

        The first rows of many are the rows of few. Text is tokenised a piece at a time.
        """
        if self.packing == "pad":
            ids = self._drawn_documents(corpus, count, seed)
            if not ids:
                raise CalibrationError(f"The calibration text ({name}) is empty.")
            return Tokens.from_batches([row[None] for row in ids])
        texts = drawn_texts(corpus, self._text, size=self.piece, seed=seed)
        start: tuple[int, ...] | None = None
        pieces: list[Tensor] = []
        while sum(map(len, pieces)) < count * self.seqlen and (text := next(texts, None)) is not None:
            start = self.start(text) if start is None else start
            pieces.append(tokenize_whole(text + self.between, self.tokenizer, special=False))
        found = torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.long)
        rows = begun_rows(found, start or (), self.seqlen)[:count]
        if len(rows) == 0:
            raise CalibrationError(self._too_short(name, len(found)))
        return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool))

    @property
    def piece(self) -> int:
        """Characters of one text that are tokenised at a time, about four rows of English."""
        return 16 * self.seqlen

    @property
    def between(self) -> str:
        """What stands between documents: a template writes its own ends, and no model has seen blank lines there."""
        return "" if self.chat_template else "\n\n"

    def _drawn_documents(self, corpus: Corpus, count: int, seed: int) -> list[Tensor]:
        """Rows of one document each, as many as there are, but at most ``count``."""
        rows: list[Tensor] = []
        single = isinstance(corpus, Pieces)  # one document, whatever its length
        order = [0] if single else torch.randperm(corpus.count, generator=torch.Generator().manual_seed(seed))
        for number in map(int, order):
            ids = self._ids(self._text(corpus.document(number))[: LONGEST_TOKEN * self.seqlen])[: self.seqlen]
            rows += [ids] if len(ids) else []
            if len(rows) == count:
                break
        return rows

    def _packed(self, texts: list[str], name: str) -> Tokens:
        whole = self.between.join(texts)
        start = self.start(whole)
        ids = tokenize_whole(whole, self.tokenizer, special=not self.chat_template and not start)
        rows = begun_rows(ids, start, self.seqlen)
        if len(rows) == 0:
            raise CalibrationError(self._too_short(name, len(ids)))
        return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool))

    def _too_short(self, name: str, tokens: int) -> str:
        return (
            f"The calibration text ({name}) is too short: {tokens} tokens do not fill one row of {self.seqlen}. "
            f"Give more text, a smaller seqlen, or packing='pad'."
        )

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


def templated_text(document: Document, tokenizer: PreTrainedTokenizerBase) -> str:
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
