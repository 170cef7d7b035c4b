"""What reads files of others, as far as it goes without weights: each must end in a value or in one of our errors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from billhook import Calibration, Plan, Published
from billhook.cli.removed import Removed
from billhook.evaluation.task import read_task
from billhook.interchange.export import to_blockpruner, to_multipruner
from billhook.interchange.removals import without
from billhook.model import loading
from billhook.plans.journal import Journal
from billhook.pruning.applying import pruner_for
from billhook.testing import save_tiny_checkpoint, tiny_tokenizer, tiny_view

BEFORE = Path(__file__).parents[1] / "written_before"
VIEW = tiny_view("llama", num_hidden_layers=6)

PLANS = [json.loads((BEFORE / f"{name}.plan.json").read_text()) for name in ("own", "uneven", "blend", "search")]
JOURNAL = [json.loads(line) for line in (BEFORE / "search.journal.jsonl").read_text().splitlines()]
PUBLISHED = [
    {"pruned_attn_idx": [1, 3], "pruned_mlp_idx": [2], "pruned_attn_width": {"0": 16}, "pruned_mlp_width": {"1": 12}},
    {"1": [["mha", 2]], "2": [["mha", 2], ["mlp", 4]], "3": [["mha", 1], ["mha", 2], ["mlp", 4]]},
]
TASKS = [
    {"query": "The sky is", "choices": ["blue", "green"], "gold": 0},
    {"queries": ["She is", "He is"], "choices": ["tall"], "gold": 1},
]


def read_plan(data: bytes, folder: Path) -> None:
    """Loaded, printed, written again, held against a model, exported; its data and strategies built."""
    (folder / "plan.json").write_bytes(data)
    plan = Plan.load(folder / "plan.json")
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert str(plan)
    list(Removed(plan.cuts).facts())
    for step in (
        lambda: without(VIEW, plan.cuts),
        lambda: pruner_for(plan),
        lambda: to_blockpruner(plan),
        lambda: to_multipruner(plan, VIEW),
        lambda: _tokens_of(plan),
    ):
        ours(step)


def _tokens_of(plan: Plan) -> None:
    """Of the text that comes with Python, whatever the plan's is: an existing file of any name is not opened here."""
    calibration = Calibration.from_record(plan.calibration)
    source = calibration.source if not isinstance(calibration.source, str | Path) else "builtin"
    if isinstance(source, str):  # a model would have to write the others
        attrs.evolve(calibration, source=source).tokenize(tiny_tokenizer())


def read_journal(data: bytes, folder: Path) -> None:
    """Opened by the run that it may belong to, and read to its end."""
    (folder / "journal.jsonl").write_bytes(data)
    journal = Journal(folder / "journal.jsonl", JOURNAL[0]["run"])
    while journal.recall() is not None:
        pass


def read_published(data: bytes, folder: Path) -> None:
    """Loaded and turned into cuts of a model."""
    (folder / "published.json").write_bytes(data)
    published = Published.load(folder / "published.json")
    without(VIEW, published.cuts(VIEW))


def read_questions(data: bytes, folder: Path) -> None:
    """A task file."""
    (folder / "task.jsonl").write_bytes(data)
    read_task(folder / "task.jsonl")


def read_config(data: bytes, folder: Path) -> None:
    """The ``config.json`` of a checkpoint: the model without its weights, seen through its adapter."""
    (folder / "config.json").write_bytes(data)
    source = loading.find(str(folder), dtype="auto", device="cpu")
    source.skeleton()


def lines(documents: list[Any]) -> bytes:
    """As JSON lines."""
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def ours(step: Callable[[], object]) -> None:
    """Run a step that may end in one of our errors, and in nothing else."""
    from billhook.errors import BillhookError

    try:
        step()
    except BillhookError as error:
        said(error)


def said(error: Exception) -> None:
    """An error's text is short and in one piece."""
    text = str(error)
    assert 0 < len(text) <= 2000
    assert all(char.isprintable() or char in "\n\t" for char in text), text


def tiny_config() -> Mapping[str, Any]:
    """A config as checkpoints have it."""
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_checkpoint(Path(folder), "llama")
        found: Mapping[str, Any] = json.loads((Path(folder) / "config.json").read_text())
    return found
