"""Bad input gets one clear line and exit code 1; nothing is written, and a model in memory stays as it was."""

from __future__ import annotations

import copy
import errno
import json
import os
import shlex
import shutil
from pathlib import Path

import attrs
import pytest
import torch
from safetensors.torch import save_file
from tests.framework.cli.conftest import LAYERS, Outcome, Run
from tests.framework.reading.tiny_gguf import tiny_llama, write_gguf
from tests.weights import copies

from billhook import Budget, Pruner
from billhook.errors import BillhookError
from billhook.model.loading import ModelSource
from billhook.testing import save_tiny_checkpoint, tiny_model, tiny_tokenizer, tiny_tokens

COPIES = ("no-tokenizer", "no-weights", "nan", "quantised", "incomplete", "no-model-type", "translation", "alien")
"""Checkpoints that are broken in one way each."""


@attrs.frozen(kw_only=True)
class Place:
    """A folder with good and bad models and texts, and what was in it at first."""

    folder: Path

    def contents(self) -> dict[str, bytes]:
        """Every file and folder under the place."""
        found = sorted(self.folder.rglob("*"))
        return {str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, text: Path) -> Place:
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(checkpoint, folder / "model")
    shutil.copy(text, folder / "text.txt")
    (folder / "empty.txt").write_text(" \n \n")
    (folder / "short.txt").write_text("too short")
    (folder / "broken.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    (folder / "plan.json").write_text("{}")
    (folder / "rubbish.gguf").write_bytes(b"rubbish" * 100)
    (folder / "exists").mkdir()
    (folder / "exists" / "notes.txt").write_text("do not lose me")
    (folder / "empty").mkdir()
    save_tiny_checkpoint(folder / "table", "gpt2")  # has learned positions, 64 of them
    save_tiny_checkpoint(folder / "post-norm", "gemma2")
    for name in COPIES:
        shutil.copytree(checkpoint, folder / name)
    for file in (folder / "no-tokenizer").glob("*token*"):
        file.unlink()
    (folder / "no-weights" / "model.safetensors").unlink()
    _change_config(folder / "quantised", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    _change_config(folder / "no-model-type", model_type=None)
    _change_config(folder / "translation", model_type="t5")
    _change_config(folder / "alien", model_type="doge")
    _poison(folder / "nan" / "model.safetensors")
    _lose_a_weight(folder / "incomplete" / "model.safetensors")
    return Place(folder=folder)


def _change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def _poison(file: Path) -> None:
    weights = copies(file)
    weights["model.layers.1.mlp.down_proj.weight"][0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})


def _lose_a_weight(file: Path) -> None:
    weights = copies(file)
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})


@pytest.fixture
def in_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Work in the place's folder, so that names in errors are short."""
    monkeypatch.chdir(place.folder)
    return place


def refused(done: Outcome) -> str:
    """The one line that a refused command prints."""
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("Error: ")
    assert done.err.count("\n") == 1
    return done.err


QUICK = "--calibration text.txt --samples 4 --seqlen 16"

MODELS = {
    "no-such-folder/": "There is no model 'no-such-folder/'",
    "./no-such-folder": "There is no model './no-such-folder': no such folder",
    "smolm2": "Did you mean 'smollm2'?",
    "nobody/no-such-model": "the hub cannot be asked",
    "empty": "The folder empty holds no model: config.json is missing",
    "text.txt": "text.txt is a file; a model is a folder",
    "no-tokenizer": "The model no-tokenizer has no usable tokenizer",
    "no-weights": "The model no-weights cannot be loaded",
    "no-model-type": "The model no-model-type cannot be loaded",
    "nan": "Weight model.layers.1.mlp.down_proj.weight holds NaN",
    "incomplete": "is damaged: it lacks model.layers.1.mlp.down_proj.weight",
    "translation": "is of type 't5', which is no causal language model",
    "no-such.gguf": "The GGUF file no-such.gguf does not exist",
    "rubbish.gguf": "The model rubbish.gguf",
}


@pytest.mark.parametrize("model", MODELS)
def test_a_bad_model_is_refused_by_every_command(run: Run, in_place: Place, model: str) -> None:
    before = in_place.contents()
    for command in (f"prune {model} --out out --recipe=replaceme-ls --layers 2", f"analyze {model} --heatmap map.png"):
        assert MODELS[model] in refused(run(*command.split(), *QUICK.split()))
    assert MODELS[model] in refused(run("evaluate", model, "--text", "text.txt", "--seqlen", 16))
    assert in_place.contents() == before


