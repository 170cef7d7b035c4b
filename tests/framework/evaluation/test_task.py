"""read_task: records in lm-evaluation-harness's form become questions; what is malformed is named with its line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import datasets
import pytest

from billhook.errors import CalibrationError, InvalidConfig
from billhook.evaluation.task import Question, Task, read_task

CHOOSING: dict[str, Any] = {"query": "Question: why?\nAnswer:", "choices": ["so", " because "], "gold": 1}
FILLING: dict[str, Any] = {"queries": ["Ann saw Bo, for Ann", "Ann saw Bo, for Bo"], "choices": ["looked."], "gold": 0}


def test_choices_follow_the_query_after_a_space_and_count_by_their_characters() -> None:
    (question,) = read_task([CHOOSING]).questions
    query = CHOOSING["query"]
    assert question == Question(options=((query, " so"), (query, "  because ")), lengths=(2, 9), gold=1)


def test_one_choice_follows_each_query_and_is_not_divided_by_its_length() -> None:
    (question,) = read_task([FILLING]).questions
    first, second = FILLING["queries"]
    assert question == Question(options=((first, " looked."), (second, " looked.")), lengths=(1, 1), gold=0)


def test_a_file_is_read_line_by_line_and_gives_the_name(tmp_path: Path) -> None:
    path = tmp_path / "winogrande.jsonl"
    path.write_text(f"{json.dumps(FILLING)}\n\n{json.dumps(CHOOSING)}\n")
    assert read_task(path) == read_task([FILLING, CHOOSING], name="winogrande")
    assert read_task(str(path), name="mine").name == "mine"


def test_a_data_set_is_read_whose_other_kind_of_field_is_empty() -> None:
    data = datasets.Dataset.from_list([{**CHOOSING, "queries": None}, {**FILLING, "query": None}])
    assert read_task(data).questions == read_task([CHOOSING, FILLING]).questions


@pytest.mark.parametrize(
    ("scores", "hit"),
    [((-4.0, -5.0), True), ((-4.0, -7.0), False), ((math.nan, -5.0), False), ((-math.inf, -5.0), True)],
)
def test_the_likeliest_by_character_is_the_answer(scores: tuple[float, float], hit: bool) -> None:
    assert read_task([{**CHOOSING, "choices": ["so", "yes"]}]).questions[0].is_hit(scores) == hit


@pytest.mark.parametrize("gold", [0, 1])
def test_of_equal_answers_the_first_counts(gold: int) -> None:
    assert read_task([{**FILLING, "gold": gold}]).questions[0].is_hit([-3.0, -3.0]) == (gold == 0)


def test_first_keeps_so_many_questions() -> None:
    task = read_task([CHOOSING, FILLING, CHOOSING], name="made up")
    assert task.first(2) == read_task([CHOOSING, FILLING], name="made up")
    assert task.first(None) == task.first(7) == task
    with pytest.raises(InvalidConfig, match="The 'limit' of a task must be at least 1; got 0"):
        task.first(0)


def test_a_task_is_shown_without_its_questions() -> None:
    assert repr(read_task([CHOOSING], name="made up")) == "Task(name='made up', questions=<1 of them>)"


MALFORMED: dict[str, Any] = {
    "a question is a mapping; got type str": "why?",
    r"'choices' is missing among fields \['gold', 'query'\]": {"query": "why", "gold": 0},
    r"'query' is missing among fields \['choices', 'gold', 'question'\]": {
        "question": "why",
        "choices": ["a", "b"],
        "gold": 0,
    },
    r"'gold' is missing among .* A task is a \.jsonl file; a record has 'query', 'choices' and 'gold', or 'queries'": {
        "query": "why",
        "choices": ["a", "b"],
    },
    "'query' must be a string; got 7": {**CHOOSING, "query": 7},
    "'choices' must be a list of strings; got 'so'": {**CHOOSING, "choices": "so"},
    r"'choices' must be a list of strings; got \[1, 2\]": {**CHOOSING, "choices": [1, 2]},
    "'queries' must be a list of strings; got 'Ann'": {**FILLING, "queries": "Ann"},
    "choice 1 is empty, so that there is nothing to score": {**CHOOSING, "choices": ["so", ""]},
    "a question with 'queries' has one choice; got 2": {**FILLING, "choices": ["a", "b"]},
    "'gold' must be an index; got '1'": {**CHOOSING, "gold": "1"},
    "'gold' must be an index; got True": {**CHOOSING, "gold": True},
    "one of at least two answers, from 0; got 2 of 2 answers": {**CHOOSING, "gold": 2},
    "one of at least two answers, from 0; got -1 of 2 answers": {**CHOOSING, "gold": -1},
    "one of at least two answers, from 0; got 0 of 1 answers": {"query": "why", "choices": ["so"], "gold": 0},
}


@pytest.mark.parametrize("said", MALFORMED)
def test_a_malformed_record_is_refused_with_its_place(said: str, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"Record 2 of the task: .*{said}"):
        read_task([CHOOSING, MALFORMED[said]])
    path = tmp_path / "task.jsonl"
    path.write_text(f"{json.dumps(CHOOSING)}\n\n{json.dumps(MALFORMED[said])}\n")
    with pytest.raises(CalibrationError, match=f"task.jsonl, line 3: .*{said}"):
        read_task(path)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps(CHOOSING) + "\n{")
    with pytest.raises(CalibrationError, match=r"task\.jsonl, line 2, is not JSON"):
        read_task(path)


@pytest.mark.parametrize("source", ["piqa", "no/such.jsonl"])
def test_a_file_that_is_not_there_is_refused_with_what_is_needed(source: str) -> None:
    with pytest.raises(CalibrationError, match=f"The task file {source} does not exist. A task is a .jsonl file"):
        read_task(source)


@pytest.mark.parametrize(("source", "got"), [(CHOOSING, r"fields \['choices'"), (7, "type int")], ids=["record", "int"])
def test_what_is_no_list_of_records_is_refused(source: object, got: str) -> None:
    with pytest.raises(CalibrationError, match=f"A task is a list of records, or a .jsonl file; .* got {got}"):
        read_task(source)


def test_a_task_without_questions_is_refused() -> None:
    with pytest.raises(CalibrationError, match="The task made up has no questions"):
        Task(name="made up", questions=())


@pytest.mark.parametrize(
    "record",
    [
        {"query": "half \ud83d", "choices": ["a", "b"], "gold": 0},
        {"query": "whole", "choices": ["a", "half \ud83d"], "gold": 0},
        {"queries": ["a", "half \ud83d"], "choices": ["c"], "gold": 0},
    ],
)
def test_half_a_character_is_refused_where_it_stands(record: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match=r"^Record 1 of the task: '\w+' has half a character"):
        read_task([record])
