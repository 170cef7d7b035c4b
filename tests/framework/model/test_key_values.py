"""The cache goes by two names, and whoever reads on need not know which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from billhook.model.key_values import cache_name, read_on
from billhook.testing import tiny_model, tiny_tokens

IDS = tiny_tokens(2, 8).ids

STOCK = cache_name(tiny_model("llama"))
"""What the installed transformers says."""


class Older(nn.Module):
    """Code that came with a checkpoint: says ``past_key_values``, whatever transformers says by now."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_model("llama")

    def forward(self, input_ids: Tensor, past_key_values: Any = None, **kwargs: Any) -> Any:
        return self.inner(input_ids=input_ids, **{STOCK: past_key_values}, **kwargs)


class Newer(nn.Module):
    """Says ``cache``, whatever transformers says still."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_model("llama")

    def forward(self, input_ids: Tensor, cache: Any = None, **kwargs: Any) -> Any:
        return self.inner(input_ids=input_ids, **{STOCK: cache}, **kwargs)


MODELS: dict[str, Any] = {"older": Older(), "newer": Newer(), "stock": tiny_model("llama")}


@pytest.mark.parametrize(("which", "name"), [("older", "past_key_values"), ("newer", "cache")])
def test_a_model_is_asked_and_not_the_version(which: str, name: str) -> None:
    assert cache_name(MODELS[which]) == name


@torch.no_grad()
@pytest.mark.parametrize("which", MODELS)
def test_tokens_read_in_two_goes_are_those_of_the_whole_row(which: str) -> None:
    whole, _ = read_on(MODELS[which], IDS, None, use_cache=False)
    first, cache = read_on(MODELS[which], IDS[:, :5], None, use_cache=True)
    second, _ = read_on(MODELS[which], IDS[:, 5:], cache, use_cache=True)
    # float32: attention over a cache sums in another order
    torch.testing.assert_close(torch.cat([first.logits, second.logits], dim=1), whole.logits, rtol=1e-4, atol=1e-5)


def test_a_model_that_is_told_to_keep_no_cache_gives_none() -> None:
    assert read_on(MODELS["stock"], IDS, None, use_cache=False)[1] is None
