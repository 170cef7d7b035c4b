"""Models whose code lies beside their weights: compared by the class in memory, never written in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook import Budget, Pruner, PruneResult, default_registry, hookimpl, load
from billhook.errors import CheckpointError, ModelNotFound
from billhook.testing import save_tiny_checkpoint, tiny_tokens

CONFIG = """
from transformers import LlamaConfig
class MyConfig(LlamaConfig):
    model_type = "mytype"
"""
MODEL = """
from transformers import LlamaForCausalLM
from .configuration_my import MyConfig
class MyForCausalLM(LlamaForCausalLM):
    config_class = MyConfig
"""


class Adapts:
    """Brings an adapter for the strange type."""

    @hookimpl
    def billhook_register_adapters(self, register: Any) -> None:
        """A Llama by another name."""
        llama: Any = default_registry().adapter_for("llama")
        register(attrs.evolve(llama, name="mine", model_types=("mytype",)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    place = save_tiny_checkpoint(tmp_path / "mine", "llama")
    classes = {"AutoConfig": "configuration_my.MyConfig", "AutoModelForCausalLM": "modeling_my.MyForCausalLM"}
    config = json.loads((place / "config.json").read_text()) | {"model_type": "mytype", "auto_map": classes}
    (place / "config.json").write_text(json.dumps(config))
    (place / "configuration_my.py").write_text(CONFIG)
    (place / "modeling_my.py").write_text(MODEL)
    return place


def pruned(folder: Path, recipe: str, **budget: Any) -> PruneResult:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    pruner = Pruner.following(recipe, hooks=[Adapts()])
    return pruner.prune(model, calibration=tiny_tokens(8), budget=Budget(**budget))


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=tiny_tokens(2).ids).logits
    return found


def test_layers_that_are_alike_are_saved_and_compared(folder: Path, tmp_path: Path) -> None:
    result = pruned(folder, "replaceme", layers=1)
    saved = result.save(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(saved, trust_remote_code=True).eval()
    assert again.config.model_type == "mytype"
    assert torch.equal(logits(again), logits(result.model))


@pytest.mark.parametrize("verify", [True, False])
def test_layers_that_differ_are_never_written_in_a_type_that_nothing_loads(
    folder: Path, tmp_path: Path, verify: bool
) -> None:
    result = pruned(folder, "billhook", parameters=0.2)
    with pytest.raises(CheckpointError, match=r"its family 'mytype' is none of transformers' own.*pad=True"):
        result.save(tmp_path / "saved", verify=verify)
    assert not (tmp_path / "saved").exists()


def test_layers_that_differ_are_saved_with_zeros(folder: Path, tmp_path: Path) -> None:
    result = pruned(folder, "billhook", parameters=0.2)
    saved = result.save(tmp_path / "saved", pad=True)
    assert json.loads((saved / "config.json").read_text())["model_type"] == "mytype"


def test_loading_says_in_one_line_how_to_go_on(folder: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"contains custom code, and billhook runs none\. In Python"):
        load(str(folder))
