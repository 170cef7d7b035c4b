"""The recipes side by side on SmolLM2-135M, of the published ones only ReplaceMe repaired: quality, size, time, speed.

    python -m benchmarks.recipes                     the table of docs/results.md; about an hour on 2 cores
    python -m benchmarks.recipes --ratios 0.2        a quarter of it

Searches race on the product's own calibration text; perplexity is on its own held-out text. Greedy searches go through
the smaller ratios on their way to the largest, and MultiPruner's first stage makes BlockPruner's decisions, so each of
those is searched once; "search" is the time that the row would have taken by itself. Speeds are relative to the dense
model, measured in turns. The folder --work keeps decisions and figures: an interrupted run goes on from there.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
import transformers
from benchmarks.greedy import Known, Step, Stopwatch, upto, with_reused
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook import (
    Budget,
    Calibration,
    Cut,
    Pruner,
    PruneResult,
    Race,
    Recipe,
    Selector,
    Tokens,
    evaluate,
    load,
    recipe,
)
from billhook.cli.progress import ProgressBars
from billhook.data.text_source import BUILTIN_EVALUATION
from billhook.evaluation.perplexity import held_out
from billhook.pruning.applying import Planned
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.heads import Heads
from billhook_strategies.selectors.sequence import Sequence
from billhook_strategies.selectors.short_gpt import ShortGpt
from billhook_strategies.selectors.sleb import Sleb
from billhook_strategies.selectors.window_distance import WindowDistance

ROWS = ("billhook", "ShortGPT", "ReplaceMe", "SLEB", "BlockPruner", "MultiPruner", "B+M", "B+A", "M only")
SHARES = {"MultiPruner": (44, 52, 4), "B+M": (44, 52, 0), "B+A": (44, 0, 4)}
"""Branches, channels, heads: the published distribution, and the same without a dimension."""


@attrs.frozen
class Bench:
    """The model, its data, and where figures are kept."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    options: argparse.Namespace
    text: Tokens

    def prune(
        self, selector: Selector, ratio: float, *, journal: str = "", **repairing: Any
    ) -> tuple[PruneResult, list[Step]]:
        """One run, unrepaired unless ``repairing`` says how; the journal makes an interrupted one go on."""
        watch = Stopwatch(self.options.work / f"{journal}-steps.json" if journal else None)
        with ProgressBars() as bars:
            pruner = Pruner(
                selector=selector,
                **{"estimator": Identity(), **repairing},
                hooks=[watch, bars],
                journal=self.options.work / f"{journal}.jsonl" if journal else None,
            )
            searches = selector.needs_objective()
            data = Calibration(
                samples=self.options.samples if searches else self.options.repair_samples,
                seqlen=256 if searches else 512,
            )
            result = pruner.prune(self.model, self.tokenizer, calibration=data, budget=Budget(parameters=ratio))
        return result, watch.steps

    def apply(self, cuts: tuple[Cut, ...]) -> PruneResult:
        """The model without them, unrepaired."""
        data = Calibration(samples=1, seqlen=8)
        pruner = Pruner(selector=Planned(cuts), estimator=Identity())
        return pruner.prune(self.model, self.tokenizer, calibration=data, budget=Budget(parameters=0.5))

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Figures by name: from the file, or made and filed."""
        file = self.options.work / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(make()))
        return json.loads(file.read_text())

    def measure(self, model: PreTrainedModel, seconds: float) -> dict[str, float]:
        """One cell group of the table."""
        prefill, decode = self._speed(model)
        return {
            "perplexity": evaluate(model, self.tokenizer, self.text).perplexity,
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": seconds,
            "prefill": prefill,
            "decode": decode,
        }

    def _speed(self, model: PreTrainedModel) -> tuple[float, float]:
        """How many times faster than dense: reading 512 tokens, and writing 32, each row by itself, in turns."""
        ids = self.text.ids[:1, :512]
        ratios: dict[str, list[float]] = {"prefill": [], "decode": []}
        for _ in range(self.options.repeats):
            for kind, work in (("prefill", prefill), ("decode", decode)):
                dense, pruned = work(self.model, ids), work(model, ids)
                ratios[kind].append(dense / pruned)
        return statistics.median(ratios["prefill"]), statistics.median(ratios["decode"])


@torch.no_grad()
def prefill(model: PreTrainedModel, ids: torch.Tensor) -> float:
    """Seconds of one forward pass."""
    began = time.perf_counter()
    model(input_ids=ids, use_cache=True)
    return time.perf_counter() - began


@torch.no_grad()
def decode(model: PreTrainedModel, ids: torch.Tensor) -> float:
    """Seconds of 32 tokens through the cache."""
    began = time.perf_counter()
    model.generate(ids[:, :16], max_new_tokens=32, min_new_tokens=32, do_sample=False)  # type: ignore[operator] # a mixin's
    return time.perf_counter() - began


def rows(bench: Bench, ratios: list[float]) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Name, ratio and figures of every row."""
    largest, race = max(ratios), Race()
    found: dict[str, list[Step]] = {}

    def search(name: str, selector: Selector, ratio: float) -> list[Step]:
        if name not in found:
            found[name] = bench.prune(selector, ratio, journal=name)[1]
        return found[name]

    def one_shot(selector: Selector, ratio: float, **repairing: Any) -> dict[str, float]:
        result, _ = bench.prune(selector, ratio, **repairing)
        return bench.measure(result.model, result.metrics["seconds_total"])

    def prefix(name: str, selector: Selector, ratio: float) -> dict[str, float]:
        steps = upto(search(name, selector, largest), ratio)
        return bench.measure(bench.apply(tuple(s.cut for s in steps)).model, steps[-1].seconds)

    def staged(name: str, ratio: float) -> dict[str, float]:
        branches = search("BlockPruner", BlockPruner(race=race), largest)
        known = Known(tuple(step.cut for step in branches))
        b, m, a = SHARES[name]
        stages = Sequence([(known, b), (Channels(group=bench.options.group, race=race), m), (Heads(race=race), a)])
        steps = search(f"{name}-{ratio}", stages, ratio)
        model = bench.apply(tuple(step.cut for step in steps)).model
        return bench.measure(model, with_reused(branches, steps))

    kinds: dict[str, Callable[[float], dict[str, float]]] = {
        "billhook": lambda r: one_shot(**_parts(recipe("billhook")), ratio=r),
        "ShortGPT": lambda r: one_shot(ShortGpt(), r),
        "ReplaceMe": lambda r: one_shot(WindowDistance(), r, estimator=Cosine()),
        "SLEB": lambda r: prefix("SLEB", Sleb(race=race), r),
        "BlockPruner": lambda r: prefix("BlockPruner", BlockPruner(race=race), r),
        "MultiPruner": lambda r: staged("MultiPruner", r),
        "B+M": lambda r: staged("B+M", r),
        "B+A": lambda r: staged("B+A", r),
        "M only": lambda r: prefix("M only", Channels(group=bench.options.group, race=race), r),
    }
    yield "dense", 0.0, bench.kept("dense", lambda: bench.measure(bench.model, 0.0))
    for name in bench.options.rows:
        for ratio in ratios:
            yield name, ratio, bench.kept(f"{name}-{ratio}", functools.partial(kinds[name], ratio))