def test_a_quantised_model_is_not_pruned_and_measuring_it_needs_its_package(run: Run, in_place: Place) -> None:
    done = run("prune", "quantised", "--out", "out", "--ratio", 0.2, *QUICK.split())
    assert "The model quantised is quantised (gptq)" in refused(done)
    for command in (("analyze", "quantised", *QUICK.split()), ("evaluate", "quantised", "--seqlen", 16)):
        assert "The model quantised needs a package that is not installed" in refused(run(*command))


ARGUMENTS = {
    "--layers 2 --ratio 0.5": "one of --layers, --ratio or --window; got --layers and --ratio",
    "": "one of --layers, --ratio or --window; got none",
    "--ratio 0": "must lie between 0 and 1; got 0.0",
    "--ratio 1": "must lie between 0 and 1; got 1.0",
    "--ratio 1.5": "must lie between 0 and 1; got 1.5",
    "--ratio -0.25": "must lie between 0 and 1; got -0.25",
    "--ratio nan": "must lie between 0 and 1; got nan",
    "--layers 0": "must be at least 1; got 0",
    "--layers 2": "or follow a recipe that drops layers (Pruner.following('replaceme'), --recipe replaceme)",
    "--window 15-19": "A window is START:STOP",
    "--window 4:4": "A window needs 0 <= START < STOP",
    "--window 1:3 --window 2:4": "overlap",
    "--window 1:2 --selector cosine": "leave out --selector",
    "--window 1:2 --set selector.windows=2": "has no option 'windows'",
    "--recipe=replaceme-ls --layers 1 --selector cosin": "No selector is named 'cosin'. Did you mean 'cosine'?",
    "--recipe=replaceme-ls --layers 1 --estimator least-square": "Did you mean 'least-squares'?",
    "--recipe=replaceme-ls --layers 1 --merger folding": "No merger is named 'folding'",
    "--recipe=replaceme-ls --layers 1 --objective perplexty": "Did you mean 'perplexity'?",
    "--recipe=replaceme-ls --layers 1 --set estimator.strength=1": "has no option 'strength'",
    "--recipe=replaceme-ls --layers 1 --set strength=1": "A setting is ROLE.OPTION=VALUE",
    "--recipe=replaceme-ls --layers 1 --set estimater.strength=1": "Did you mean 'estimator'?",
    "--recipe=replaceme-ls --layers 1 --set objective.chunk_tokens=4": "Add --objective NAME",
    "--recipe=replaceme-ls --layers 1 --estimator ridge --set estimator.strength=much": "strength",
    "--recipe=replaceme-ls --layers 1 --samples 0": "'samples' of Calibration must be at least 1",
    "--recipe=replaceme-ls --layers 1 --seqlen 1": "'seqlen' of Calibration must be at least 2",
    "--recipe=replaceme-ls --layers 1 --dtype float8": "The dtype must be auto, float32",
    "--recipe=replaceme-ls --layers 1 --device abacus": "There is no device 'abacus' here",
    "--recipe=replaceme-ls --layers 1 --cache-mib -1": "must not be negative",
    "--recipe=replaceme-ls --layers 1 --calibration no-such.txt": "The text file no-such.txt does not exist",
    "--recipe=replaceme-ls --layers 1 --calibration nobody/no-such-set": "Neither a file nor a data set",
    "--recipe=replaceme-ls --layers 1 --calibration bultin": "Did you mean 'builtin'?",
    "--recipe=replaceme-ls --layers 1 --calibration empty.txt": "is empty",
    "--recipe=replaceme-ls --layers 1 --calibration short.txt": "is too short: 9 tokens do not fill one row of 16",
    "--recipe=replaceme-ls --layers 1 --calibration broken.jsonl": "line 2, is not JSON",
    "--recipe=replaceme-ls --layers 1 --out exists": "The output exists exists",
    "--recipe=replaceme-ls --layers 1 --out exists --overwrite": "is no checkpoint folder",
    "--recipe=replaceme-ls --layers 1 --out model --overwrite": "is the model itself",
    "--recipe=replaceme-ls --layers 1 --out text.txt/out": "text.txt is a file",
}
"""Wrong whatever the model is."""

