"""Leaderboard: published recipes as published, each with its very cuts repaired, and billhook's own, on equal terms.

    python -m benchmarks.leaderboard --text wikitext2=wiki.test.raw --text c4=c4-end.jsonl \\
        --calibration wiki.valid.raw --calibration c4-beginning.jsonl --task piqa.jsonl --seeds 0 1 2

Every row prunes the same model on the same calibration rows, and is measured on the same tokens and questions, in the
model's own dtype; a seed draws other calibration rows. What is measured on must not be calibrated on: give separate
files. Of web text, ``head -n`` of a file for the one and ``tail -n`` for the other will do; one file for both is
refused. The built-in texts are apart.

A row "X+repair" makes the cuts of X and repairs them as the recipe "billhook" does; its seconds are those that X took
to choose, and those of the repair. The row "billhook" follows the recipe of that name; it is left out if there is
none. Searches race unless told to be exact, and may try their candidates on a part of the calibration
(--search-tokens). A greedy search goes through the smaller ratios on its way to the largest, and MultiPruner's first
stage makes BlockPruner's decisions, so each of those is searched once; "seconds" is the time that the row would have
taken by itself.

The folder --work keeps figures, plans and the journals of searches: an interrupted run goes on from there, and a later
one may add rows, ratios, seeds, texts and tasks. A plan in it rebuilds its model: ``billhook apply``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import transformers
from benchmarks.contestants import DENSE, OWN, PUBLISHED, REPAIRED, Contestants, Made, Place
from benchmarks.options import WIDTH, check_texts, measuring, read_texts
from benchmarks.standings import Standings
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import billhook
from billhook import BillhookError, Plan, Pruner, PruneResult, Tokens, accuracy, evaluate, load
from billhook.cli.commands.evaluate import parse_tasks
from billhook.errors import InvalidConfig, UnknownStrategy
from billhook.evaluation.task import Task
from billhook_strategies.recipes import BILLHOOK

REPAIR, ESTIMATOR, MERGER = BILLHOOK.repair, BILLHOOK.estimator, BILLHOOK.merger
"""How the rows "with repair" are repaired: as billhook's own."""

ROWS = (*(row for name in PUBLISHED for row in (name, name + REPAIRED)), OWN)
BEST = "best"
"""For --accuracy-rows: of the published ones, that with the least excess loss."""


@attrs.frozen
class Leaderboard:
    """The model, what it is measured on, and where figures are kept."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    options: argparse.Namespace
    texts: Mapping[str, Tokens]
    tasks: Mapping[str, Task]
    contestants: Contestants = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._contestants(), takes_self=True)
    )

    def _contestants(self) -> Contestants:
        repairer = Pruner(estimator=ESTIMATOR, merger=MERGER, repair=REPAIR)
        return Contestants(self.model, self.tokenizer, repairer, self.options)

    @property
    def work(self) -> Path:
        """The folder."""
        return cast(Path, self.options.work)

    def measured(self, place: Place, *, asked: bool) -> dict[str, Any]:
        """The cell: made, and measured on every text, and on every task if ``asked``, where it is not so yet."""
        cell, result = self._cell(place)
        texts = [name for name in self.texts if name not in cell["perplexity"]]
        tasks = [name for name in self.tasks if asked and name not in cell["hits"]]
        folder = self.work / "checkpoints" / str(place)
        save = self.options.save and place.row != DENSE and not folder.exists()
        if texts or tasks or save:
            if result is None and place.row != DENSE:
                result = self.contestants.rebuilt(place, Plan.load(self.plan_file(place)))
            self._measure(place, cell, self.model if result is None else result.model, texts, tasks)
            if save and result is not None:
                result.save(folder)
        hits = {name: cell["hits"][name] for name in self.tasks if name in cell["hits"]}
        return cell | {"perplexity": {name: cell["perplexity"][name] for name in self.texts}, "hits": hits}

    def _measure(
        self, place: Place, cell: dict[str, Any], model: PreTrainedModel, texts: Sequence[str], tasks: Sequence[str]
    ) -> None:
        """Fill the cell; each figure is on disk before the next is measured."""
        for name in texts:
            cell["perplexity"][name] = evaluate(model, self.tokenizer, self.texts[name]).perplexity
            write(self.cell_file(place), cell)
        for name in tasks:
            cell["hits"][name] = list(map(int, accuracy(model, self.tokenizer, self.tasks[name]).hits))
            write(self.cell_file(place), cell)
        figures = " ".join(f"{name} {value:.2f}" for name, value in cell["perplexity"].items())
        print(f"{place}: {figures}", file=sys.stderr, flush=True)

    def plan_file(self, place: Place) -> Path:
        """Where the plan of a cell is."""
        return self.work / "plans" / f"{place}.json"

    def cell_file(self, place: Place) -> Path:
        """Where its figures are."""
        return self.work / "cells" / f"{place}.json"

    def _cell(self, place: Place) -> tuple[dict[str, Any], PruneResult | None]:
        """Its figures as they are filed; and the model, if it had to be made."""
        file, by = self.cell_file(place), self.contestants.by(place.row)
        if file.exists():
            cell: dict[str, Any] = json.loads(file.read_text())
            if cell["by"] != by:
                raise InvalidConfig(
                    f"{file} was made otherwise: by {cell['by']}, now it would be {by}. Delete it, or choose another "
                    f"--work."
                )
            return cell, None
        made = None if place.row == DENSE else self._made(place)
        model = self.model if made is None else made.result.model
        cell = attrs.asdict(place) | {
            "by": by,
            "parameters": sum(p.numel() for p in model.parameters()),
            "choosing": 0.0 if made is None else made.choosing,
            "seconds": 0.0 if made is None else made.seconds,
            "perplexity": {},
            "hits": {},
        }
        if made is not None:
            made.result.plan.save(self.plan_file(place), overwrite=True)
        write(file, cell)
        return cell, None if made is None else made.result

    def _made(self, place: Place) -> Made:
        if not place.row.endswith(REPAIRED):
            return self.contestants.make(place)
        published = attrs.evolve(place, row=place.row.removesuffix(REPAIRED))
        cell, _ = self._cell(published)
        return self.contestants.repaired(place, Plan.load(self.plan_file(published)), cell["choosing"])


def write(file: Path, data: object) -> None:
    """JSON, whole or not at all."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(data, indent=1))
    draft.replace(file)


