"""``billhook evaluate``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import Run

from billhook import accuracy, load


def test_the_perplexity_is_that_of_transformers_own_loss(run: Run, checkpoint: Path, text: Path) -> None:
    found = run("evaluate", checkpoint, "--text", text, "--seqlen", 32, "--tokens", 320, "--json").data
    model, tokenizer = load(str(checkpoint))
    ids = torch.tensor(tokenizer(text.read_text())["input_ids"])[-320:].view(10, 32)
    with torch.no_grad():
        loss = model(ids, labels=ids).loss  # the mean over 31 predictions in each of 10 rows
    assert found["perplexity"] == pytest.approx(float(loss.double().exp()), rel=1e-5)  # float32 sums
    assert (found["rows"], found["seqlen"], found["token_count"]) == (10, 32, 310)
    assert found["source"] == str(text)


def test_the_table_shows_the_perplexity(run: Run, checkpoint: Path, text: Path) -> None:
    arguments = ("evaluate", checkpoint, "--text", text, "--seqlen", 32)
    perplexity = run(*arguments, "--json").data["perplexity"]
    assert f"perplexity  {perplexity:.4f}\n" in run(*arguments).out


def test_a_pruned_model_is_evaluated_like_any_other(
    run: Run, checkpoint: Path, text: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=replaceme-ls", "--layers", 2, *data)
    options = ("--text", text, "--seqlen", 32, "--json")
    dense, pruned = (run("evaluate", model, *options).data for model in (checkpoint, tmp_path / "out"))
    assert pruned["parameters"] < dense["parameters"]
    assert pruned["perplexity"] != dense["perplexity"]


QUICK = ("--seqlen", 32, "--tokens", 320, "--json")


@pytest.fixture
def tasks(tmp_path: Path) -> tuple[Path, Path]:
    """Two task files, one of each kind of question."""
    choosing = [{"query": "the quick", "choices": ["fox", "dog and a cat"], "gold": gold % 2} for gold in range(5)]
    filling = [{"queries": ["a cat", "the old dog"], "choices": ["ran away."], "gold": gold} for gold in range(2)]
    files = (tmp_path / "choosing.jsonl", tmp_path / "filling.jsonl")
    for file, records in zip(files, (choosing, filling), strict=True):
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return files


def test_tasks_are_measured_beside_the_perplexity(
    run: Run, checkpoint: Path, text: Path, tasks: tuple[Path, Path]
) -> None:
    named = ("--task", tasks[0], "--task", f"mine={tasks[1]}")
    found = run("evaluate", checkpoint, "--text", text, *named, *QUICK).data
    assert found["perplexity"] == run("evaluate", checkpoint, "--text", text, *QUICK).data["perplexity"]
    expected = [accuracy(*load(str(checkpoint)), file) for file in tasks]
    assert list(found["tasks"]) == ["choosing", "mine"]
    for given, task in zip(found["tasks"].values(), expected, strict=True):
        assert given == {
            "accuracy": task.accuracy,
            "standard_error": task.standard_error,
            "count": task.count,
            "hits": list(task.hits),
        }
    assert found["mean_accuracy"] == (expected[0].accuracy + expected[1].accuracy) / 2


def test_without_tasks_the_figures_are_those_of_the_text(run: Run, checkpoint: Path, text: Path) -> None:
    found = run("evaluate", checkpoint, "--text", text, *QUICK).data
    figures = ["perplexity", "token_count", "rows", "seqlen", "source", "parameters"]
    assert list(found) == ["model", *figures, "seconds"]


def test_a_limit_asks_the_first_questions_and_no_text_measures_no_perplexity(
    run: Run, checkpoint: Path, tasks: tuple[Path, Path]
) -> None:
    found = run("evaluate", checkpoint, "--text", "none", "--task", tasks[0], "--limit", 3, "--json").data
    assert found["tasks"]["choosing"]["count"] == 3
    assert "perplexity" not in found
    assert found["parameters"] == load(str(checkpoint))[0].num_parameters()


def test_the_table_has_a_line_for_each_task_and_the_mean(run: Run, checkpoint: Path, tasks: tuple[Path, Path]) -> None:
    out = run("evaluate", checkpoint, "--text", "none", "--task", tasks[0], "--task", tasks[1]).out
    assert re.search(r"^choosing +[46]0\.00 ± 21\.91 % of 5 questions$", out, re.MULTILINE)
    assert re.search(r"^filling +50\.00 ± 35\.36 % of 2 questions$", out, re.MULTILINE)
    assert re.search(r"^mean +[45]5\.00 % of 2 tasks$", out, re.MULTILINE)


def test_several_texts_are_measured_one_after_the_other(run: Run, checkpoint: Path, text: Path) -> None:
    texts = [str(text), "builtin:evaluation"]
    found = run("evaluate", checkpoint, "--text", texts[0], "--text", texts[1], *QUICK).data
    alone = [run("evaluate", checkpoint, "--text", text, *QUICK).data for text in texts]
    assert [each["source"] for each in found["texts"]] == texts
    assert [each["perplexity"] for each in found["texts"]] == [each["perplexity"] for each in alone]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--text", "none"), "With --text none there is nothing to measure: give a --task"),
        (("--task", "piqa"), "The task file piqa does not exist. A task is a .jsonl file"),
        (("--task", "mine=no/such=file.jsonl"), "The task file no/such=file.jsonl does not exist"),
        (("--task", "no/such=file.jsonl"), "The task file no/such=file.jsonl does not exist"),
        (("--task", "FILE", "--task", "FILE"), "Two tasks are called 'choosing': name one of them, --task NAME="),
        (("--task", "FILE", "--limit", "0"), "The 'limit' of a task must be at least 1; got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    run: Run, checkpoint: Path, tasks: tuple[Path, Path], arguments: tuple[str, ...], said: str
) -> None:
    done = run("evaluate", checkpoint, *(argument.replace("FILE", str(tasks[0])) for argument in arguments))
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert said in done.err
