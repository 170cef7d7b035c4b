"""Author: a model that writes text, row by row of a fixed length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs
import torch
from torch import Tensor

from billhook.errors import CalibrationError
from billhook.model.key_values import read_on
from billhook.model.mode import eval_mode
from billhook.model.positions import refuse_long_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Choice = Callable[[Tensor, int, Tensor], Tensor]
"""Picks the next token of each row: see :meth:`billhook.SelfGenerated.choose`."""


@attrs.frozen(kw_only=True, eq=False)
class Author:
    """A model and how its texts begin.

    Attributes:
        model: never changed.
        start: what every row begins with, ``[start]`` int64, at least one token.
        id_count: ids from here on mean nothing (embeddings are often padded) and are never written; None for no such.
    """

    model: PreTrainedModel
    start: Tensor
    id_count: int | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, start: str | None = None) -> Author:
        """The author that ``model`` is.

        Args:
            model: a causal language model.
            tokenizer: its tokenizer; without one, its config says what begins and ends a text.
            start: the text to begin with, special tokens and all; the token that begins a text if None.

        Raises:
            CalibrationError: nothing says how a text begins.
        """
        begin = _special(model, tokenizer) if start is None else _tokens_of(start, tokenizer)
        return cls(
            model=model,
            start=torch.tensor(begin, dtype=torch.long),
            id_count=None if tokenizer is None else len(tokenizer),
        )

    @torch.no_grad()
    def write(self, draws: Tensor, choose: Choice, progress: Callable[[int], None]) -> Tensor:
        """As many rows, and tokens in a row, as ``draws`` has.

        A loop of its own rather than ``generate``, which samples by the global generator, fills what it is not told
        from the model's generation config, and stops at the end of a document. A token that ends a document is one
        like others here: the model goes on as in the packed text that it has seen, or with the next turn of a chat.

        Args:
            draws: ``[batch, seq]`` float64, uniform in [0, 1); one for each token, also for those of the start.
            choose: is handed float32 logits ``[batch, vocab]``, how many tokens each row has sampled already, and the
                draws of this token.
            progress: told how many tokens there are, after each column.

        Returns:
            ``[batch, seq]`` int64, on the CPU.
        """
        batch, seq = draws.shape
        refuse_long_rows(self.model, seq)
        if len(self.start) >= seq:
            raise CalibrationError(f"A start of {len(self.start)} tokens leaves no room in rows of {seq}.")
        rows = self.start.repeat(batch, 1).to(self.model.device)
        with eval_mode(self.model):
            logits, past = self._read(rows, None)
            for sampled in range(seq - len(self.start)):
                token = choose(logits, sampled, draws[:, len(self.start) + sampled])[:, None]
                rows = torch.cat([rows, token], dim=1)
                progress(rows.numel())
                if rows.shape[1] < seq:
                    logits, past = self._read(token, past)
        return rows.cpu()

    def _read(self, tokens: Tensor, past: Any) -> tuple[Tensor, Any]:
        """Logits ``[batch, vocab]`` after more ``tokens`` ``[batch, new]``, and the keys and values of all so far."""
        out, past = read_on(self.model, tokens, past, use_cache=True)
        logits: Tensor = out.logits[:, -1].float()
        if bool(logits.isnan().any()):
            raise CalibrationError("The model answers its own text with NaN, so it cannot write calibration data.")
        if self.id_count is not None:
            logits[:, self.id_count :] = -torch.inf
        return logits, past


def _tokens_of(start: str, tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    if tokenizer is None:
        raise CalibrationError("The 'start' of self-generated text is text, and needs a tokenizer.")
    ids = cast("list[int]", tokenizer(start, add_special_tokens=False)["input_ids"])
    if not ids:
        raise CalibrationError(f"The 'start' of self-generated text has no tokens: {start!r}. Leave it out.")
    return ids


def _special(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """The token that begins a text; else one that ends it, since models without the first see texts after others."""
    for name in ("bos_token_id", "eos_token_id"):
        for holder in (tokenizer, model.generation_config, model.config):
            value = getattr(holder, name, None)
            if isinstance(value, list | tuple):
                value = next(iter(value), None)
            if value is not None:
                return [int(value)]
    raise CalibrationError(
        "This model has no token that begins or ends a text. Say how its texts begin: SelfGenerated(start='Once')."
    )
