"""Calibration: which data, and how it becomes rows of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs
import torch
from loguru import logger
from torch import Tensor
from torch.utils.data import DataLoader

from billhook.errors import CalibrationError, InvalidConfig
from billhook.plan import CalibrationRecord
from billhook.text_source import BUILTIN, Document, documents
from billhook.tokens import TokenBatch, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _kept(source: object) -> object:
    """What can be read only once (a generator) or is no list but a row of batches (a loader), as a list."""
    return list(source) if isinstance(source, Iterator | DataLoader) else source


@attrs.frozen(kw_only=True)
class Calibration:
    """Calibration data and its layout. Deterministic: same source, options and tokenizer, same tokens.

    Attributes:
        source: ``"builtin"`` (English text that needs no download), a text or JSONL file, a ``datasets`` name or
            object, a list of strings, or ready token batches (then the rest of the options is unused): tensors of
            ids or mappings with ``input_ids``, in a list, a generator or a ``DataLoader``.
        samples: rows of tokens wanted; with fewer at hand all are used, and a warning says so.
        seqlen: tokens in a row.
        seed: which rows are taken.
        packing: ``"pack"`` joins all documents with blank lines and cuts the tokens into full rows; ``"pad"`` gives
            each document a row of its own, cut or padded on the right.
        chat_template: put every document through the tokenizer's chat template (plain text as a user's message).
    """

    source: object = attrs.field(default=BUILTIN, converter=_kept)
    samples: int = 128
    seqlen: int = 512
    seed: int = 0
    packing: Literal["pack", "pad"] = "pack"
    chat_template: bool = False

    def __attrs_post_init__(self) -> None:
        if self.samples < 1:
            raise InvalidConfig(f"The 'samples' of Calibration must be at least 1; got {self.samples}.")
        if self.seqlen < 2:
            raise InvalidConfig(f"The 'seqlen' of Calibration must be at least 2; got {self.seqlen}.")
        if self.packing not in ("pack", "pad"):
            raise InvalidConfig(f"The 'packing' of Calibration must be 'pack' or 'pad'; got {self.packing!r}.")

    @classmethod
    def of(cls, given: object) -> Calibration:
        """``given`` itself if it is one, the default for None, else a calibration with ``given`` as its source."""
        if isinstance(given, Calibration):
            return given
        return cls() if given is None else cls(source=given)

    def tokenize(self, tokenizer: PreTrainedTokenizerBase | None) -> Tokens:
        """The rows of tokens.

        Raises:
            CalibrationError: the text is missing, empty or shorter than one row, or there is no tokenizer for it.
        """
        if (ready := _ready_tokens(self.source)) is not None:
            return ready
        found, name = documents(self.source)
        if tokenizer is None:
            raise CalibrationError("Calibration text needs a tokenizer: give one, or ready token batches.")
        texts = [self._text(document, tokenizer) for document in found]
        rows = self._packed(texts, tokenizer) if self.packing == "pack" else self._padded(texts, tokenizer)
        order = torch.randperm(len(rows.ids), generator=torch.Generator().manual_seed(self.seed))[: self.samples]
        if len(order) < self.samples:
            logger.warning(
                "The text ({}) gives {} rows of {} tokens; {} were asked for. All are used.",
                name, len(order), self.seqlen, self.samples,
            )  # fmt: skip
        return Tokens(ids=rows.ids[order], keep=rows.keep[order], source=name)

    def record(self, tokens: Tokens) -> CalibrationRecord:
        """What a plan remembers of ``tokens``, which :meth:`tokenize` made."""
        return CalibrationRecord(
            source=str(self.source) if isinstance(self.source, str | Path) else tokens.source,
            samples=self.samples,
            seqlen=self.seqlen,
            seed=self.seed,
            packing=self.packing,
            chat_template=self.chat_template,
            token_count=tokens.token_count,
            fingerprint=tokens.fingerprint,
        )

    @classmethod
    def from_record(cls, record: CalibrationRecord) -> Calibration:
        """The calibration that a plan remembers; its source must be one that a name or path can say."""
        return cls(
            source=record.source,
            samples=record.samples,
            seqlen=record.seqlen,
            seed=record.seed,
            packing=cast(Literal["pack", "pad"], record.packing),
            chat_template=record.chat_template,
        )

    def _text(self, document: Document, tokenizer: PreTrainedTokenizerBase) -> str:
        if isinstance(document, str) and not self.chat_template:
            return document
        chat = [{"role": "user", "content": document}] if isinstance(document, str) else document
        if self.chat_template:
            if not getattr(tokenizer, "chat_template", None):
                raise CalibrationError("The tokenizer has no chat template: leave out chat_template=True.")
            return cast(str, tokenizer.apply_chat_template(chat, tokenize=False))
        return "\n".join(message["content"] for message in chat)

    def _packed(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Tokens:
        ids = tokenize_whole("\n\n".join(texts), tokenizer)
        count = len(ids) // self.seqlen
        if count == 0:
            raise CalibrationError(
                f"The calibration text is too short: {len(ids)} tokens do not fill one row of {self.seqlen}. "
                f"Give more text, a smaller seqlen, or packing='pad'."
            )
        rows = ids[: count * self.seqlen].view(count, self.seqlen)
        return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool))

    def _padded(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Tokens:
        rows = [tokenize_whole(text, tokenizer)[: self.seqlen] for text in texts]
        return Tokens.from_batches([row[None] for row in rows if len(row)])


def tokenize_whole(text: str, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """All token ids of a text, ``[tokens]`` int64, special tokens as the tokenizer adds them.

    Quiet about texts longer than the model's context: they are cut into rows afterwards.
    """
    encoded = tokenizer(text, verbose=False, truncation=False)
    return torch.tensor(cast(list[int], encoded["input_ids"]), dtype=torch.long)


def _ready_tokens(source: object) -> Tokens | None:
    """Tokens, a tensor of ids, or batches of them; None for everything else."""
    if isinstance(source, Tokens):
        return source
    if _is_batch(source):
        return Tokens.from_batches(cast("Iterable[Any]", [source]))
    if isinstance(source, list | tuple) and source and _is_batch(source[0]):
        return Tokens.from_batches(cast("Iterable[Any]", source))
    return None


def _is_batch(item: object) -> bool:
    return isinstance(item, Tensor | TokenBatch) or (isinstance(item, Mapping) and "input_ids" in item)
