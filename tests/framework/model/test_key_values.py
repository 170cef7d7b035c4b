"""The cache goes by two names, and whoever reads on need not know which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from billhook.model.key_values import cache_name, read_on
from billhook.testing import tiny_model, tiny_tokens

IDS = tiny_tokens(2, 8).ids

STOCK = cache_name(tiny_model("llama"))
"""What the installed transformers says."""


class OfTheirOwn(LlamaForCausalLM):
    """Code that came with a checkpoint: says ``past_key_values``, whatever transformers says by now."""

    def forward(self, input_ids: Tensor, past_key_values: Any = None, **kwargs: Any) -> Any:
        return super().forward(input_ids, **{STOCK: past_key_values}, **kwargs)


class Renamed(LlamaForCausalLM):
    """Says ``cache``, whatever transformers says still."""

    def forward(self, input_ids: Tensor, cache: Any = None, **kwargs: Any) -> Any:
        return super().forward(input_ids, **{STOCK: cache}, **kwargs)


def _config() -> LlamaConfig:
    return LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)


@pytest.mark.parametrize(("made", "name"), [(OfTheirOwn, "past_key_values"), (Renamed, "cache")])
def test_a_model_is_asked_and_not_the_version(made: type[PreTrainedModel], name: str) -> None:
    assert cache_name(made(_config())) == name


@torch.no_grad()
@pytest.mark.parametrize("made", [OfTheirOwn, Renamed, LlamaForCausalLM])
def test_tokens_read_in_two_goes_are_those_of_the_whole_row(made: type[PreTrainedModel]) -> None:
    model = made(_config()).eval()
    whole, _ = read_on(model, IDS, None, use_cache=False)
    first, cache = read_on(model, IDS[:, :5], None, use_cache=True)
    second, _ = read_on(model, IDS[:, 5:], cache, use_cache=True)
    # float32: attention over a cache sums in another order
    torch.testing.assert_close(torch.cat([first.logits, second.logits], dim=1), whole.logits, rtol=1e-4, atol=1e-5)


def test_a_model_that_is_told_to_keep_no_cache_gives_none() -> None:
    assert read_on(tiny_model("llama"), IDS, None, use_cache=False)[1] is None
