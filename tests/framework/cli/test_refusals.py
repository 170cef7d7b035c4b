"""What options, recipes and an empty model show to be impossible is refused before any weights are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.framework.cli.conftest import Installer, Run

from billhook.testing import save_tiny_checkpoint

OPTIONS = {
    "--recipe multiprune": "No recipe is named 'multiprune'. Did you mean 'multipruner'?",
    "--recipe sleb --set selector.rase=1": "has no option 'rase'. Did you mean 'race'",
    "--recipe shortgpt --set objective.kl=0.5": "no objective is named. Add --objective NAME",
    "--recipe shortgpt --set repair.when=late": "got a wrong option: 'late' is none of winner, trial, final @ $.when.",
    "--recipe shortgpt --set repair.closng=1": "closng",
    "--recipe blockpruner --uniform": "makes them differ (drop-branch) and has no option 'uniform'. Use one that",
    "--recipe shortgpt --race": "has no option 'race'. Leave it out",
    "--recipe sleb --journal one --no-journal": "contradict each other",
    "--recipe shortgpt --journal one": "does not search: leave out --journal",
    "--recipe sleb --journal folder": "The journal folder cannot be written: a folder is there",
    "--recipe sleb --journal text.txt/one": "The journal text.txt/one cannot be written",
    "--recipe sleb --journal ./new/one": "cannot lie in the output folder new, which is made at the end",
}
"""Wrong whatever the model is."""

MODELS = {
    "llama --recipe blockpruner --ratio 0.97": "means 14,015 parameters, but the layers have only 12,384 and something",
    "llama --recipe sleb --ratio 0.97": "the model has 6 and one must stay",
    "olmo2 --recipe multipruner --ratio 0.1": "The attention branches of this model cannot get narrower",
    "gpt2 --recipe multipruner --ratio 0.1 --uniform": "no stock checkpoint could hold them. Leave out",
}
"""Wrong for that model."""


PLAIN = """
    import attrs
    from billhook import DropBranch, Selector, hookimpl

    @attrs.frozen
    class Plain(Selector):
        def select(self, state, budget):
            yield from ()

        def kinds(self):
            return (DropBranch,)

    @hookimpl
    def billhook_register_selectors(register):
        register("plain", Plain)
"""


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test."""

    def too_late(self: object) -> None:
        raise AssertionError("the weights were loaded first")

    monkeypatch.setattr("billhook.model.loading.ModelSource.model", too_late)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Path) -> Path:
    """A folder to work in, with a text and a folder in it."""
    (tmp_path / "text.txt").write_text(text.read_text())
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("arguments", OPTIONS)
def test_options_that_do_not_go_together_are_refused_in_one_line(run: Run, place: Path, arguments: str) -> None:
    before = sorted(place.rglob("*"))
    done = run("prune", "no-such-model", "--ratio", "0.2", "--out", "new", *arguments.split())
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert OPTIONS[arguments] in done.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("arguments", MODELS)
def test_what_the_config_shows_to_be_impossible_is_refused_in_one_line(run: Run, place: Path, arguments: str) -> None:
    model_type, *given = arguments.split()
    layers = "n_layer" if model_type == "gpt2" else "num_hidden_layers"
    save_tiny_checkpoint(place / "model", model_type, **{layers: 6})
    before = sorted(place.rglob("*"))
    data = ("--calibration", "text.txt", "--samples", 2, "--seqlen", 8)
    done = run("prune", "model", "--out", "new", *given, *data)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert MODELS[arguments] in done.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("no_weights", "place")
def test_a_selector_without_these_options_can_be_neither_raced_nor_made_uniform(run: Run, installed: Installer) -> None:
    installed("stranger", plain=PLAIN)
    arguments = ("prune", "model", "--out", "new", "--layers", 1, "--selector", "plain", "--estimator", "identity")
    assert "has no option 'race'" in run(*arguments, "--race").err
    assert "has no option 'uniform'" in run(*arguments, "--uniform").err
