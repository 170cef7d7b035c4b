"""The built-in recipes: what each is made of, and that the command line does what the object does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

import billhook
from billhook import Budget, Calibration, Plan, Pruner, Recipe, Repair, default_registry
from billhook.cli import main
from billhook.testing import save_tiny_checkpoint, tiny_model, tiny_tokens
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.recipes import BILLHOOK, PUBLISHED, RECIPES

NAMES = ("billhook", "replaceme", "replaceme-ls", "uidl", "shortgpt", "sleb", "blockpruner", "multipruner")
REPAIRED = {"replaceme": Cosine(), "replaceme-ls": LeastSquares()}
CLI_PAGE = (Path(__file__).parent.parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")

each = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
published = pytest.mark.parametrize("recipe", PUBLISHED, ids=lambda recipe: recipe.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and a text."""
    folder = tmp_path_factory.mktemp("recipes")
    save_tiny_checkpoint(folder / "tiny", num_hidden_layers=4)
    (folder / "text.txt").write_text("a hook in the hand is worth two in the book. " * 10)
    return folder


def in_python(recipe: Recipe, folder: Path) -> tuple[Plan, PreTrainedModel]:
    model, tokenizer = billhook.load(str(folder / "tiny"))
    data = Calibration(source=str(folder / "text.txt"), samples=2, seqlen=12)
    result = Pruner.following(recipe).prune(model, tokenizer, calibration=data, budget=Budget(parameters=0.2))
    return result.plan, result.model


def test_there_is_a_recipe_for_every_published_method() -> None:
    assert tuple(recipe.name for recipe in RECIPES) == NAMES
    assert {f"billhook:{name}" for name in NAMES} <= set(default_registry().recipes())


@each
def test_the_command_line_does_what_the_object_does(recipe: Recipe, folder: Path, tmp_path: Path) -> None:
    data = ("--calibration", str(folder / "text.txt"), "--samples", "2", "--seqlen", "12")
    arguments = ("--recipe", recipe.name, "--ratio", "0.2", "--out", str(tmp_path / "out"), *data)
    assert main(["prune", str(folder / "tiny"), *arguments]) == 0
    plan, model = in_python(recipe, folder)
    assert Plan.load(tmp_path / "out") == plan
    saved, _ = billhook.load(str(tmp_path / "out"))
    weights = saved.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())


@published
def test_of_the_published_only_replaceme_repairs(recipe: Recipe) -> None:
    assert recipe.estimator == REPAIRED.get(recipe.name, Identity())


@each
def test_a_recipe_has_an_objective_just_when_it_searches(recipe: Recipe) -> None:
    assert (recipe.objective is not None) == recipe.selector.needs_objective()


@published
def test_a_recipe_names_its_paper_and_the_documentation_its_number(recipe: Recipe) -> None:
    assert recipe.paper
    assert re.search(rf"^\| `{recipe.name}` \| .+arXiv {recipe.arxiv}", CLI_PAGE, re.MULTILINE), (
        f"docs/cli.md lacks a row | `{recipe.name}` | … | … arXiv {recipe.arxiv} | in the table of recipes."
    )


def test_the_command_lines_default_is_our_own(folder: Path, tmp_path: Path) -> None:
    data = ("--calibration", str(folder / "text.txt"), "--samples", "2", "--seqlen", "12")
    assert main(["prune", str(folder / "tiny"), "--ratio", "0.2", "--out", str(tmp_path / "out"), *data]) == 0
    plan, _ = in_python(BILLHOOK, folder)
    assert Plan.load(tmp_path / "out") == plan


def test_uidl_is_what_the_selector_of_that_name_is() -> None:
    assert billhook.recipe("uidl").selector == default_registry().create("selector", "uidl")


def test_a_recipe_that_repairs_nothing_can_be_told_to() -> None:
    pruner = Pruner.following("blockpruner", estimator="ridge", merger="refit", repair=Repair(when="trial"))
    result = pruner.prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(parameters=0.1))
    assert all(report.donor is not None for report in result.reports)
