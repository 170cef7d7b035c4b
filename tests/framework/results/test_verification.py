"""Verification notices whatever makes a reloaded checkpoint another model, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from tests.families import marked
from tests.framework.heterogeneous.uneven import FAMILIES, settled
from tests.weights import copies
from torch import nn
from transformers import PreTrainedModel

from billhook.errors import CheckpointError
from billhook.heterogeneous.modeling_billhook import SkippedAttention
from billhook.results import verification
from billhook.results.verification import CacheKind, greedy, verify_reload, verify_same
from billhook.testing import tiny_model


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_a_model_whose_layers_differ_is_what_its_checkpoint_gives(tmp_path: Path, model_type: str) -> None:
    model = settled(model_type)
    model.save_pretrained(tmp_path)
    verify_reload(model, tmp_path)


def test_the_copy_of_our_code_beside_the_weights_is_not_what_is_run(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.py"):
        file.write_text("raise RuntimeError('this was run')")
    verify_reload(model, tmp_path)


def edited(folder: Path, **changes: Any) -> Path:
    """The checkpoint with other tensors; None leaves one out."""
    file = folder / "model.safetensors"
    tensors = copies(file) | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: t for name, t in tensors.items() if t is not None}, file, metadata={"format": "pt"})
    return folder


def test_a_weight_of_a_narrower_branch_that_is_missing_is_noticed(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    edited(tmp_path, model__layers__1__mlp__down_proj__weight=None)
    with pytest.raises(CheckpointError, match=r"does not fit at model\.layers\.1\.mlp\.down_proj\.weight.*left in"):
        verify_reload(model, tmp_path)


def test_a_config_that_forgets_a_width_is_noticed(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 5', '"intermediate_size": 6'))
    with pytest.raises(CheckpointError) as caught:
        verify_reload(model, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_branch_that_comes_back_is_noticed(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"mlp"\n', "\n", 1))
    with pytest.raises(CheckpointError, match=r"does not fit at .*model\.layers\.3\.mlp"):
        verify_reload(model, tmp_path)


@pytest.mark.parametrize(("cache", "kind"), [("a dynamic", "DynamicCache"), ("a static", "StaticCache")])
def test_an_attention_that_goes_wrong_with_one_kind_of_cache_alone_is_noticed(
    tmp_path: Path, cache: str, kind: str
) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    attention = model.get_submodule("model.layers.1.self_attn")
    attention.register_forward_hook(_Flipped(kind), with_kwargs=True)
    with pytest.raises(CheckpointError, match=rf"Greedy generation with {cache} cache differs .* left in"):
        verify_reload(model, tmp_path)


class _Flipped:
    """Forward hook: the output with its sign changed, when a cache of one kind is in use."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        wrong = self._kind in {type(value).__name__ for value in kwargs.values()}  # its name depends on transformers
        return (-output[0], *output[1:]) if wrong else output


def test_a_cache_that_cannot_hold_the_layers_is_noticed(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    cast(Any, model.get_submodule("model.layers.3.self_attn")).layer_idx = 4
    with pytest.raises(CheckpointError, match=r"Generation with a dynamic cache fails: IndexError.*left in"):
        verify_reload(model, tmp_path)


def test_rows_that_are_padded_on_the_left_are_compared(tmp_path: Path) -> None:
    model = settled("llama")
    model.save_pretrained(tmp_path)
    masks: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda m, args, kwargs: masks.append(kwargs["attention_mask"]), with_kwargs=True)
    verify_reload(model, tmp_path)
    assert all(bool(mask[0].all()) and not bool(mask[1, 0]) and bool(mask[1, -1]) for mask in masks)
    assert len(masks) == 1 + 3 * verification.NEW_TOKENS


@pytest.mark.parametrize("positions", [4, 9, 64])
def test_models_of_few_positions_are_given_short_rows(tmp_path: Path, positions: int) -> None:
    model = tiny_model("llama", max_position_embeddings=positions)
    model.save_pretrained(tmp_path)
    verify_reload(model, tmp_path)


def test_the_own_loop_decodes_as_generate_does() -> None:
    model = settled("llama")
    prompt = verification._prompt(model)
    kinds: tuple[CacheKind, ...] = ("no", "a dynamic", "a static")
    for cache in kinds:
        found = greedy(model, prompt, cache)
        wanted = cast(Any, model).generate(
            prompt.ids,
            attention_mask=prompt.keep.long(),
            max_new_tokens=verification.NEW_TOKENS,
            do_sample=False,
            eos_token_id=None,
        )
        assert torch.equal(found, wanted[:, prompt.ids.shape[1] :])


def test_models_that_round_otherwise_are_the_same() -> None:
    model, other = settled("llama"), settled("llama")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1 + 1e-6)
    verify_same(model, other, "The other one")


def test_models_that_differ_are_not_the_same() -> None:
    model, other = settled("llama"), _with_an_attention_less(settled("llama"))
    with pytest.raises(CheckpointError, match=r"The other one differs from the model in memory: logits by"):
        verify_same(model, other, "The other one")


def _with_an_attention_less(model: PreTrainedModel) -> PreTrainedModel:
    model.get_submodule("model.layers.1").self_attn = SkippedAttention()
    return model
