"""``billhook prune``."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from tests.framework.cli.conftest import LAYERS, Run
from transformers import AutoModelForCausalLM

from billhook import Budget, Calibration, DropBranch, KeepChannels, Plan, Pruner, load, recipe
from billhook.cli.commands.prune import how_much, parse_windows
from billhook.errors import InvalidConfig
from billhook.plugins.registry import default_registry
from billhook.pruning.method import DEFAULT_RECIPE


def chosen(spec: dict[str, Any]) -> dict[str, Any]:
    """Of a strategy in a plan, the options that somebody set."""
    return {name: value for name, value in spec["options"].items() if name not in spec.get("defaults", ())}


def test_it_does_what_the_library_does(
    run: Run, checkpoint: Path, text: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    assert run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=replaceme-ls", "--layers", 2, *data).code == 0
    result = Pruner.following("replaceme-ls").prune(
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
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=replaceme-ls", "--layers", 2, "--json", *data)
    assert done.err == ""
    assert set(done.data) == {"plan", "metrics", "reports", "repairs", "path"}
    assert done.data["path"] == str(tmp_path / "out")
    assert done.data["plan"] == json.loads((tmp_path / "out" / "billhook.json").read_text())["plan"]
    assert done.data["metrics"]["layers_after"] == LAYERS - 2
    assert {"seconds_loading", "seconds_saving"} <= set(done.data["metrics"])
    assert [report["cut"] for report in done.data["reports"]] == done.data["plan"]["cuts"]


def test_figures_that_do_not_exist_are_null(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    arguments = (
        "--out",
        tmp_path / "out",
        "--recipe=replaceme-ls",
        "--layers",
        1,
        "--estimator",
        "identity",
        "--json",
    )
    report = run("prune", checkpoint, *arguments, *data).data["reports"][0]
    assert report["r_squared"] is None
    assert report["donor"] is None


def test_the_table_says_what_went_and_where_the_rest_lies(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    out = run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=replaceme-ls", "--window", "2:4", *data).out
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
        budget = ("--selector", "window-distance", "--ratio", "0.5", "--of", of)
        plan = run("prune", checkpoint, "--dry-run", *budget, "--json", *data).data["plan"]
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
        *("prune", checkpoint, "--dry-run", "--recipe=replaceme-ls", "--layers", 2, "--json", *data),
        *("--estimator", "ridge", "--set", "estimator.strength=0.5", "--set", "estimator.toward=zero"),
        *("--selector", "angular", "--set", "selector.windows=2", "--set", "selector.touching=false"),
    ).data["plan"]
    assert plan["estimator"] == {
        "name": "billhook:ridge",
        "options": {"strength": 0.5, "toward": "zero", "bias": False},
        "defaults": ["bias"],
    }
    assert chosen(plan["selector"]) == {"metric": "angular", "windows": 2, "touching": False}
    assert len(plan["cuts"]) == 2


def test_without_a_word_it_does_what_a_pruner_does_without_a_word(
    run: Run, checkpoint: Path, text: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    assert run("prune", checkpoint, "--out", tmp_path / "out", "--ratio", 0.1, *data).code == 0
    result = Pruner().prune(
        *load(str(checkpoint)),
        calibration=Calibration(source=str(text), samples=4, seqlen=16),
        budget=Budget(parameters=0.1),
    )
    assert Plan.load(tmp_path / "out") == result.plan


def test_the_default_says_how_far_the_result_is_from_the_dense_model_on_two_kinds_of_text(
    run: Run, checkpoint: Path, text: Path, tmp_path: Path
) -> None:
    how = ("--ratio", "0.1", "--set", "repair.held_out=0.25", "--guard", "texts:web")
    arguments = ("prune", checkpoint, *how, "--calibration", text, "--samples", 4, "--seqlen", 16)
    metrics = run(*arguments, "--out", tmp_path / "json", "--json").data["metrics"]
    shown = run(*arguments, "--out", tmp_path / "table").out
    held_out, other = (f"{metrics[name]:.3f}" for name in ("kl_held_out", "kl_guard"))
    said = f"{held_out} on held-out calibration text, {other} on text of another kind (texts:web), in nats per token"
    assert said in shown
    assert re.search(r"\bother\b", shown), "a column for each repair, whose heading may stand on two lines"


def test_without_a_recipe_what_is_named_stands_beside_the_default_ones(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    named = ("--selector", "cosine", "--layers", 1)
    plan = run("prune", checkpoint, "--dry-run", *named, "--json", *data).data["plan"]
    own, registry = recipe(DEFAULT_RECIPE), default_registry()
    assert plan["selector"]["name"] == "billhook:window-distance"
    assert plan["estimator"] == registry.spec("estimator", own.estimator).to_data()
    assert plan["merger"] == registry.spec("merger", own.merger).to_data()
    assert plan["repair"] == attrs.asdict(own.repair)


def test_help_tells_what_will_be_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(run("prune", "--help").out.split())
    assert f"[default: ({DEFAULT_RECIPE.removeprefix('billhook:')})]" in shown
    assert shown.count("[default: (the recipe's)]") == 3
    assert "of all MLPs the channels that the loss and the others miss least" in shown
    assert "of all MLPs the channels that the loss and the others miss least" in recipe(DEFAULT_RECIPE).summary


def test_an_objective_is_measured_before_and_after(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    arguments = (
        "prune",
        checkpoint,
        "--dry-run",
        "--recipe=replaceme-ls",
        "--layers",
        1,
        "--objective",
        "perplexity",
        *data,
    )
    metrics = run(*arguments, "--json").data["metrics"]
    assert 1 < metrics["objective_before"] != metrics["objective_after"] > 1
    assert f"{metrics['objective_before']:.3f} → {metrics['objective_after']:.3f}" in run(*arguments).out


def test_a_dry_run_writes_nothing_and_its_plan_can_be_applied(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = (checkpoint, "--recipe=replaceme-ls", "--layers", 2, "--estimator", "ridge", *data)
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
    assert run("prune", checkpoint, "--out", out, "--recipe=replaceme-ls", "--layers", 1, *data).code == 0
    assert (
        run("prune", checkpoint, "--out", out, "--recipe=replaceme-ls", "--layers", 2, "--overwrite", *data).code == 0
    )
    assert AutoModelForCausalLM.from_pretrained(out).config.num_hidden_layers == LAYERS - 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_verbosity_shows_the_log(run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path) -> None:
    done = run(
        "prune",
        checkpoint,
        "--out",
        tmp_path / "out",
        "--recipe=replaceme-ls",
        "--layers",
        1,
        "-vv",
        "--json",
        *data,
    )
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


# --- recipes and searches ----------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[4]


def test_what_is_named_takes_the_place_of_the_recipes_part(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    arguments = ("prune", checkpoint, "--dry-run", "--layers", 1, "--json", *data)
    plan = run(*arguments, "--recipe", "uidl", "--estimator", "ridge", "--objective", "perplexity").data["plan"]
    assert chosen(plan["selector"]) == {"metric": "angular", "tokens": "last"}
    assert plan["estimator"]["name"] == "billhook:ridge"
    assert plan["objective"]["name"] == "billhook:perplexity"


def test_a_recipes_strategy_keeps_its_options_beside_those_that_are_set(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    arguments = ("prune", checkpoint, "--dry-run", "--layers", 2, "--json", *data)
    settings = ("--set", "selector.windows=2", "--set", "selector.tokens=all")
    plan = run(*arguments, "--recipe", "uidl", *settings).data["plan"]
    assert chosen(plan["selector"]) == {"metric": "angular", "windows": 2}


def test_another_selector_does_not_inherit_the_recipes_options(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    arguments = ("prune", checkpoint, "--dry-run", "--layers", 1, "--json", *data)
    plan = run(*arguments, "--recipe", "uidl", "--selector", "cosine").data["plan"]
    assert (plan["selector"]["name"], chosen(plan["selector"])) == ("billhook:window-distance", {})


def test_windows_replace_the_recipes_selector_alone(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    plan = run("prune", checkpoint, "--dry-run", "--recipe", "uidl", "--window", "2:4", "--json", *data).data["plan"]
    assert [(cut["start"], cut["stop"]) for cut in plan["cuts"]] == [(2, 4)]
    assert plan["estimator"]["name"] == "billhook:identity"


def test_the_table_of_a_search_tells_scores_and_sums_the_cuts_up(
    run: Run, checkpoint: Path, data: tuple[str, ...]
) -> None:
    out = run("prune", checkpoint, "--dry-run", "--recipe", "multipruner", "--ratio", "0.25", *data).out
    assert re.search(r"^ dropped +objective *$", out, re.MULTILINE)
    assert re.search(r"^mlp width +\d+ channels in layer", out, re.MULTILINE)
    assert "without mlp" in out
    assert "checkpoint         none, this is only the plan" in out


def test_a_dry_run_of_a_search_plans_what_the_run_does_and_writes_nothing(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    # repaired: the search sees the repairs, so the dry run has to make them too
    method = ("--recipe", "sleb", "--estimator", "ridge", "--layers", 2)
    arguments = (checkpoint, *method, "--out", tmp_path / "out", *data)
    dry = run("prune", *arguments, "--dry-run", "--json")
    assert (dry.code, list(tmp_path.iterdir())) == (0, [])
    assert run("prune", *arguments).code == 0
    assert Plan.from_json(json.dumps(dry.data["plan"])) == Plan.load(tmp_path / "out")


def test_a_uniform_run_writes_a_stock_checkpoint(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("--recipe", "multipruner", "--ratio", "0.4", "--uniform", "--set", "selector.shares=[1,2,0]")
    assert run("prune", checkpoint, "--out", tmp_path / "out", *arguments, *data).code == 0
    plan = Plan.load(tmp_path / "out")
    assert plan.selector.options["uniform"] is True
    assert {cut.kind for cut in plan.cuts} == {"drop-layers", "keep-channels"}
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    (width,) = {len(cut.kept) for cut in plan.cuts[-config["num_hidden_layers"] :] if isinstance(cut, KeepChannels)}
    assert (config["model_type"], config["intermediate_size"]) == ("llama", width)


def test_uniform_asks_nothing_of_a_selector_of_whole_layers(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    assert (
        run(
            "prune",
            checkpoint,
            "--out",
            tmp_path / "out",
            "--recipe=replaceme-ls",
            "--layers",
            1,
            "--uniform",
            *data,
        ).code
        == 0
    )
    assert Plan.load(tmp_path / "out").selector.chosen == {}


def test_a_padded_run_writes_a_stock_checkpoint_of_the_same_model(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("prune", checkpoint, "--recipe", "blockpruner", "--ratio", "0.2", *data)
    for name, more in (("padded", ("--pad",)), ("plain", ())):
        assert run(*arguments, "--out", tmp_path / name, *more).code == 0
    types = [json.loads((tmp_path / name / "config.json").read_text())["model_type"] for name in ("padded", "plain")]
    assert types == ["llama", "billhook"]
    assert all(isinstance(cut, DropBranch) for cut in Plan.load(tmp_path / "padded").cuts)
    ids = torch.arange(4, 24)[None]
    logits = [load(str(tmp_path / name))[0](ids).logits for name in ("padded", "plain")]
    torch.testing.assert_close(*logits)  # zeros are added to sums, which rounds differently at most


def test_an_inserted_repair_is_saved_as_a_model_whose_layers_differ(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    arguments = ("prune", checkpoint, "--recipe=replaceme-ls", "--layers", 1, "--merger", "insert", *data)
    assert run(*arguments, "--out", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "billhook"
    done = run(*arguments, "--out", tmp_path / "stock", "--uniform")
    assert (done.code, done.err.count("\n"), (tmp_path / "stock").exists()) == (1, 1, False)
    assert "No stock checkpoint can hold this model, since its layers differ" in done.err


def test_a_race_is_the_default_one_unless_another_is_set(run: Run, checkpoint: Path, data: tuple[str, ...]) -> None:
    arguments = ("prune", checkpoint, "--dry-run", "--layers", 1, "--recipe", "sleb", "--json", *data)
    assert chosen(run(*arguments).data["plan"]["selector"]) == {}
    default = {"data": [0.0625, 0.25], "keep": [0.25, 0.1]}
    assert chosen(run(*arguments, "--race").data["plan"]["selector"]) == {"race": default}
    own = {"data": [0.5], "keep": [0.5]}
    done = run(*arguments, "--race", "--set", f"selector.race={json.dumps(own)}")
    assert chosen(done.data["plan"]["selector"]) == {"race": own}


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md"])
def test_documented_commands_that_take_too_long_to_run_are_right_as_far_as_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh no-run\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert commands
    for task in ("piqa.jsonl", "winogrande.jsonl", "questions.jsonl"):
        (tmp_path / task).write_text(json.dumps({"query": "a", "choices": ["b", "c"], "gold": 1}))
    for command in commands:
        arguments = ["./not-here" if word == "smollm2" else word for word in shlex.split(command)[1:]]
        assert "There is no model './not-here'" in run(*arguments).err, command
