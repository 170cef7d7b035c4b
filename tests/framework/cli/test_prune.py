"""``billhook prune``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.framework.cli.conftest import LAYERS, Run
from transformers import AutoModelForCausalLM

from billhook import Budget, Calibration, Plan, Pruner, load
from billhook.cli.prune import how_much, parse_windows
from billhook.errors import InvalidConfig
from billhook.registry import default_registry


def test_it_does_what_the_library_does(
    run: Run, checkpoint: Path, text: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    assert run("prune", checkpoint, "--out", tmp_path / "out", "--layers", 2, *data).code == 0
    result = Pruner().prune(
        *load(str(checkpoint)),
        calibration=Calibration(source=str(text), samples=4, seqlen=16),
        budget=Budget(layers=2),
    )
    assert Plan.load(tmp_path / "out") == result.plan
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert stock.config.num_hidden_layers == LAYERS - 2
    for name, weight in result.model.state_dict().items():
        assert torch.equal(stock.state_dict()[name], weight), name


def test_json_is_all_that_stdout_holds(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--layers", 2, "--json", *data)
    assert done.err == ""
    assert set(done.data) == {"plan", "metrics", "reports", "path"}
    assert done.data["path"] == str(tmp_path / "out")
    assert done.data["plan"] == json.loads((tmp_path / "out" / "billhook.json").read_text())["plan"]
    assert done.data["metrics"]["layers_after"] == LAYERS - 2
    assert {"seconds_loading", "seconds_saving"} <= set(done.data["metrics"])
    assert [report["cut"] for report in done.data["reports"]] == done.data["plan"]["cuts"]


def test_figures_that_do_not_exist_are_null(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    arguments = ("--out", tmp_path / "out", "--layers", 1, "--estimator", "identity", "--json")
    report = run("prune", checkpoint, *arguments, *data).data["reports"][0]
    assert report["r_squared"] is None
    assert report["donor"] is None


def test_the_table_says_what_went_and_where_the_rest_lies(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    out = run("prune", checkpoint, "--out", tmp_path / "out", "--window", "2:4", *data).out
    assert "layers 2:4" in out
    assert "layer 1" in out
    assert f"{LAYERS} → {LAYERS - 2}" in out
    assert f"checkpoint   {tmp_path / 'out'}\n" in out
    assert max(map(len, out.splitlines())) <= max(100, len(f"checkpoint   {tmp_path / 'out'}"))


def test_windows_say_which_layers_go(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--window", "4:5", "--window", "1:3", "--json", *data)
    assert [(cut["start"], cut["stop"]) for cut in done.data["plan"]["cuts"]] == [(1, 3), (4, 5)]
    assert done.data["plan"]["selector"]["name"] == "billhook:fixed-windows"


def test_a_ratio_is_a_share_of_what_of_says(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    def dropped(of: str) -> int:
        plan = run("prune", checkpoint, "--dry-run", "--ratio", "0.5", "--of", of, "--json", *data).data["plan"]
        return sum(cut["stop"] - cut["start"] for cut in plan["cuts"])

    model, _ = load(str(checkpoint))
    everything = sum(p.numel() for p in model.parameters())
    layer = sum(p.numel() for p in model.get_submodule("model.layers.0").parameters())
    assert dropped("all") == -(-everything // 2 // layer)  # rounded up to whole layers
    assert dropped("backbone") == LAYERS // 2


def test_strategies_and_their_options_come_from_the_command_line(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    plan = run(
        *("prune", checkpoint, "--dry-run", "--layers", 2, "--json", *data),
        *("--estimator", "ridge", "--set", "estimator.strength=0.5", "--set", "estimator.toward=zero"),
        *("--selector", "angular", "--set", "selector.windows=2", "--set", "selector.touching=false"),
    ).data["plan"]
    assert plan["estimator"] == {"name": "billhook:ridge", "options": {"strength": 0.5, "toward": "zero"}}
    assert plan["selector"]["options"] == {"metric": "angular", "windows": 2, "touching": False}
    assert len(plan["cuts"]) == 2


def test_the_defaults_are_those_of_the_pruner(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    plan = run("prune", checkpoint, "--dry-run", "--layers", 2, "--json", *data).data["plan"]
    registry, pruner = default_registry(), Pruner()
    assert plan["estimator"]["name"] == pruner.estimator
    assert plan["merger"]["name"] == pruner.merger
    selector = registry.spec("selector", registry.resolve("selector", pruner.selector))
    assert plan["selector"] == {"name": selector.name, "options": dict(selector.options)}


def test_help_names_the_defaults_of_the_pruner(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = run("prune", "--help").out
    pruner = Pruner()
    for name in (pruner.selector, pruner.estimator, pruner.merger):
        assert f"[default: ({str(name).removeprefix('billhook:')})]" in shown


def test_an_objective_is_measured_before_and_after(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    arguments = ("prune", checkpoint, "--dry-run", "--layers", 1, "--objective", "perplexity", *data)
    metrics = run(*arguments, "--json").data["metrics"]
    assert 1 < metrics["objective_before"] != metrics["objective_after"] > 1
    assert f"{metrics['objective_before']:.3f} → {metrics['objective_after']:.3f}" in run(*arguments).out


def test_a_dry_run_writes_nothing_and_its_plan_can_be_applied(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = (checkpoint, "--layers", 2, "--estimator", "ridge", *data)
    dry = run("prune", *arguments, "--out", tmp_path / "dry", "--dry-run", "--json")
    assert dry.data["path"] is None
    assert list(tmp_path.iterdir()) == []

    (tmp_path / "plan.json").write_text(dry.out)
    assert run("apply", tmp_path / "plan.json", checkpoint, "--out", tmp_path / "applied").code == 0
    assert run("prune", *arguments, "--out", tmp_path / "pruned").code == 0
    assert Plan.load(tmp_path / "applied") == Plan.load(tmp_path / "pruned")
    ours, theirs = (AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("applied", "pruned"))
    assert all(torch.equal(weight, theirs.state_dict()[name]) for name, weight in ours.state_dict().items())


def test_a_dry_run_needs_no_output_folder_and_shows_the_layers(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    out = run("prune", checkpoint, "--window", "2:4", "--dry-run", *data).out
    assert "without layers 2:4" in out
    assert "checkpoint   none" in out


def test_overwriting_replaces_a_checkpoint(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("prune", checkpoint, "--out", out, "--layers", 1, *data).code == 0
    assert run("prune", checkpoint, "--out", out, "--layers", 2, "--overwrite", *data).code == 0
    assert AutoModelForCausalLM.from_pretrained(out).config.num_hidden_layers == LAYERS - 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_verbosity_shows_the_log(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--layers", 1, "-vv", "--json", *data)
    assert "Trace: layers" in done.err
    assert "Info: checkpoint written" in done.err
    assert done.data["path"]


def test_windows_are_half_open_spans() -> None:
    assert parse_windows(["15:19", "2:3"]) == [(15, 19), (2, 3)]


@pytest.mark.parametrize("wrong", ["15", "15:", ":19", "15-19", "1:2:3", "a:b"])
def test_other_windows_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidConfig, match="START:STOP, for instance 15:19"):
        parse_windows([wrong])


@pytest.mark.parametrize("wrong", ["3:3", "4:2", "-1:2"])
def test_windows_without_layers_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidConfig, match="0 <= START < STOP"):
        parse_windows([wrong])


def test_each_amount_gives_its_budget() -> None:
    assert how_much(8, None, [], "all") == Budget(layers=8)
    assert how_much(None, 0.25, [], "backbone") == Budget(parameters=0.25, of="backbone")
    assert how_much(None, None, [(15, 19), (2, 3)], "all") == Budget(layers=5)
