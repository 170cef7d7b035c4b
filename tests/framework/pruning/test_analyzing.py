"""analyze: what the command gives, as a value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from billhook import Calibration, analyze
from billhook.cli import main
from billhook.errors import BillhookError, CalibrationError
from billhook.testing import save_tiny_checkpoint, tiny_model, tiny_tokenizer, tiny_tokens

MODEL = tiny_model(num_hidden_layers=5)
TOKENS = tiny_tokens(8, 12)


def test_it_gives_the_figures_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_checkpoint(tmp_path / "model", num_hidden_layers=5)
    (tmp_path / "a.txt").write_text("the quick brown fox jumps over the lazy dog. " * 9)
    options = ["--samples", "4", "--seqlen", "16", "--metric", "angular", "--json"]
    assert main(["analyze", str(folder), "--calibration", str(tmp_path / "a.txt"), *options]) == 0
    by_command = json.loads(capsys.readouterr().out)
    data = Calibration(source=tmp_path / "a.txt", samples=4, seqlen=16)
    found = analyze(MODEL, tiny_tokenizer(), calibration=data, metric="angular").to_dict()
    assert found == {name: by_command[name] for name in found}


def test_it_is_a_table_a_heat_map_and_a_line() -> None:
    found = analyze(MODEL, calibration=TOKENS)
    assert repr(found) == "<WindowDistances: cosine, 5 layers, 96 tokens>"
    nearest = found.table().rows
    assert [row["length"] for row in nearest] == [1, 2, 3, 4]
    assert all(row["distance"] == min(d for _, d in found.of_length(row["length"])) for row in nearest)
    by_distance = sorted(found.of_length(2), key=lambda pair: pair[1])
    assert [row["start"] for row in found.table(2)] == [start for start, _ in by_distance]
    assert found._repr_html_().count("<td style") == 5 + 4 + 3 + 2
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_model_stays_as_it_was() -> None:
    model = tiny_model(num_hidden_layers=5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    analyze(model, calibration=TOKENS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_what_cannot_be_analysed_is_refused() -> None:
    with pytest.raises(CalibrationError, match="needs a tokenizer"):
        analyze(MODEL, calibration=["text"])
    with pytest.raises(BillhookError, match="must be a transformers model"):
        analyze("smollm2")  # type: ignore[arg-type]
