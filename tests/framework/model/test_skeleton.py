"""Buffers that no checkpoint holds: what a cast rounds is made anew, so that a result is what its checkpoint gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import by_name
from transformers import AutoModelForCausalLM

from billhook import Budget, Pruner
from billhook.model.adapter import Adapter
from billhook.model.skeleton import has_rounded_buffers, renew_buffers, skeleton_of
from billhook.testing import tiny_model, tiny_tokens

CASTS: dict[str, Callable[[Any], Any]] = {
    "to": lambda model: model.to(torch.bfloat16),
    "bfloat16": lambda model: model.bfloat16(),
    "half": lambda model: model.half(),
    "and back": lambda model: model.to(torch.bfloat16).to(torch.float32),
}


@by_name
def test_renewed_buffers_are_those_of_a_loaded_model(adapter: Adapter, tmp_path: Path) -> None:
    model = tiny_model(adapter)
    model.save_pretrained(tmp_path)
    for dtype in (torch.bfloat16, torch.float16):
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
        assert not has_rounded_buffers(loaded)
        cast = copy.deepcopy(model).to(dtype)  # type: ignore[arg-type] # hidden by transformers' decorator
        renewed = dict(renew_buffers(cast).named_buffers())
        for name, buffer in loaded.named_buffers():
            assert torch.equal(renewed[name], buffer), name
            assert renewed[name].dtype == buffer.dtype, name


@pytest.mark.parametrize("cast", CASTS)
def test_a_model_that_was_cast_in_memory_is_pruned_and_saved(cast: str, tmp_path: Path) -> None:
    model = CASTS[cast](tiny_model(hidden_size=32, intermediate_size=48, head_dim=8))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    pruner = Pruner.following("replaceme")
    pruner.prune(model, calibration=tiny_tokens(8), budget=Budget(layers=1)).save(tmp_path / "pruned")
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), f"{name} of the model that was handed in has changed"


def test_buffers_that_are_further_off_than_rounding_stay() -> None:
    model: Any = tiny_model()
    model.model.rotary_emb.inv_freq *= 2
    assert not has_rounded_buffers(model)


def test_a_skeleton_takes_no_memory_for_weights() -> None:
    skeleton = skeleton_of(tiny_model())
    assert skeleton is not None
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    assert not any(buffer.is_meta for buffer in skeleton.buffers())
