"""Task: questions that come with their possible answers, as zero-shot accuracy is measured on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from billhook.data.text_source import json_lines, listing_of
from billhook.errors import CalibrationError, InvalidConfig
from billhook.value_kinds import refuse_other_kind

FORMAT = "a .jsonl file; a record has 'query', 'choices' and 'gold', or 'queries', one choice and 'gold'"
"""What a task is read from, for messages."""


@attrs.frozen(kw_only=True)
class Question:
    """What is scored for one record, and which answer is right.

    Attributes:
        options: for each answer a context and its continuation; a model prefers the likeliest continuation.
        lengths: what each log-likelihood is divided by: the answer's characters, or 1.
        gold: index of the right answer.
    """

    options: tuple[tuple[str, str], ...]
    lengths: tuple[int, ...]
    gold: int

    def is_hit(self, log_likelihoods: Sequence[float]) -> bool:
        """Whether the right answer is the likeliest: the first of equal ones counts, and NaN is never right."""
        scores = [value / length for value, length in zip(log_likelihoods, self.lengths, strict=True)]
        if any(math.isnan(score) for score in scores):
            return False
        return scores.index(max(scores)) == self.gold


@attrs.frozen(kw_only=True)
class Task:
    """Questions in their order.

    Attributes:
        name: what the task is called in results.
        questions: at least one.
    """

    name: str
    questions: tuple[Question, ...] = attrs.field(repr=lambda questions: f"<{len(questions)} of them>")

    def __attrs_post_init__(self) -> None:
        if not self.questions:
            raise CalibrationError(f"The task {self.name} has no questions.")

    def first(self, limit: int | None) -> Task:
        """The first ``limit`` questions; all if None.

        Raises:
            InvalidConfig: ``limit`` is less than 1.
        """
        refuse_other_kind(limit, int | None, "The 'limit' of a task")
        if limit is not None and limit < 1:
            raise InvalidConfig(f"The 'limit' of a task must be at least 1; got {limit}.")
        return attrs.evolve(self, questions=self.questions[:limit])


def read_task(source: object, *, name: str | None = None) -> Task:
    """A task from records that are prepared as lm-evaluation-harness prepares them.

    A record with ``query`` and ``choices`` asks which choice goes on best after the query. One with ``queries`` and a
    single choice (WinoGrande) asks after which query that choice is likeliest: *partial evaluation*. ``gold`` is
    the index of the right one. A space is put before each choice, and belongs to what is scored.

    Args:
        source: a ``.jsonl`` file, or records: a list of mappings, a ``datasets.Dataset``.
        name: of the task; the file's stem if None.

    Raises:
        CalibrationError: the file is missing or is not JSON, there are no records, or one is not as above; the text
            says which line.
    """
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.is_file():
            raise CalibrationError(f"The task file {source} does not exist. A task is {FORMAT}.")
        found = [_question(record, f"{path}, line {line}") for line, record in json_lines(path)]
        return Task(name=name or path.stem, questions=tuple(found))
    if not isinstance(source, Iterable) or isinstance(source, Mapping):
        raise CalibrationError(f"A task is a list of records, or {FORMAT}; got {listing_of(source)}.")
    found = [_question(record, f"Record {number} of the task") for number, record in enumerate(source, 1)]
    return Task(name=name or f"{len(found)} records", questions=tuple(found))


def _question(record: object, where: str) -> Question:
    if not isinstance(record, Mapping):
        raise CalibrationError(f"{where}: a question is a mapping; got {listing_of(record)}. A task is {FORMAT}.")
    choices = _texts(record, "choices", where)
    if "" in choices:
        raise CalibrationError(f"{where}: choice {choices.index('')} is empty, so that there is nothing to score.")
    if record.get("queries") is None:
        query = _query(record, where)
        options, lengths = [(query, f" {choice}") for choice in choices], [len(choice) for choice in choices]
    elif len(choices) == 1:
        options = [(query, f" {choices[0]}") for query in _texts(record, "queries", where)]
        lengths = [1] * len(options)
    else:
        raise CalibrationError(f"{where}: a question with 'queries' has one choice; got {len(choices)}.")
    return Question(options=tuple(options), lengths=tuple(lengths), gold=_gold(record, len(options), where))


def _query(record: Mapping[str, object], where: str) -> str:
    query = record.get("query")
    if not isinstance(query, str):
        raise _missing(record, "query", "a string", where)
    return _whole(query, "query", where)


def _gold(record: Mapping[str, object], answers: int, where: str) -> int:
    gold = record.get("gold")
    if isinstance(gold, bool) or not isinstance(gold, int):
        raise _missing(record, "gold", "an index", where)
    if answers < 2 or not 0 <= gold < answers:
        raise CalibrationError(
            f"{where}: 'gold' is the index of one of at least two answers, from 0; got {gold} of {answers} answers."
        )
    return gold


def _texts(record: Mapping[str, object], field: str, where: str) -> list[str]:
    found = record.get(field)
    if not isinstance(found, list | tuple) or not found or not all(isinstance(text, str) for text in found):
        raise _missing(record, field, "a list of strings", where)
    return [_whole(text, field, where) for text in found]


def _whole(text: str, field: str, where: str) -> str:
    """``text``, unless it holds half a character (a lone surrogate), which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CalibrationError(
            f"{where}: {field!r} has half a character (a lone surrogate, {text[error.start]!r}). Mend that line."
        ) from error
    return text


def _missing(record: Mapping[str, object], field: str, kind: str, where: str) -> CalibrationError:
    """What to raise for a field that is not there, or not of its kind."""
    if record.get(field) is None:
        return CalibrationError(f"{where}: {field!r} is missing among {listing_of(record)}. A task is {FORMAT}.")
    return CalibrationError(f"{where}: {field!r} must be {kind}; got {record[field]!r}.")
