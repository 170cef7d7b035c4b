"""``billhook evaluate``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import Run

from billhook import load


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
    run("prune", checkpoint, "--out", tmp_path / "out", "--layers", 2, *data)
    options = ("--text", text, "--seqlen", 32, "--json")
    dense, pruned = (run("evaluate", model, *options).data for model in (checkpoint, tmp_path / "out"))
    assert pruned["parameters"] < dense["parameters"]
    assert pruned["perplexity"] != dense["perplexity"]
