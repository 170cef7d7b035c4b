"""Evaluation: perplexity of any causal language model on held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs
import torch
from torch import Tensor

from billhook.data.beginning import beginning_of, refuse_no_room
from billhook.data.calibration import tokenize_whole
from billhook.data.corpus import Corpus
from billhook.data.encoding import refuse_no_tokenizer
from billhook.data.given import keep, ready_tokens
from billhook.data.text_source import BUILTIN_EVALUATION, Document, opened, plain
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, InvalidConfig, NotFinite
from billhook.evaluation.loss import summed_loss
from billhook.model.mode import eval_mode
from billhook.model.positions import refuse_long_rows
from billhook.model.vocabulary import refuse_no_language_model, refuse_unknown_ids
from billhook.news import News
from billhook.tables import facts_html, finite
from billhook.value_kinds import refuse_other_kind

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

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, as JSON values; None for a perplexity that no float can hold."""
        return cast("dict[str, Any]", finite(attrs.asdict(self)))

    def _repr_html_(self) -> str:
        return facts_html(self.to_dict())


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
        progress: called with ``"scoring"``, rows done, and all rows. If None, a bar is shown (see :class:`Pruner`).

    Returns:
        The perplexity (exp of the mean negative log-likelihood, over every token after the first of its row), and what
        it was measured on.

    Raises:
        CalibrationError: the text is missing, empty, or shorter than one row, rows are longer than the model takes, or
            hold ids that it does not have.
        NotFinite: the model's logits are not.
        UnsupportedArchitecture: a model of transformers that is no causal language model.
        InvalidConfig: rows of fewer than two tokens, which predict nothing.
    """
    refuse_no_language_model(model)
    rows = held_out(text, tokenizer, seqlen=seqlen, tokens=tokens, begin=begin)
    count, seqlen = rows.ids.shape
    predicted = int((rows.keep.sum(1) - 1).clamp(min=0).sum())
    if not predicted:
        raise CalibrationError("There is nothing to predict: every row has fewer than two tokens.")
    refuse_unknown_ids(model, rows.ids, tokenizer)
    refuse_long_rows(model, int(rows.keep.sum(1).max()))
    total = 0.0
    with eval_mode(model), News(shown=progress is None) as news:
        for number, (row, keep) in enumerate(zip(rows.ids, rows.keep, strict=True), 1):
            if int(keep.sum()) > 1:
                total += _row_loss(model, row[keep][None].to(next(model.get_input_embeddings().parameters()).device))
            (progress or news)("scoring", number, count)
    if not math.isfinite(total):
        raise NotFinite("The logits are")
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
    for name, value in (("seqlen", seqlen), ("tokens", tokens)):
        refuse_other_kind(value, int, f"The {name!r} of an evaluation")
    if seqlen < 2:
        raise InvalidConfig(f"The 'seqlen' of an evaluation must be at least 2; got {seqlen}.")
    known = refuse_no_tokenizer(tokenizer)
    found, name = opened(source, size=2**16, tokens=tokens)
    start = beginning_of(known) if begin else ()
    refuse_no_room(start, seqlen)
    ids = _ending(found, known, tokens, special=not start)
    fresh = seqlen - len(start)
    count = min(tokens // seqlen, len(ids) // fresh)
    if count <= 0:
        raise CalibrationError(
            f"The text ({name}) is too short: {min(tokens, len(ids))} tokens do not fill one row of {seqlen}."
        )
    text_rows = ids[len(ids) - count * fresh :].view(count, fresh)
    rows = torch.cat([torch.tensor(start, dtype=torch.long).expand(count, -1), text_rows], dim=1)
    return Tokens(ids=rows, keep=torch.ones_like(rows, dtype=torch.bool), source=name)


def _ending(
    found: list[Document] | Corpus, tokenizer: PreTrainedTokenizerBase, tokens: int, *, special: bool
) -> Tensor:
    """The ids of a text, or of the end of one that is too long to be tokenised for its last ``tokens``."""
    if not isinstance(found, Corpus):
        return tokenize_whole("\n\n".join(map(plain, found)), tokenizer, special=special)
    characters, before = 8 * tokens, -1
    while True:
        text = found.ending(characters, plain)
        ids = tokenize_whole(text, tokenizer, special=False)
        if len(ids) >= tokens or len(text) == before:  # enough, or all
            return ids
        characters, before = 2 * characters, len(text)


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
