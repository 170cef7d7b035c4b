"""The leaderboard, from the command line to its figures, on a tiny model."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import transformers
from benchmarks import leaderboard
from benchmarks.contestants import Contestants, Place
from benchmarks.standings import gain

import billhook
from billhook import Calibration, DropLayers, Plan, Pruner, Recipe, accuracy, apply, evaluate, load, paired
from billhook.testing import save_tiny_checkpoint
from billhook_strategies.selectors.multi_pruner import MultiPruner
from billhook_strategies.selectors.sleb import Sleb

TEXTS = {
    "fox": "the quick brown fox jumps over the lazy dog, and runs away from 12 bees. " * 8,
    "sea": "where the sea is deep, a whale sings to the moon; nobody knows why it does. " * 8,
    "calibration": "a gardener cuts the hedge in autumn, and in spring it is thicker than before. " * 16,
}
ROWS = ("ShortGPT", "SLEB", "BlockPruner", "MultiPruner", "SLEB+repair", "ReplaceMe", "ReplaceMe+repair")


@pytest.fixture(autouse=True, scope="module")
def _talkative() -> Iterator[None]:
    """The command silences transformers for good; other tests listen to it."""
    yield
    transformers.logging.enable_progress_bar()
    transformers.logging.set_verbosity_warning()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, texts and a task."""
    made = tmp_path_factory.mktemp("leaderboard")
    save_tiny_checkpoint(made / "tiny", num_hidden_layers=6)
    for name, text in TEXTS.items():
        (made / f"{name}.txt").write_text(text)
    questions = [{"query": "the quick", "choices": ["fox", "dog and a cat"], "gold": n % 2} for n in range(5)]
    (made / "pets.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return made


def call(folder: Path, *more: object, work: str = "work") -> Any:
    """One run; what ``--json`` says."""
    texts = [part for name in ("fox", "sea") for part in ("--text", f"{name}={folder / name}.txt")]
    data = ["--calibration", folder / "calibration.txt", "--samples", 8, "--seqlen", 32, "--group", 8]
    measure = ["--tokens", 256, "--eval-seqlen", 32, "--task", folder / "pets.jsonl"]
    files = ["--work", folder / work, "--json", folder / f"{work}.json"]
    leaderboard.main([str(part) for part in ("--model", folder / "tiny", *texts, *data, *measure, *files, *more)])
    return json.loads((folder / f"{work}.json").read_text())


@pytest.fixture(scope="module")
def first(folder: Path) -> Any:
    """A run of two ratios and two seeds."""
    return call(folder, "--ratios", 0.1, 0.3, "--seeds", 0, 1, "--rows", *ROWS, "--exact")


def test_every_cell_has_its_figures(first: Any) -> None:
    assert list(first["ratios"]) == ["0.1", "0.3"]
    for ratio, found in first["ratios"].items():
        assert set(found["rows"]) == set(ROWS)
        for row in found["rows"].values():
            assert row["removed"]["mean"] >= float(ratio)
            assert set(row["excess_loss"]) == {"fox", "sea"}
            assert set(row["seeds"]) == {"0", "1"}


def test_figures_are_those_of_the_model_that_the_plan_gives(folder: Path, first: Any) -> None:
    model, tokenizer = load(str(folder / "tiny"))
    dense = evaluate(model, tokenizer, str(folder / "sea.txt"), seqlen=32, tokens=256).perplexity
    data = Calibration(source=str(folder / "calibration.txt"), samples=8, seqlen=32, seed=1)
    for row in ROWS:
        plan = Plan.load(folder / "work" / "plans" / f"{row}-0.3-seed1.json")
        pruned = apply(plan, model, tokenizer, calibration=data).model
        cell = first["ratios"]["0.3"]["rows"][row]["seeds"]["1"]
        found = evaluate(pruned, tokenizer, str(folder / "sea.txt"), seqlen=32, tokens=256)
        assert cell["perplexity"]["sea"] == pytest.approx(found.perplexity, rel=1e-6)
        assert cell["parameters"] == found.parameters
        hits = accuracy(pruned, tokenizer, folder / "pets.jsonl").hits
        assert cell["hits"]["pets"] == list(map(int, hits))
        excess = [
            math.log(cell["perplexity"]["sea"] / dense)
            for cell in first["ratios"]["0.3"]["rows"][row]["seeds"].values()
        ]
        found_excess = first["ratios"]["0.3"]["rows"][row]["excess_loss"]["sea"]
        assert found_excess["mean"] == pytest.approx(sum(excess) / 2)
        assert found_excess["standard_error"] == pytest.approx(abs(excess[0] - excess[1]) / 2)


def test_a_repaired_row_makes_the_published_cuts_and_takes_longer(folder: Path, first: Any) -> None:
    for name in ("SLEB", "ReplaceMe"):
        plans = [Plan.load(folder / "work" / "plans" / f"{row}-0.3-seed0.json") for row in (name, f"{name}+repair")]
        assert plans[0].cuts == plans[1].cuts
        assert plans[1].repair == leaderboard.REPAIR
    rows = first["ratios"]["0.3"]["rows"]
    assert rows["SLEB+repair"]["seconds"]["mean"] > rows["SLEB"]["seconds"]["mean"]


def test_cuts_that_take_the_first_layer_are_repaired_by_what_comes_later(folder: Path, first: Any) -> None:
    options = argparse.Namespace(calibration=[str(folder / "calibration.txt")], samples=8, seqlen=32)
    repairer = Pruner(estimator=leaderboard.ESTIMATOR, merger=leaderboard.MERGER, repair=leaderboard.REPAIR)
    contestants = Contestants(*load(str(folder / "tiny")), repairer, options)
    plan = Plan.load(folder / "work" / "plans" / "ShortGPT-0.3-seed0.json")
    plan = attrs.evolve(plan, cuts=(DropLayers(0, 1), DropLayers(3, 4)))
    made = contestants.repaired(Place("ShortGPT+repair", 0.3), plan, choosing=7.0)
    assert made.result.plan.cuts == plan.cuts
    assert [(found.donor, found.branch) for found in made.result.repairs] == [(2, "mlp")]
    assert made.seconds > made.choosing == 7.0


def test_searches_may_try_their_candidates_on_a_part_of_the_calibration(folder: Path) -> None:
    options = argparse.Namespace(
        calibration=[str(folder / "calibration.txt")], samples=8, seqlen=32, search_tokens=64, exact=True, group=4
    )
    contestants = Contestants(*load(str(folder / "tiny")), Pruner(), options)
    assert {row: contestants.recipe(row).repair.search_tokens for row in ("SLEB", "MultiPruner")} == {
        "SLEB": 64, "MultiPruner": 64
    }  # fmt: skip
    assert {contestants.recipe(row).repair.search_tokens for row in ("ShortGPT", "ReplaceMe", "billhook")} == {None}
    assert " 64 " in contestants.by("SLEB+repair")


@pytest.mark.parametrize("ratio", [0.1, 0.3])
@pytest.mark.parametrize("row", ["ShortGPT", "ReplaceMe", "SLEB", "BlockPruner", "MultiPruner"])
def test_a_published_row_makes_the_cuts_of_its_recipe(folder: Path, first: Any, row: str, ratio: float) -> None:
    published = billhook.recipe(row.lower())
    if isinstance(published.selector, MultiPruner):
        published = attrs.evolve(published, selector=MultiPruner(channel_group=8))
    data = Calibration(source=str(folder / "calibration.txt"), samples=8, seqlen=32, seed=0)
    alone = Pruner.following(published).prune(
        *load(str(folder / "tiny")), calibration=data, budget=billhook.Budget(parameters=ratio)
    )
    plan = Plan.load(folder / "work" / "plans" / f"{row}-{ratio}-seed0.json")
    assert (plan.cuts, plan.budget, plan.selector) == (alone.plan.cuts, alone.plan.budget, alone.plan.selector)
    assert plan.calibration == alone.plan.calibration
    cell = first["ratios"][f"{ratio}"]["rows"][row]["seeds"]["0"]
    assert cell["parameters"] == alone.metrics["parameters_after"]


def test_a_second_run_computes_nothing(folder: Path, first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("evaluate", "accuracy"):
        monkeypatch.delattr(leaderboard, name)
    monkeypatch.delattr(Contestants, "_prune")
    again = call(folder, "--ratios", 0.1, 0.3, "--seeds", 0, 1, "--rows", *ROWS, "--exact")
    assert again["ratios"] == first["ratios"]


def test_a_folder_with_other_settings_is_refused(folder: Path, first: Any) -> None:
    with pytest.raises(SystemExit, match="belongs to a leaderboard with samples = 8; here it is 4"):
        call(folder, "--rows", "SLEB", "--samples", 4)
    with pytest.raises(SystemExit, match="was made otherwise: by Sleb"):
        call(folder, "--rows", "SLEB", "--ratios", 0.1, "--seeds", 0)  # racing


def test_a_text_that_is_calibrated_on_is_refused(folder: Path) -> None:
    with pytest.raises(SystemExit, match="is calibrated on, so it cannot be measured on"):
        call(folder, "--text", folder / "calibration.txt")


def test_the_best_row_alone_is_asked_questions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ("--rows", "ShortGPT", "ReplaceMe", "ReplaceMe+repair")
    found = call(folder, "--ratios", 0.2, "--seeds", 0, *rows, "--accuracy-rows", "best", "--save", work="best")
    figures = found["ratios"]["0.2"]["rows"]
    best = min(
        ("ShortGPT", "ReplaceMe"), key=lambda row: sum(each["mean"] for each in figures[row]["excess_loss"].values())
    )
    assert [row for row in figures if "accuracy" in figures[row]] == [best]
    assert "20% of all parameters removed" in capsys.readouterr().out
    checkpoint = folder / "best" / "checkpoints" / "ReplaceMe+repair-0.2-seed0"
    perplexity = evaluate(*load(str(checkpoint)), str(folder / "fox.txt"), seqlen=32, tokens=256).perplexity
    assert perplexity == pytest.approx(figures["ReplaceMe+repair"]["perplexity"]["fox"]["mean"], rel=1e-6)


def test_the_own_row_is_compared_with_the_best_published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Recipe(
        name="billhook",
        summary="for this test",
        selector=Sleb(),
        estimator=leaderboard.ESTIMATOR,
        merger=leaderboard.MERGER,
        repair=leaderboard.REPAIR,
    )
    registered = billhook.recipe
    monkeypatch.setattr(billhook, "recipe", lambda name: own if name == "billhook" else registered(name))
    found = call(folder, "--ratios", 0.2, "--seeds", 0, "--rows", "ShortGPT", "SLEB", "billhook", work="own")
    rows, verdict = found["ratios"]["0.2"]["rows"], found["ratios"]["0.2"]["own_to_best"]
    excess = {row: rows[row]["excess_loss"]["fox"]["mean"] for row in rows}
    best = min(("ShortGPT", "SLEB"), key=excess.__getitem__)
    assert verdict["excess_ratio"]["fox"]["best"] == best
    expected = excess["billhook"] / excess[best] if excess[best] > 0 else None
    assert verdict["excess_ratio"]["fox"]["ratio"]["mean"] == pytest.approx(expected)
    assert set(verdict["accuracy"]) == {"best", "points"}


def test_the_own_row_is_left_out_where_nobody_offers_its_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(leaderboard, "OWN", "nobodys")
    monkeypatch.setattr(leaderboard, "ROWS", ("SLEB", "nobodys"))
    assert leaderboard.known_rows(["SLEB", "nobodys"]) == ["SLEB"]
    assert "No recipe is called 'nobodys'" in capsys.readouterr().err


def test_a_gain_on_one_seed_is_the_paired_difference() -> None:
    ours, theirs = [True, True, False, True, False], [True, False, False, True, True]
    found = gain([{"hits": {"pets": ours}}], [{"hits": {"pets": theirs}}])
    expected = paired(ours, theirs)
    assert (found.mean, found.error) == pytest.approx((expected.points, expected.standard_error))
