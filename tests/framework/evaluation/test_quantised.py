"""Quantised checkpoints: measured, and not pruned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.weights import copies

import billhook
from billhook.errors import UnusableModel
from billhook.model.loading import find
from billhook.testing import save_tiny_checkpoint, tiny_tokens

PLAIN = {
    "quant_method": "compressed-tensors",
    "format": "dense",
    "config_groups": {},
    "sparsity_config": {"format": "dense", "sparsity_structure": "2:4"},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(
        tmp_path_factory.mktemp("models") / "good", "llama", attention_bias=False, mlp_bias=False
    )


def with_quantisation(good: Path, to: Path, said: object) -> Path:
    shutil.copytree(good, to)
    config = json.loads((to / "config.json").read_text()) | {"quantization_config": said}
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_a_note_on_sparsity_quantises_nothing(good: Path, tmp_path: Path) -> None:
    model, _ = billhook.load(str(with_quantisation(good, tmp_path / "sparse", PLAIN)))
    expected, _ = billhook.load(str(good))
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in expected.state_dict().items())
    assert getattr(model.config, "quantization_config", None) is None


@pytest.mark.filterwarnings("ignore")  # whatever transformers says of float8 on a machine without a GPU
def test_what_transformers_can_load_is_measured(good: Path, tmp_path: Path) -> None:
    """float8 in blocks of 8, which transformers unpacks where there is no GPU; against the rounding done by hand."""
    folder = with_quantisation(
        good, tmp_path / "fp8", {"quant_method": "fp8", "weight_block_size": [8, 8], "activation_scheme": "dynamic"}
    )
    weights = copies(folder / "model.safetensors")
    exact = dict(weights)
    for name in [name for name in weights if name.endswith("proj.weight")]:
        rounded = weights[name].to(torch.float8_e4m3fn)
        weights[name], exact[name] = rounded, rounded.to(torch.float32)
        blocks = [-(-size // 8) for size in rounded.shape]
        weights[f"{name}_scale_inv"] = torch.ones(blocks)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    expected, _ = billhook.load(str(good))
    expected.load_state_dict(exact)
    with pytest.raises(UnusableModel, match=r"is quantised \(fp8\)"):
        billhook.load(str(folder))
    measured = find(str(folder), measured=True).model()
    perplexity = billhook.evaluate(measured, None, tiny_tokens(4, 12)).perplexity
    assert perplexity == pytest.approx(billhook.evaluate(expected, None, tiny_tokens(4, 12)).perplexity, rel=0.02)
