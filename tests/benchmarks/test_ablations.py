"""The ablations, from the command line to their figures, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import ablations

from billhook import Budget, Calibration, Pruner, evaluate, load
from billhook.evaluation.perplexity import held_out
from billhook.testing import save_tiny_checkpoint

TEXTS = {
    "fox": "the quick brown fox jumps over the lazy dog, and runs away from 12 bees. " * 8,
    "calibration": "a gardener cuts the hedge in autumn, and in spring it is thicker than before. " * 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ablations")
    save_tiny_checkpoint(made / "tiny", num_hidden_layers=4, intermediate_size=48)
    for name, text in TEXTS.items():
        (made / f"{name}.txt").write_text(text)
    return made


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Any]:
    data = ["--calibration", folder / "calibration.txt", "--samples", 8, "--seqlen", 32, "--ratio", 0.15]
    measure = ["--text", folder / "fox.txt", "--tokens", 256, "--eval-seqlen", 32, "--json", folder / "found.json"]
    ablations.main([str(part) for part in ("--model", folder / "tiny", *data, *measure)])
    return {row["row"]: row for row in json.loads((folder / "found.json").read_text())}


def test_every_row_is_measured_and_repairs_make_the_same_cuts(rows: dict[str, Any]) -> None:
    assert list(rows) == list(ablations.ROWS)
    sizes = {name: row["parameters"] for name, row in rows.items()}
    assert {sizes[name] for name in ablations.REPAIRS} == {sizes[ablations.OWN]}
    assert all(sizes[name] <= 0.85 * sizes[ablations.DENSE] for name in ablations.CHOICES)
    # on a tiny model some choices make the same cuts; repairs differ, all but "ridge 0.01" from what "auto" found
    assert len({rows[name]["perplexity"]["fox"] for name in ablations.REPAIRS}) == len(ablations.REPAIRS)


def test_the_first_row_is_the_recipe(folder: Path, rows: dict[str, Any]) -> None:
    model, tokenizer = load(str(folder / "tiny"))
    data = Calibration(source=str(folder / "calibration.txt"), samples=8, seqlen=32)
    made = Pruner.following("billhook").prune(model, tokenizer, calibration=data, budget=Budget(parameters=0.15))
    text = held_out(str(folder / "fox.txt"), tokenizer, seqlen=32, tokens=256)
    wanted = evaluate(made.model, tokenizer, text).perplexity
    assert rows[ablations.OWN]["perplexity"]["fox"] == pytest.approx(wanted, rel=1e-6)


def test_a_text_that_is_calibrated_on_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(folder / "fox.txt")
    with pytest.raises(SystemExit, match="is calibrated on, so it cannot be measured on"):
        ablations.main(["--model", str(folder / "tiny"), "--calibration", text, "--text", text])
