"""Checkpoints whose weights are not those of the model: what is missing, too much or of another shape is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.weights import copies
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForSequenceClassification

from billhook import load
from billhook.errors import UnsupportedArchitecture, UnusableModel
from billhook.testing import save_tiny_checkpoint, tiny_tokenizer

Weights = dict[str, Tensor]

DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("weights") / "good", "llama")


def changed(good: Path, to: Path, change: Callable[[Weights], Any], **config: object) -> Path:
    """A copy with other weights (changed in place) and other values in its config."""
    shutil.copytree(good, to)
    weights = copies(to / "model.safetensors")
    change(weights)
    save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    written = json.loads((to / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps(written))
    return to


def _lose(weights: Weights) -> None:
    del weights[DOWN]


def _scale(weights: Weights) -> None:
    for name in [name for name in weights if name.endswith("proj.weight")]:
        weights[name] = weights[name].to(torch.float8_e4m3fn)
        weights[name.replace(".weight", ".weight_scale")] = torch.ones(())


def _pack(weights: Weights) -> None:
    weights[DOWN.replace("weight", "weight_packed")] = weights.pop(DOWN).to(torch.int32)


def _narrow(weights: Weights) -> None:
    weights[DOWN] = weights[DOWN][:, :10].contiguous()


def _add(*names: str) -> Callable[[Weights], None]:
    return lambda weights: weights.update({name: torch.zeros(2) for name in names})


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (_lose, {}, rf"is damaged: it lacks {DOWN}\."),
        (_scale, {}, r"is quantised, though its config does not say so: .*down_proj\.weight_scale"),
        (_pack, {}, r"is quantised, though its config does not say so: .*down_proj\.weight_packed"),
        (_narrow, {}, rf"{DOWN} is \[16, 10\], and the config asks for \[16, 24\]"),
        (
            _add(),
            {"num_hidden_layers": 3},
            r"layers than its config says \(num_hidden_layers 3\): model\.layers\.3",
        ),
        (_add("v_head.summary.weight"), {}, r"another head: its head \(v_head\.summary\.weight\) would be lost"),
        (_add("score.weight"), {"architectures": ["MyReward"]}, r"that of a MyReward: its head \(score\.weight\)"),
        (_add("model.layers.0.self_attn.q_proj.lora_A.weight"), {}, r"holds LoRA adapters .*merge them first"),
        (
            _add("model.layers.0.mlp.extra"),
            {},
            r"that a LlamaForCausalLM does not have.*mlp\.extra",
        ),
        (_add("model.layers.0.self_attn.q_proj.other"), {}, r"does not have, and that would be lost"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    good: Path, tmp_path: Path, change: Callable[[Weights], Any], config: dict[str, object], said: str
) -> None:
    with pytest.raises(UnusableModel, match=said) as caught:
        load(str(changed(good, tmp_path / "model", change, **config)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq",),
        ("model.rotary_emb.inv_freq",),
        ("model.layers.0.self_attn.masked_bias", "model.layers.0.attention.bias"),
        ("model.embeddings.position_ids",),
    ],
)
def test_tables_that_older_versions_wrote_do_no_harm(good: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    model, _ = load(str(changed(good, tmp_path / "model", _add(*names))))
    expected, _ = load(str(good))
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


def test_a_head_that_is_tied_may_be_written_out(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "tied", "llama", tie_word_embeddings=True)
    weights = copies(folder / "model.safetensors")
    words = weights["model.embed_tokens.weight"]
    save_file({**weights, "lm_head.weight": words.clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    model, _ = load(str(folder))
    assert torch.equal(model.state_dict()["lm_head.weight"], words)


def test_a_classifier_is_refused_by_its_class_before_its_weights_are_read(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    Qwen2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    tiny_tokenizer(64).save_pretrained(tmp_path / "model")
    with pytest.raises(UnsupportedArchitecture, match=r"is a Qwen2ForSequenceClassification; only causal"):
        load(str(tmp_path / "model"))
