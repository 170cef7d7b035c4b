"""``billhook analyze``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import LAYERS, Run
from torch.nn.functional import cosine_similarity

from billhook import Calibration, load

WINDOWS = LAYERS * (LAYERS + 1) // 2


def test_json_holds_every_window(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    found = run("analyze", checkpoint, "--json", *data).data
    spans = [(window["start"], window["stop"]) for window in found["windows"]]
    assert len(spans) == len(set(spans)) == WINDOWS
    assert (found["layers"], found["metric"], found["tokens"], found["token_count"]) == (LAYERS, "cosine", "all", 64)


def test_distances_are_those_of_the_hidden_states(
    run: Run, checkpoint: Path, text: Path, data: tuple[str, ...]
) -> None:
    found = run("analyze", checkpoint, "--json", *data).data["windows"]
    model, tokenizer = load(str(checkpoint))
    tokens = Calibration(source=str(text), samples=4, seqlen=16).tokenize(tokenizer)
    with torch.no_grad():
        states = model(tokens.ids, output_hidden_states=True).hidden_states
    for window in found:
        if window["stop"] < LAYERS:  # transformers normalises the last state
            cosine = cosine_similarity(states[window["start"]].double(), states[window["stop"]].double(), dim=-1)
            # distances are taken in float32
            assert window["distance"] == pytest.approx(float(1 - cosine.mean()), abs=1e-6)


def test_options_change_what_is_measured(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    found = run("analyze", checkpoint, "--metric", "l2", "--tokens", "last", "--skip-sink", "--json", *data).data
    assert (found["metric"], found["tokens"], found["skip_sink"], found["token_count"]) == ("l2", "last", True, 4)


def test_the_table_has_a_row_for_each_length_nearest_first(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    out = run("analyze", checkpoint, *data).out
    windows = run("analyze", checkpoint, "--json", *data).data["windows"]
    rows = [line.split() for line in out.splitlines() if line.split() and line.split()[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, LAYERS))
    for row in rows:
        fitting = [w for w in windows if w["stop"] - w["start"] == int(row[0])]
        nearest = min(fitting, key=lambda window: window["distance"])
        assert row[1:3] == [f"{nearest['start']}:{nearest['stop']}", f"{nearest['distance']:.4f}"]


def test_one_length_is_listed_whole(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    out = run("analyze", checkpoint, "--length", 2, *data).out
    rows = [line.split() for line in out.splitlines() if re.match(r" +\d+:\d+ ", line)]
    distances = [float(row[1]) for row in rows]
    assert {row[0] for row in rows} == {f"{start}:{start + 2}" for start in range(LAYERS - 1)}
    assert distances == sorted(distances)


def test_the_matrix_holds_every_window(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    out = run("analyze", checkpoint, "--full", *data).out
    rows = [line.split() for line in out.splitlines() if line.split() and line.split()[0].isdigit()]
    assert [len(row) - 1 for row in rows] == list(range(LAYERS, 0, -1))


def test_a_heat_map_is_a_picture(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "map.png"
    done = run("analyze", checkpoint, "--heatmap", file, *data)
    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    assert f"heat map     {file}\n" in done.out
    before = file.read_bytes()
    assert run("analyze", checkpoint, "--heatmap", file, *data).code == 0, "its own picture is replaced"
    assert file.read_bytes() == before


def test_another_picture_is_not_replaced(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "holiday.png"
    file.write_bytes(b"\x89PNG\r\n")
    done = run("analyze", "no-such-model", "--heatmap", file)
    assert done.code == 1
    assert "is no heat map of billhook's, so it is not overwritten" in " ".join(done.err.split())
    assert file.read_bytes() == b"\x89PNG\r\n"


def test_a_heat_map_without_matplotlib_is_refused_before_anything_is_loaded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("analyze", "no-such-model", "--heatmap", tmp_path / "map.png")
    assert done.code == 1
    assert "pip install billhook[plot]" in done.err