AGAINST_THE_MODEL = {
    f"--recipe=replaceme-ls --layers {LAYERS}": f"the model has {LAYERS} and one must stay",
    "--recipe=replaceme-ls --layers 100": f"the model has {LAYERS} and one must stay",
    f"--recipe=replaceme-ls --layers {LAYERS - 1}": "that are not protected",
    "--ratio 0.99": "and something must stay",
    "--ratio 0.99 --selector cosine": f"the model has {LAYERS} and one must stay",
    f"--window 4:{LAYERS + 1}": f"layers [{LAYERS}] are not there",
    f"--window 0:{LAYERS}": "one must stay",
    "--recipe=replaceme-ls --window 0:2": "no layer survives before it",
}
"""Wrong for a model of six layers."""

PRUNE = {**ARGUMENTS, **AGAINST_THE_MODEL}


@pytest.mark.parametrize("arguments", PRUNE)
def test_bad_arguments_of_prune_are_refused(run: Run, in_place: Place, arguments: str) -> None:
    before = in_place.contents()
    out = () if "--out" in arguments else ("--out", "out")
    assert PRUNE[arguments] in refused(run("prune", "model", *QUICK.split(), *out, *arguments.split()))
    assert in_place.contents() == before


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test."""

    def too_late(self: object) -> None:
        raise AssertionError("the weights were loaded first")

    monkeypatch.setattr("billhook.model.loading.ModelSource.model", too_late)


@pytest.mark.usefixtures("no_weights", "in_place")
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_what_needs_no_model_is_refused_before_one_is_loaded(run: Run, arguments: str) -> None:
    out = () if "--out" in arguments else ("--out", "out")
    assert PRUNE[arguments] in refused(run("prune", "model", *QUICK.split(), *out, *arguments.split()))


@pytest.mark.usefixtures("no_weights", "in_place")
@pytest.mark.parametrize(
    "amount", [f"--recipe=replaceme-ls --layers {LAYERS}", "--ratio 0.99", f"--window 4:{LAYERS + 1}"]
)
def test_an_impossible_amount_is_refused_before_the_model_is_loaded(run: Run, amount: str) -> None:
    assert PRUNE[amount] in refused(run("prune", "model", *QUICK.split(), "--out", "out", *amount.split()))


@pytest.mark.usefixtures("no_weights", "in_place")
@pytest.mark.parametrize(
    "command", ["prune table --recipe=replaceme-ls --layers 1 --out out", "analyze table", "evaluate table"]
)
def test_rows_longer_than_the_table_of_positions_are_refused_before_the_model_is_loaded(run: Run, command: str) -> None:
    data = "--text text.txt" if command.startswith("evaluate") else QUICK
    error = refused(run(*command.split(), *data.split(), "--seqlen", 65))
    assert "Rows of 65 tokens are too long: this gpt2 model has 64 positions" in error


@pytest.mark.usefixtures("no_weights", "in_place")
def test_what_cannot_be_folded_is_refused_before_the_model_is_loaded(run: Run) -> None:
    error = refused(run("prune", "post-norm", *QUICK.split(), "--recipe=replaceme-ls", "--layers", 1, "--out", "out"))
    assert "'post_feedforward_layernorm' stands between the mlp writer and the residual stream" in error
    assert "merger 'insert'" in error


def test_without_an_output_folder_nothing_is_pruned(run: Run, in_place: Place) -> None:
    assert "give --out DIR, or --dry-run" in refused(run("prune", "model", "--recipe=replaceme-ls", "--layers", 1))


def test_an_unknown_architecture_is_refused_with_the_known_ones(run: Run, in_place: Place) -> None:
    error = refused(run("prune", "alien", "--recipe=replaceme-ls", "--layers", 1, "--out", "out", *QUICK.split()))
    assert "No adapter knows the model type 'doge'" in error
    assert "llama" in error


@pytest.mark.parametrize("command", ["prune {} --ratio 0.2 --out out", "analyze {}"])
def test_a_gguf_of_a_family_that_none_knows_is_refused_by_its_header(
    run: Run, in_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    file = write_gguf(tmp_path / "alien.gguf", tiny_llama(), architecture="phi2")
    monkeypatch.setattr(ModelSource, "model", lambda source: pytest.fail("the weights were read"))
    error = refused(run(*command.format(file).split()))
    assert "No adapter knows the model type 'phi2'. Known: " in error


OTHERS = {
    "analyze model --length 0": "must be at least 1; got 0",
    "analyze model --length 7": "no windows of 7 layers in a model of 6",
    "analyze model --heatmap map.jpg": "name the file FILE.png",
    "analyze model --heatmap no-such-folder/map.png": "cannot be written: No such file or directory",
    "analyze model --calibration empty.txt": "is empty",
    "evaluate model --text no-such.txt": "The text file no-such.txt does not exist",
    "evaluate model --text empty.txt": "is empty",
    "evaluate model --text short.txt --seqlen 16": "is too short: 9 tokens do not fill one row of 16",
    "evaluate model --text text.txt --tokens 10": "is too short: 10 tokens",
    "evaluate model --text text.txt --tokens -5 --seqlen 16": "is too short",
    "evaluate model --text text.txt --seqlen 1": "'seqlen' of an evaluation must be at least 2",
    "evaluate model --device abacus": "There is no device 'abacus' here",
    "apply no-such-plan.json model --out out": "No plan can be read from no-such-plan.json",
    "apply plan.json model --out out": "This is not a plan",
    "apply model model --out out": "No plan can be read from model/billhook.json",
    "apply plan.json model --out exists": "The output exists exists",
}


@pytest.mark.parametrize("command", OTHERS)
def test_bad_arguments_of_other_commands_are_refused(run: Run, in_place: Place, command: str) -> None:
    before = in_place.contents()
    assert OTHERS[command] in refused(run(*command.split()))
    assert in_place.contents() == before


@pytest.mark.parametrize(
    ("budget", "said"),
    [(Budget(layers=4), "one must stay"), (Budget(layers=3), "protected"), (Budget(parameters=0.99), "one must stay")],
    ids=str,
)
def test_a_refused_budget_leaves_the_model_in_memory_as_it_was(budget: Budget, said: str) -> None:
    model = tiny_model()
    before, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config)
    with pytest.raises(BillhookError, match=said):
        Pruner.following("replaceme-ls").prune(model, tiny_tokenizer(), calibration=tiny_tokens(), budget=budget)
    assert model.config.to_dict() == config.to_dict()
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_weights_that_are_not_numbers_are_refused_and_left_alone() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.down_proj.weight")[0, 0] = torch.nan
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(BillhookError, match=r"model\.layers\.1\.mlp\.down_proj\.weight holds NaN"):
        Pruner.following("replaceme-ls").prune(
            model, tiny_tokenizer(), calibration=tiny_tokens(), budget=Budget(layers=1)
        )
    for name, weight in model.state_dict().items():
        assert torch.equal(weight.nan_to_num(7), before[name].nan_to_num(7))


def test_a_disk_that_is_full_is_told_in_one_line_and_the_work_is_not_lost(
    run: Run, in_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pruning = ("prune", "model", "--recipe=replaceme-ls", "--layers", 1, "--out", tmp_path / "out", *QUICK.split())
    before = in_place.contents()
    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        error = refused(run(*pruning))
    assert f"The checkpoint cannot be written to {tmp_path / 'out'}" in error
    assert "No space left on device" in error
    assert in_place.contents() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.plan.json"]

    said = error.partition("The plan is kept, and makes the same model again: ")[2]
    assert run(*shlex.split(said.replace("ELSEWHERE", str(tmp_path / "elsewhere")))[1:]).code == 0
    assert run(*pruning).code == 0
    again, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("elsewhere", "out"))
    assert again == whole


def test_a_result_that_overflows_is_not_written_and_nobody_is_asked_to_report_it(run: Run, tmp_path: Path) -> None:
    model = tiny_model("llama", dtype=torch.float16)
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.down_proj.weight").mul_(3e4)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    # such a run reads no data
    words = ("prune", tmp_path / "model", "--window", "2:3", "--estimator", "identity", "--out", tmp_path / "out")
    error = refused(run(*words))
    assert "The pruned model's logits are not finite: this model overflows in its dtype" in error
    assert "report" not in error
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_folder_that_may_not_be_written_to_is_refused_at_once(
    run: Run, in_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert "is not writable" in refused(
        run("prune", "no-such-model", "--recipe=replaceme-ls", "--layers", 1, "--out", "out")
    )
