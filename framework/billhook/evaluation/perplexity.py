"""Evaluation: perplexity of any causal language model on held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.data.beginning import beginning_of, refuse_no_room
from billhook.data.calibration import tokenize_whole
from billhook.data.encoding import refuse_no_tokenizer
from billhook.data.given import keep, ready_tokens
from billhook.data.text_source import BUILTIN_EVALUATION, documents
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, InvalidConfig
from billhook.evaluation.loss import summed_loss
from billhook.model.mode import eval_mode
from billhook.model.positions import refuse_long_rows
from billhook.model.vocabulary import refuse_no_language_model, refuse_unknown_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@attrs.frozen(kw_only=True)
class Evaluation:
    """Perplexity, and what it was measured on.

    Attributes:
        perplexity: exp of the mean negative log-likelihood, over every token after the first of its row.
        token_count: tokens that were predicted.
        rows: rows of ``seqlen`` tokens.
        seqlen: tokens in a row.
        source: the text.
        parameters: of the model, tied ones once.
    """

    perplexity: float
    token_count: int
    rows: int
    seqlen: int
    source: str
    parameters: int


@torch.inference_mode()
def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    text: object = BUILTIN_EVALUATION,
    *,
    seqlen: int = 1024,
    tokens: int = 65536,
    begin: bool = True,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Evaluation:
    """Perplexity in non-overlapping rows, over the *last* ``tokens`` tokens of a text.

    The end is used so that calibration on the beginning of the same text stays apart.

    Args:
        model: any causal language model of transformers, pruned or not.
        tokenizer: its tokenizer; not needed for ready tokens.
        text: as the ``source`` of a calibration: a file (``.raw`` in WikiText's layout), strings, a data set, or ready
            tokens. Those are measured row by row as they are, without what is padded, and the options below, which say
            how text becomes rows, are unused.
        seqlen: tokens in a row; each row is predicted by itself.
        tokens: how many tokens to use at most; whole rows only.
        begin: begin every row with the tokens that the tokenizer puts before a text, where it does so. Without them
            families that are used with them (Gemma) give perplexities that say nothing.
        progress: called with ``"scoring"``, rows done, and all rows.

    Returns:
        The perplexity (exp of the mean negative log-likelihood, over every token after the first of its row), and what
        it was measured on.

    Raises:
        CalibrationError: the text is missing, empty, or shorter than one row, or rows are longer than the model takes.
        InvalidConfig: rows of fewer than two tokens, which predict nothing.
    """
    refuse_no_language_model(model)
    rows = held_out(text, tokenizer, seqlen=seqlen, tokens=tokens, begin=begin)
    count, seqlen = rows.ids.shape
    predicted = int((rows.keep.sum(1) - 1).clamp(min=0).sum())
    if not predicted:
        raise CalibrationError("There is nothing to predict: every row has fewer than two tokens.")
    refuse_unknown_ids(model, rows.ids)
    refuse_long_rows(model, int(rows.keep.sum(1).max()))
    total = 0.0
    with eval_mode(model):
        for number, (row, keep) in enumerate(zip(rows.ids, rows.keep, strict=True), 1):
            if int(keep.sum()) > 1:
                total += _row_loss(model, row[keep][None].to(next(model.get_input_embeddings().parameters()).device))
            if progress is not None:
                progress("scoring", number, count)
    return Evaluation(
        perplexity=_exp(total / predicted),
        token_count=predicted,
        rows=count,
        seqlen=seqlen,
        source=rows.source,
        parameters=sum(p.numel() for p in model.parameters()),
    )


def held_out(
    text: object,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    seqlen: int = 1024,
    tokens: int = 65536,
    begin: bool = True,
) -> Tokens:
    """The rows that :func:`evaluate` measures on; arguments and errors are those of that function."""
    source = keep(text)
    if (ready := ready_tokens(source)) is not None:
        return ready
    if seqlen < 2:
        raise InvalidConfig(f"The 'seqlen' of an evaluation must be at least 2; got {seqlen}.")
    found, name = documents(source)
    known = refuse_no_tokenizer(tokenizer)
    whole = "\n\n".join(d if isinstance(d, str) else "\n".join(m["content"] for m in d) for d in found)
    start = beginning_of(known) if begin else ()
    refuse_no_room(start, seqlen)
    ids = tokenize_whole(whole, known, special=not start)
    fresh = seqlen - len(start)
    count = min(tokens // seqlen, len(ids) // fresh)
    if count <= 0:
        raise CalibrationError(
            f"The text ({name}) is too short: {min(tokens, len(ids))} tokens do not fill one row of {seqlen}."
        )
    text_rows = ids[len(ids) - count * fresh :].view(count, fresh)
    rows = torch.cat([torch.tensor(start, dtype=torch.long).expand(count, -1), text_rows], dim=1)
    return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool), source=name)


def _row_loss(model: PreTrainedModel, row: Tensor) -> float:
    """Summed negative log-likelihood of ``row`` ``[1, seq]``."""
    logits: Tensor = model(input_ids=row, use_cache=False).logits[0, :-1]
    return summed_loss(logits, row[0, 1:])


def _exp(mean_loss: float) -> float:
    """exp, or infinity where a float cannot hold it."""
    try:
        return math.exp(mean_loss)
    except OverflowError:
        return math.inf
