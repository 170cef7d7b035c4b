"""The suite for adapters catches each way of describing a family wrongly."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from billhook import Adapter
from billhook.testing import check_adapter
from billhook_adapters.falcon import FALCON
from billhook_adapters.gpt2 import GPT2
from billhook_adapters.llama import ATTENTION, GRANITE, LLAMA, MLP
from billhook_adapters.post_norm import GEMMA2


def llama(**changes: Any) -> Adapter:
    return attrs.evolve(LLAMA, **changes)


BROKEN: dict[str, tuple[Adapter, str]] = {
    "no model types": (llama(model_types=()), "serves no model type"),
    "unknown config argument value": (
        llama(tiny_config={**LLAMA.tiny_config, "hidden_size": 15}),
        "its tiny_config builds no model",
    ),
    "large": (llama(tiny_config={**LLAMA.tiny_config, "vocab_size": 20000}), "parameters; make it smaller"),
    "shallow": (llama(tiny_config={**LLAMA.tiny_config, "num_hidden_layers": 2}), "at least 4 layers"),
    "branches mixed up": (llama(attention=MLP, mlp=ATTENTION), "is not what the attention of layer 0 adds"),
    "reader instead of writer": (
        llama(mlp=attrs.evolve(MLP, writer="mlp.up_proj")),
        "the mlp writer's outputs are not d_model many",
    ),
    "module without a weight": (
        llama(mlp=attrs.evolve(MLP, writer="mlp.act_fn")),
        "the mlp writer is no linear layer",
    ),
    "output leads nowhere": (llama(mlp=attrs.evolve(MLP, norm_after="mlp.no_norm")), "output.. leads nowhere"),
    "scale forgotten": (attrs.evolve(GRANITE, scale_attribute=None), "the output noted is not what the attention of"),
    "tuple forgotten": (attrs.evolve(FALCON, returns_tuple=False), "falcon adapter"),
    "tuple invented": (llama(returns_tuple=True), "llama adapter"),
    "norm forgotten": (attrs.evolve(GEMMA2, mlp=MLP), "is not what the mlp of layer 0 adds"),
    "wrong norm": (
        attrs.evolve(GEMMA2, mlp=attrs.evolve(MLP, norm_after="pre_feedforward_layernorm")),
        "is not what the mlp of layer 0 adds|what neither of its outputs wrote",
    ),
    "reader of the same width": (
        attrs.evolve(GPT2, attention=attrs.evolve(GPT2.attention, writer="mlp.c_proj")),
        "adds to the stream what neither of its outputs wrote",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_description_is_caught_and_the_mistake_is_named(name: str) -> None:
    adapter, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_adapter(adapter)


def test_an_adapter_need_not_be_installed_to_be_checked() -> None:
    check_adapter(llama(name="my-llama"))
