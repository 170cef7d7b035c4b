"""Zero-shot accuracy: which of several answers a language model finds likeliest.

The conventions are those of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), so that
figures compare with published ones: ``acc_norm`` for questions with several choices, ``acc`` for partial evaluation.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor

from billhook.data.encoding import encode, refuse_no_tokenizer
from billhook.data.tokens import TokenBatch
from billhook.errors import CalibrationError, InvalidConfig, NotFinite
from billhook.evaluation.loss import summed_loss
from billhook.evaluation.task import Task, read_task
from billhook.evaluation.task_accuracy import TaskAccuracy
from billhook.model.mode import eval_mode
from billhook.model.positions import position_limit
from billhook.model.vocabulary import refuse_no_language_model, refuse_unknown_ids
from billhook.news import News

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@torch.inference_mode()
def accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: object,
    *,
    limit: int | None = None,
    batch_tokens: int = 4096,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> TaskAccuracy:
    """The share of questions whose right answer is the likeliest, by summed log-likelihood of the answer's tokens.

    Among several choices for one query the sum is divided by the choice's characters (``acc_norm``); where one choice
    follows several queries (WinoGrande) it is not. Spaces at the end of a query count to the answer, and the answer's
    tokens are those that the whole has more than the query. Softmax in float32.

    Args:
        model: any causal language model of transformers, pruned or not.
        tokenizer: its tokenizer; special tokens as it adds them.
        task: a ``.jsonl`` file, records, or what :func:`billhook.evaluation.task.read_task` made of them.
        limit: ask only the first questions; all if None.
        batch_tokens: rows of about this many positions go through the model at once, at least one row.
        progress: called with the task's name, answers scored, and all answers.

    Raises:
        CalibrationError: the task cannot be read, or has questions that are longer than the model takes.
        NotFinite: the model's logits are not.
        InvalidConfig: ``limit`` or ``batch_tokens`` is less than 1.
    """
    if batch_tokens < 1:
        raise InvalidConfig(f"The 'batch_tokens' of an accuracy must be at least 1; got {batch_tokens}.")
    refuse_no_language_model(model)
    asked = (task if isinstance(task, Task) else read_task(task)).first(limit)
    rows = _rows(asked, refuse_no_tokenizer(tokenizer))
    _refuse_long_questions(model, asked.name, rows)
    refuse_unknown_ids(model, torch.tensor(sorted({number for row in rows for number in row.ids})), tokenizer)
    found = [math.nan] * len(rows)
    done = 0
    with eval_mode(model), News(shown=progress is None) as news:
        for numbers in _batches([len(row.ids) for row in rows], batch_tokens):
            for number, value in zip(numbers, _log_likelihoods(model, [rows[n] for n in numbers]), strict=True):
                found[number] = value
            done += len(numbers)
            (progress or news)(asked.name, done, len(rows))
    if not all(map(math.isfinite, found)):
        raise NotFinite("The logits are")
    answers = iter(found)
    hits = tuple(question.is_hit([next(answers) for _ in question.options]) for question in asked.questions)
    return TaskAccuracy(task=asked.name, hits=hits)


@attrs.frozen
class _Row:
    """One answer after its context: all token ids, the place of the answer's first, and the question's number."""

    ids: list[int]
    start: int
    question: int


def _rows(task: Task, tokenizer: PreTrainedTokenizerBase) -> list[_Row]:
    """Every answer of every question, in order."""
    options = [(n, *option) for n, question in enumerate(task.questions, 1) for option in question.options]
    # encoded whole: a tokenizer may join letters across the seam
    wholes = _encoded([context + continuation for _, context, continuation in options], tokenizer)
    contexts = _encoded([context.rstrip() for _, context, _ in options], tokenizer)
    # at least the last token is scored, should the tokenizer make no more of the whole than of the context
    starts = [min(len(context), len(whole) - 1) for context, whole in zip(contexts, wholes, strict=True)]
    rows = [_Row(ids, start, number) for ids, start, (number, _, _) in zip(wholes, starts, options, strict=True)]
    for row in rows:
        if row.start < 1:
            raise CalibrationError(
                f"Question {row.question} of {task.name} has no token before its answers: its query is empty, and "
                f"this tokenizer puts none at the beginning. Give it a query."
            )
    return rows


def _encoded(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each text, special tokens as the tokenizer adds them."""
    return encode(texts, tokenizer)


def _refuse_long_questions(model: PreTrainedModel, name: str, rows: Sequence[_Row]) -> None:
    limit = position_limit(model)
    numbers = sorted({row.question for row in rows if limit is not None and len(row.ids) > limit})
    if numbers:
        shown = ", ".join(str(number) for number in numbers[:5]) + (", …" if len(numbers) > 5 else "")
        raise CalibrationError(
            f"{len(numbers)} of the questions of {name} are too long: this {model.config.model_type} model has {limit} "
            f"positions. Leave them out (from 1: {shown})."
        )


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of rows that go through together, the longest first: little padding, and memory runs out at once."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    while order:
        rows = max(1, batch_tokens // lengths[order[0]])
        yield order[:rows]
        order = order[rows:]


def _log_likelihoods(model: PreTrainedModel, rows: Sequence[_Row]) -> list[float]:
    """Of each row's answer, in nats, summed over its tokens."""
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])  # [batch, seq]
    keep = torch.arange(width) < torch.tensor([[len(row.ids)] for row in rows])
    batch = TokenBatch(ids, keep).to(next(model.get_input_embeddings().parameters()).device)
    first = min(row.start for row in rows) - 1
    logits = _last_logits(model, batch, width - first)
    return [-summed_loss(*_answer(row, logits[n], batch.ids[n], first)) for n, row in enumerate(rows)]


def _answer(row: _Row, logits: Tensor, ids: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """What predicts a row's answer, ``[tokens, vocab]``, and its tokens; ``logits`` begin at position ``first``."""
    start, stop = row.start, len(row.ids)
    return logits[start - 1 - first : stop - 1 - first], ids[start:stop]


def _last_logits(model: PreTrainedModel, batch: TokenBatch, count: int) -> Tensor:
    """``[batch, count, vocab]``, at the last positions; families that can do so compute no others."""
    can_choose = "logits_to_keep" in inspect.signature(model.forward).parameters
    chosen: dict[str, Any] = {"logits_to_keep": count} if can_choose else {}
    logits: Tensor = model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False, **chosen).logits
    return logits[:, -count:]
