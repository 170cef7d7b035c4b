"""``--calibration``: one source, or several with weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.framework.cli.conftest import Run

from billhook import Blend, Plan
from billhook.cli.sources import source_of
from billhook.errors import InvalidConfig


@pytest.mark.parametrize(
    ("given", "source"),
    [
        (None, "texts"),
        ([], "texts"),
        (["a.txt"], "a.txt"),
        (["a.txt=3"], "a.txt"),
        (["a.txt", "b.jsonl"], Blend({"a.txt": 1, "b.jsonl": 1})),
        (["a.txt", "b.jsonl=2"], Blend({"a.txt": 1, "b.jsonl": 2})),
        (["name:config:train=0.5", "self=1.5"], Blend({"name:config:train": 0.5, "self": 1.5})),
        (["a=b.txt", "c"], Blend({"a=b.txt": 1, "c": 1})),
    ],
)
def test_sources_and_weights_are_read(given: list[str] | None, source: object) -> None:
    assert source_of(given) == source


def test_a_file_whose_name_looks_like_a_weight_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rate=0.1"
    path.touch()
    assert source_of([str(path)]) == str(path)
    assert source_of([f"{path}=2", "b"]) == Blend({str(path): 2, "b": 1})


@pytest.mark.parametrize("given", [["a.txt=0"], ["a.txt=-1", "b"], ["a=nan", "b"], ["a=inf", "b"]])
def test_weights_below_or_at_nothing_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidConfig, match="must be a number above 0"):
        source_of(given)


def test_prune_and_apply_take_a_blend(run: Run, checkpoint: Path, text: Path, tmp_path: Path) -> None:
    data = ("--calibration", text, "--calibration", "self=3", "--samples", 4, "--seqlen", 16)
    done = run(
        "prune", checkpoint, "--out", tmp_path / "one", "--recipe=replaceme-ls", "--layers", 1, "--no-verify", *data
    )
    assert done.code == 0, done.err
    record = Plan.load(tmp_path / "one").calibration
    assert [(part.source, part.weight, part.rows) for part in record.parts] == [(str(text), 1, 1), ("self", 3, 3)]
    again = run("apply", tmp_path / "one", checkpoint, "--out", tmp_path / "again", "--no-verify")
    assert again.code == 0, again.err
    assert Plan.load(tmp_path / "again") == Plan.load(tmp_path / "one")


def test_analyze_takes_what_the_model_writes(run: Run, checkpoint: Path) -> None:
    done = run("analyze", checkpoint, "--calibration", "self", "--samples", 2, "--seqlen", 8, "--json")
    assert done.code == 0, done.err
    assert (done.data["source"], done.data["token_count"]) == ("self", 16)


def test_a_source_that_comes_twice_is_one_line(run: Run, checkpoint: Path, text: Path) -> None:
    done = run("analyze", checkpoint, "--calibration", text, "--calibration", text)
    assert done.code == 1
    assert "twice, which gives the same rows twice: add up the weights" in done.err
