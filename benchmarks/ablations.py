"""Ablations of the recipe billhook: what each ingredient buys, one left out or exchanged at a time.

    python -m benchmarks.ablations --text wikitext2=wiki.test.raw --text c4=c4-end.jsonl \\
        --calibration wiki.valid.raw --calibration c4-beginning.jsonl

Rows that repair otherwise make the very cuts of the first row; rows that choose otherwise are repaired as it is. All
are calibrated on the same tokens and measured on the same tokens. What is measured on must not be calibrated on.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import transformers
from benchmarks.options import WIDTH, check_texts, measuring, read_texts
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook import BillhookError, Budget, Calibration, Pruner, PruneResult, Tokens, apply, evaluate, load
from billhook.cli.sources import source_of
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.recipes import BILLHOOK
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.curvature import Curvature

DENSE, OWN = "dense", "billhook"

REPAIRS: Mapping[str, Mapping[str, Any]] = {
    "not repaired": {"estimator": Identity()},
    "a map behind the writer": {"merger": Fold()},
    "toward the dense stream": {"repair": attrs.evolve(BILLHOOK.repair, target="dense")},
    "toward the present stream": {"repair": attrs.evolve(BILLHOOK.repair, target="present")},
    "errors relative to the stream": {"repair": attrs.evolve(BILLHOOK.repair, weights="stream")},
    "ridge 0.01": {"estimator": Ridge(strength=0.01)},
    "ridge 0.0001": {"estimator": Ridge(strength=0.0001)},
    "a closing pass": {"repair": attrs.evolve(BILLHOOK.repair, closing=1)},
}
"""The same cuts, repaired otherwise."""

CHOICES: Mapping[str, Mapping[str, Any]] = {
    "one width for all": {"selector": Curvature(uniform=True)},
    "one width for all, by inputs": {"selector": Channels(uniform=True, score="obs", group=8)},
    "statistics of 4,096 tokens": {"selector": Curvature(tokens=4096)},
    "eliminated with ridge 0.01": {"selector": Curvature(ridge=0.01)},
    "attention heads too": {"selector": Curvature(heads=True)},
}
"""Other cuts, repaired as by the recipe."""

ROWS = (DENSE, OWN, *REPAIRS, *CHOICES)


@attrs.frozen
class Bench:
    """The model, its data, and the cuts of the recipe once they are chosen."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    calibration: Calibration
    budget: Budget
    texts: Mapping[str, Tokens]
    _own: list[PruneResult] = attrs.field(factory=list, init=False)

    def row(self, name: str) -> dict[str, Any]:
        """Make and measure; perplexities by text, seconds."""
        result = None if name == DENSE else self._made(name)
        model = self.model if result is None else result.model
        seconds = {} if result is None else result.metrics
        return {
            "row": name,
            "parameters": sum(p.numel() for p in model.parameters()),
            "choosing": seconds.get("seconds_selecting", 0.0),
            "repairing": seconds.get("seconds_repairing", 0.0),
            "perplexity": {text: evaluate(model, self.tokenizer, rows).perplexity for text, rows in self.texts.items()},
        }

    def own(self) -> PruneResult:
        """The recipe's model; made once."""
        if not self._own:
            self._own.append(self._prune(Pruner.following(BILLHOOK)))
        return self._own[0]

    def _made(self, name: str) -> PruneResult:
        if name in CHOICES:
            return self._prune(Pruner.following(BILLHOOK, **CHOICES[name]))
        if name == OWN:
            return self.own()
        pruner = Pruner.following(BILLHOOK, **REPAIRS[name])
        return apply(self.own().plan, self.model, self.tokenizer, calibration=self.calibration, pruner=pruner)

    def _prune(self, pruner: Pruner) -> PruneResult:
        return pruner.prune(self.model, self.tokenizer, calibration=self.calibration, budget=self.budget)


def show(rows: Sequence[dict[str, Any]]) -> Table:
    """Perplexity and excess loss ln(PPL / PPL of the dense model) by text, parameters, seconds."""
    dense = rows[0]
    table = Table()
    for column in ("", *(f"{text} {what}" for text in dense["perplexity"] for what in ("PPL", "excess"))):
        table.add_column(column, justify="right" if column else "left")
    for column in ("removed", "s to choose", "s to repair"):
        table.add_column(column, justify="right")
    for row in rows:
        figures = [
            text
            for name, value in row["perplexity"].items()
            for text in (f"{value:.3f}", f"{math.log(value / dense['perplexity'][name]):.3f}")
        ]
        removed = 1 - row["parameters"] / dense["parameters"]
        chosen = "" if row["row"] in (DENSE, *REPAIRS) else f"{row['choosing']:.0f}"
        table.add_row(row["row"], *figures, f"{removed:.1%}", chosen, f"{row['repairing']:.0f}" if removed else "")
    return table


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = measuring(__doc__, tokens=16384)
    found.add_argument("--ratio", type=float, default=0.2, help="of all parameters")
    found.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"of {list(ROWS)}")
    found.add_argument("--samples", type=int, default=64, help="calibration rows")
    found.add_argument("--seqlen", type=int, default=512, help="tokens in a calibration row")
    found.add_argument("--seed", type=int, default=0, help="of the calibration rows")
    found.add_argument("--json", type=Path, metavar="FILE", help="all figures; written after every row")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print."""
    options = parser().parse_args(arguments)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    rows: list[dict[str, Any]] = []
    try:
        check_texts(options)
        model, tokenizer = load(options.model, device=options.device)
        texts = read_texts(options, tokenizer)
        data = Calibration(
            source=source_of(options.calibration), samples=options.samples, seqlen=options.seqlen, seed=options.seed
        )
        data = attrs.evolve(data, source=data.tokenize(tokenizer, model))
        bench = Bench(model, tokenizer, data, Budget(parameters=options.ratio), texts)
        for name in ROWS:
            if name == DENSE or name in options.rows:
                rows.append(bench.row(name))
                print(f"{name}: {rows[-1]['perplexity']}", file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1) + "\n")
    except BillhookError as error:
        sys.exit(f"ablations: {error}")
    Console(width=WIDTH).print(show(rows))


if __name__ == "__main__":
    main()