def settings(board: Leaderboard) -> dict[str, Any]:
    """What all cells of a work folder have in common; texts and tasks by what is in them."""
    options = board.options
    asked = {name: hashlib.sha256(str(task.questions).encode()).hexdigest() for name, task in board.tasks.items()}
    return {
        "model": options.model,
        "parameters": sum(p.numel() for p in board.model.parameters()),
        "dtype": str(board.model.dtype),
        "calibration": options.calibration,
        "samples": options.samples,
        "seqlen": options.seqlen,
        "texts": {name: rows.fingerprint for name, rows in board.texts.items()},
        "tasks": asked,
    }


def claim(work: Path, ours: dict[str, Any]) -> None:
    """Begin the work folder, or go on with it; texts and tasks may be added.

    Raises:
        InvalidConfig: the folder belongs to a run with other settings.
    """
    for name in ("cells", "plans", "journals"):
        (work / name).mkdir(parents=True, exist_ok=True)
    file = work / "settings.json"
    theirs = json.loads(file.read_text()) if file.exists() else ours
    for name, value in ours.items():
        known = theirs[name]
        same = all(known.get(k, v) == v for k, v in value.items()) if isinstance(value, dict) else known == value
        if not same:
            raise InvalidConfig(
                f"The folder {work} belongs to a leaderboard with {name} = {known}; here it is {value}. Choose "
                f"another --work."
            )
    merged = {name: theirs[name] | value if isinstance(value, dict) else value for name, value in ours.items()}
    write(file, merged)


def known_rows(asked: Sequence[str]) -> list[str]:
    """The rows, without one whose recipe nobody offers."""
    try:
        billhook.recipe(OWN)
    except UnknownStrategy:
        if OWN in asked:
            print(f"No recipe is called {OWN!r}, so that row is left out.", file=sys.stderr)
        return [row for row in ROWS if row in asked and row != OWN]
    return [row for row in ROWS if row in asked]


def run(board: Leaderboard) -> Standings:
    """Fill every cell that is not there yet, perplexity before accuracy where the best row is yet to be found."""
    options = board.options
    wanted = set(options.accuracy_rows)
    standings = Standings(
        published=tuple(PUBLISHED), own=OWN, dense=board.measured(Place(DENSE), asked=bool(wanted)), seeds=options.seeds
    )
    for place in places(options):
        standings.add(place.row, place.ratio, board.measured(place, asked=place.row in wanted))
    if BEST in wanted:
        for ratio in options.ratios:
            best = standings.best(ratio)
            for seed in options.seeds if best is not None else ():
                standings.add(cast(str, best), ratio, board.measured(Place(cast(str, best), ratio, seed), asked=True))
    return standings


def places(options: argparse.Namespace) -> Iterator[Place]:
    """Of all cells but the dense one; all of a seed together, so that a table is soon there."""
    for seed in options.seeds:
        for ratio in options.ratios:
            for row in options.rows:
                yield Place(row, ratio, seed)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = measuring(__doc__, tokens=65536)
    found.add_argument("--task", action="append", default=[], metavar="[NAME=]FILE", help="zero-shot questions")
    found.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2, 0.3], help="of all parameters")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the calibration rows")
    found.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    found.add_argument("--accuracy-rows", nargs="+", choices=[*ROWS, DENSE, BEST], default=list(ROWS))
    found.add_argument("--limit", type=int, help="ask only the first questions of a task")
    found.add_argument("--samples", type=int, default=32, help="calibration rows")
    found.add_argument("--seqlen", type=int, default=256, help="tokens in a calibration row")
    found.add_argument(
        "--search-tokens", type=int, metavar="N", help="of the calibration that searches see; all if none"
    )
    found.add_argument("--group", type=int, default=288, help="channels that MultiPruner drops at a time")
    found.add_argument("--exact", action="store_true", help="searches do not race")
    found.add_argument("--save", action="store_true", help="keep every model as a checkpoint, too")
    found.add_argument("--work", type=Path, default=Path("leaderboard-output"))
    found.add_argument("--json", type=Path, metavar="FILE", help="all figures, with each seed's")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    options = parser().parse_args(arguments)
    options.rows, options.ratios, options.seeds = (
        known_rows(options.rows),
        sorted({*options.ratios}),
        sorted({*options.seeds}),
    )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        check_texts(options)
        tasks = {task.name: task for task in parse_tasks(options.task, options.limit)}
        model, tokenizer = load(options.model, device=options.device)
        texts = read_texts(options, tokenizer)
        board = Leaderboard(model, tokenizer, options, texts, tasks)
        common = settings(board)
        claim(options.work, common)
        standings = run(board)
    except BillhookError as error:
        sys.exit(f"leaderboard: {error}")
    for part in standings.tables():
        Console(width=WIDTH).print(part)
    if options.json:
        write(options.json, {"settings": common, "repair": attrs.asdict(REPAIR)} | standings.data())


if __name__ == "__main__":
    main()