def _parts(chosen: Recipe) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in ("selector", "estimator", "merger", "repair")}


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.15, 0.2, 0.25])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--samples", type=int, default=16, help="calibration rows of 256 tokens for searches")
    parser.add_argument("--repair-samples", type=int, default=64, help="the same for ReplaceMe and ShortGPT")
    parser.add_argument("--group", type=int, default=288, help="channels that go in a step (d_model / 2)")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens each perplexity is measured on")
    parser.add_argument("--repeats", type=int, default=3, help="of each speed measurement")
    parser.add_argument("--work", type=Path, default=Path("recipes-output"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model, tokenizer = load("smollm2")
    bench = Bench(model, tokenizer, options, held_out(BUILTIN_EVALUATION, tokenizer, tokens=options.tokens))
    table = Table(title="SmolLM2-135M-Instruct, nothing trained", title_justify="left")
    for name in ("method", "asked", "parameters", "perplexity", "search", "prefill", "decode"):
        table.add_column(name, justify="left" if name == "method" else "right")
    dense = 0.0
    for name, ratio, cell in rows(bench, sorted(options.ratios)):
        dense = dense or cell["parameters"]
        table.add_row(
            name,
            f"{ratio:.0%}",
            f"{cell['parameters'] / 1e6:.1f}M (-{1 - cell['parameters'] / dense:.1%})",
            f"{cell['perplexity']:.2f}",
            f"{cell['seconds']:.0f} s",
            f"{cell['prefill']:.2f}x",
            f"{cell['decode']:.2f}x",
        )
        Console(stderr=True).print(f"{name} {ratio:.0%}: {cell['perplexity']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
