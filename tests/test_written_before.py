"""What billhook wrote before: plans, journals and checkpoints of earlier versions still serve."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from billhook import Budget, Calibration, Plan, Pruner, Repair, apply, load
from billhook.cli import main
from billhook.errors import InvalidConfig
from billhook.heterogeneous.modeling_billhook import HeterogeneousLayers
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.mixed import Mixed
from billhook_strategies.selectors.multi_pruner import MultiPruner

BEFORE = Path(__file__).parent / "written_before"
PLANS = sorted(path.name.removesuffix(".plan.json") for path in BEFORE.glob("*.plan.json"))
CHECKPOINTS = ("stock", "uneven", "inserted")
IDS = torch.arange(4, 20)[None]
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "search": {"selector": BlockPruner(), "estimator": "least-squares", "merger": "fold", "repair": Repair()},
    "rounds": {
        "selector": Mixed(rounds=3),
        "estimator": Ridge(),
        "merger": "refit",
        "repair": Repair(when="trial"),
    },
    "stages": {"selector": MultiPruner(channel_group=8), "estimator": "identity", "merger": "fold", "repair": Repair()},
}
"""Of the journals: how their runs were called."""


@pytest.fixture(scope="module")
def dense() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load(str(BEFORE / "dense"))


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Calibration:
    """The text lies where the command was called."""
    monkeypatch.chdir(BEFORE)
    return Calibration(source="text.txt", samples=4, seqlen=16)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_read_and_says_the_same_when_it_is_written_again(name: str) -> None:
    before = json.loads((BEFORE / f"{name}.plan.json").read_text())
    again = json.loads(Plan.load(BEFORE / f"{name}.plan.json").to_json())
    assert before["repair"].pop("readers") is False  # which is gone
    assert again["repair"].pop("guard") == 0.0  # which there was not
    assert again["calibration"].pop("guard") is None
    for part in again["calibration"]["parts"]:
        assert part.pop("fingerprint") == ""
    if name == "irls":  # which has a name of its own now
        assert before["estimator"]["options"].pop("optimizer") == "irls"
        before["estimator"]["name"] = "billhook:cosine-irls"
    assert again == before


@pytest.mark.parametrize("name", [name for name in PLANS if name not in ("lbfgs", "blend")])
def test_every_plan_makes_the_same_model(
    name: str, dense: tuple[PreTrainedModel, PreTrainedTokenizerBase], data: Calibration
) -> None:
    if name == "inserted":
        pytest.skip("of another model")
    plan = Plan.load(BEFORE / f"{name}.plan.json")
    result = apply(plan, *dense)
    assert result.plan.cuts == plan.cuts
    if (kept := BEFORE / f"{name}.logits.safetensors").exists():
        # another torch may add in another order
        torch.testing.assert_close(logits(result.model), load_file(kept)["logits"], rtol=1e-4, atol=1e-4)


def test_a_plan_by_lbfgs_says_what_to_do_and_can_be_applied_with_another_estimator(
    dense: tuple[PreTrainedModel, PreTrainedTokenizerBase], data: Calibration, logged: list[str]
) -> None:
    plan = Plan.load(BEFORE / "lbfgs.plan.json")
    assert len(logged) == 1
    assert "L-BFGS, which did worst and is gone. To apply the plan, name another one" in logged[0]
    with pytest.raises(InvalidConfig, match="has no option 'optimizer'"):
        apply(plan, *dense)
    assert apply(plan, *dense, pruner=Pruner(estimator="cosine")).plan.cuts == plan.cuts


def test_options_that_meant_nothing_to_the_closed_form_are_left_out() -> None:
    text = (BEFORE / "irls.plan.json").read_text()
    more = text.replace('"optimizer": "irls"', '"optimizer": "irls", "learning_rate": 0.5, "rescale": true')
    assert more != text
    assert Plan.from_json(more) == Plan.from_json(text)


def test_self_generated_text_of_a_plan_is_written_again(
    dense: tuple[PreTrainedModel, PreTrainedTokenizerBase], data: Calibration
) -> None:
    plan = Plan.load(BEFORE / "blend.plan.json")
    again = Calibration.from_record(plan.calibration)
    tokens = again.tokenize(dense[1], dense[0])
    text, own = again.record(tokens).parts
    assert text == plan.calibration.parts[0]
    assert own == attrs.evolve(plan.calibration.parts[1], options={**plan.calibration.parts[1].options, "chat": False})


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_checkpoint_loads_and_computes_what_was_saved(name: str) -> None:
    model, _ = load(str(BEFORE / name))
    expected = load_file(BEFORE / f"{name}.logits.safetensors")["logits"]
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)  # another torch may add in another order
    assert Plan.load(BEFORE / name) == Plan.load(BEFORE / f"{name}.plan.json")


@pytest.mark.parametrize("name", ["uneven", "inserted"])
def test_the_code_beside_the_weights_still_loads_them_without_billhook(name: str) -> None:
    code = (
        "import sys, torch; sys.modules['billhook'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(BEFORE / name)!r}, trust_remote_code=True)\n"
        "print(model(input_ids=torch.arange(4, 20)[None]).logits.double().sum().item())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    expected = load_file(BEFORE / f"{name}.logits.safetensors")["logits"].double().sum()
    assert float(printed.split()[-1]) == pytest.approx(
        float(expected), rel=1e-4, abs=1e-2
    )  # a sum of a thousand logits


def test_a_pruned_checkpoint_can_be_pruned_further(data: Calibration) -> None:
    model, tokenizer = load(str(BEFORE / "uneven"))
    result = Pruner.following("replaceme-ls").prune(model, tokenizer, calibration=data, budget=Budget(layers=1))
    assert result.metrics["layers_after"] == result.metrics["layers_before"] - 1


@pytest.mark.parametrize("name", SEARCHES)
def test_a_stopped_search_goes_on_from_its_journal_to_the_same_plan(
    name: str, dense: tuple[PreTrainedModel, PreTrainedTokenizerBase], data: Calibration, tmp_path: Path
) -> None:
    journal = Path(shutil.copy(BEFORE / f"{name}.journal.jsonl", tmp_path))
    decided = len(journal.read_text().splitlines())
    pruner = Pruner(journal=journal, **SEARCHES[name])
    result = pruner.prune(*dense, calibration=data, budget=Budget(parameters=0.25))
    assert result.plan.cuts == Plan.load(BEFORE / f"{name}.plan.json").cuts
    assert len(journal.read_text().splitlines()) > decided


def test_the_command_applies_a_plan_of_before(data: Calibration, tmp_path: Path) -> None:
    assert main(["apply", "uneven", "dense", "--out", str(tmp_path / "again")]) == 0
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert isinstance(again, HeterogeneousLayers)
    torch.testing.assert_close(logits(again), load_file("uneven.logits.safetensors")["logits"], rtol=1e-4, atol=1e-4)


def test_a_plan_that_solved_readers_is_read_and_a_warning_says_what_is_left_out(logged: list[str]) -> None:
    text = (BEFORE / "own.plan.json").read_text().replace('"readers": false', '"readers": true')
    assert Plan.from_json(text) == Plan.load(BEFORE / "own.plan.json")
    assert logged == ["The plan solves readers anew (repair.readers), which is done no more: it did harm."]
