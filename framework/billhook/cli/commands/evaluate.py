"""``billhook evaluate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billhook.cli import options
from billhook.errors import InvalidConfig

if TYPE_CHECKING:
    from billhook.evaluation.perplexity import Evaluation
    from billhook.evaluation.task import Task
    from billhook.evaluation.task_accuracy import TaskAccuracy

TEXT = "Text"
TASKS = "Tasks"

NO_TEXT = "none"
"""The ``--text`` that measures no perplexity."""


def command(
    model: options.Model,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="A file or data set as for calibration, builtin:evaluation, or none. May be given several times.",
            rich_help_panel=TEXT,
            show_default="builtin:evaluation",
        ),
    ] = None,
    seqlen: Annotated[
        int, typer.Option(help="Tokens in a row; each row is predicted by itself.", rich_help_panel=TEXT)
    ] = 1024,
    tokens: Annotated[
        int, typer.Option(help="Use at most this many tokens, from the end of the text.", rich_help_panel=TEXT)
    ] = 65536,
    begin: Annotated[
        bool,
        typer.Option(
            help="Begin rows with the token that the tokenizer puts before a text, if it does.", rich_help_panel=TEXT
        ),
    ] = True,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="A .jsonl file of questions with answers to choose from. May be given several times.",
            rich_help_panel=TASKS,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask only the first questions of a task.", rich_help_panel=TASKS)
    ] = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    tokenizer: options.Tokenizer = None,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Measure the perplexity of MODEL, pruned or not, on held-out text, and its zero-shot accuracy on tasks."""
    from billhook.cli import output
    from billhook.cli.progress import ProgressBars
    from billhook.evaluation.perplexity import evaluate, held_out
    from billhook.evaluation.zero_shot import accuracy
    from billhook.model import loading
    from billhook.model.positions import refuse_long_rows
    from billhook.model.vocabulary import refuse_unknown_ids

    sources = [source for source in text or ["builtin:evaluation"] if source != NO_TEXT]
    if not sources and not task:
        raise InvalidConfig(f"With --text {NO_TEXT} there is nothing to measure: give a --task.")
    with ProgressBars() as bars:
        with bars.step("loading"):
            tasks = parse_tasks(task or [], limit)
            source = loading.find(model, dtype=dtype, device=device, tokenizer=tokenizer, measured=True)
            skeleton = source.skeleton()
            if skeleton is not None and sources:
                refuse_long_rows(skeleton, seqlen)
            words = source.tokenizer()
            data = [held_out(name, words, seqlen=seqlen, tokens=tokens, begin=begin) for name in sources]
            if skeleton is not None:
                for rows in data:
                    refuse_unknown_ids(skeleton, rows.ids, words)
            loaded = source.model()
        with bars.clock("scoring"):
            texts = [evaluate(loaded, words, rows, progress=bars.billhook_on_progress) for rows in data]
            answers = [accuracy(loaded, words, each, progress=bars.billhook_on_progress) for each in tasks]
    parameters = loaded.num_parameters()
    if json:
        figures = {**_text_data(texts), "parameters": parameters, **_task_data(answers)}
        output.print_json({"model": model, **figures, "seconds": bars.seconds["scoring"]})
        return
    output.show(
        output.facts(
            [
                ("model", model),
                *_text_facts(texts),
                *_task_facts(answers),
                ("parameters", f"{parameters:,}"),
                ("seconds", output.durations(bars.seconds)),
            ]
        )
    )


def parse_tasks(given: Sequence[str], limit: int | None) -> list[Task]:
    """What ``--task`` names, each as ``FILE`` or ``NAME=FILE``.

    Raises:
        CalibrationError: a file cannot be read as a task.
        InvalidConfig: two have one name, or ``limit`` is less than 1.
    """
    from billhook.evaluation.task import read_task

    found: dict[str, Task] = {}
    for text in given:
        name, _, file = text.partition("=")
        if not file or "/" in name:  # no name was given; the path may hold a = of its own
            name, file = "", text
        task = read_task(file, name=name or None).first(limit)
        if task.name in found:
            raise InvalidConfig(f"Two tasks are called {task.name!r}: name one of them, --task NAME={file}.")
        found[task.name] = task
    return list(found.values())


def _text_data(texts: Sequence[Evaluation]) -> dict[str, Any]:
    """One text's figures as they are; those of several in a list."""
    import attrs

    data = [attrs.asdict(found) for found in texts]
    return data[0] if len(data) == 1 else {"texts": data}


def _task_data(answers: Sequence[TaskAccuracy]) -> dict[str, Any]:
    if not answers:
        return {}
    tasks = {
        found.task: {
            "accuracy": found.accuracy,
            "standard_error": found.standard_error,
            "count": found.count,
            "hits": found.hits,
        }
        for found in answers
    }
    return {"tasks": tasks, "mean_accuracy": _mean(answers)}


def _text_facts(texts: Sequence[Evaluation]) -> Iterator[tuple[str, str]]:
    for found in texts:
        yield "perplexity", f"{found.perplexity:.4f}"
        rows = f"{found.rows} rows of {found.seqlen} tokens"
        yield "text", f"{found.source}: {found.token_count:,} tokens predicted, in {rows}"


def _task_facts(answers: Sequence[TaskAccuracy]) -> Iterator[tuple[str, str]]:
    for found in answers:
        yield found.task, f"{found.accuracy:.2f} ± {found.standard_error:.2f} % of {found.count:,} questions"
    if answers:
        yield "mean", f"{_mean(answers):.2f} % of {len(answers)} tasks"


def _mean(answers: Sequence[TaskAccuracy]) -> float:
    """Of the accuracies in percent; each task counts alike, however many its questions."""
    return sum(found.accuracy for found in answers) / len(answers)
