"""The suite for adapters catches each way of describing a family wrongly."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from billhook import Adapter
from billhook.testing import check_adapter
from billhook_adapters.falcon import FALCON
from billhook_adapters.gpt2 import GPT2
from billhook_adapters.gpt_neox import GPT_NEOX
from billhook_adapters.llama import ATTENTION, GRANITE, LLAMA, MISTRAL, MLP
from billhook_adapters.opt import OPT
from billhook_adapters.phi3 import PHI3
from billhook_adapters.post_norm import GEMMA2, OLMO2


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
    "module of the other branch": (
        llama(attention=attrs.evolve(ATTENTION, module="mlp")),
        "with attention 0 made.*it does not run",
    ),
    "norm of the other branch": (
        llama(attention=attrs.evolve(ATTENTION, alone=MLP.alone)),
        "with attention 0 made.*it is not the zeroed model",
    ),
    "module without the weights": (
        attrs.evolve(MISTRAL, mlp=attrs.evolve(MLP, module="mlp.act_fn")),
        "with mlp 0 made.* 16 parameters went, and the branch has at least 1152",
    ),
    "module too small": (llama(mlp=attrs.evolve(MLP, module="mlp.down_proj")), "with mlp 0 made.*it does not run"),
    "fused reader taken for one block": (
        attrs.evolve(PHI3, mlp=attrs.evolve(PHI3.mlp, stacked={})),
        "with mlp 1 to 12 channels made.*it is not the zeroed model",
    ),
    "fused heads taken for one block": (
        attrs.evolve(GPT2, attention=attrs.evolve(GPT2.attention, stacked={})),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "interleaved heads taken for blocks": (
        attrs.evolve(
            GPT_NEOX,
            attention=attrs.evolve(
                GPT_NEOX.attention, stacked={"attention.query_key_value": ("query", "key", "value")}
            ),
        ),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "count forgotten": (
        attrs.evolve(OPT, attention=attrs.evolve(OPT.attention, counts={})),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "count of something that is not there": (
        attrs.evolve(OPT, attention=attrs.evolve(OPT.attention, counts={"self_attn.heads": "heads"})),
        "its attention layout counts self_attn.heads, which is not there",
    ),
    "reader forgotten": (
        llama(mlp=attrs.evolve(MLP, readers=("mlp.gate_proj",))),
        "with mlp 1 to 12 channels made.*it does not run",
    ),
    "reader leads nowhere": (
        llama(mlp=attrs.evolve(MLP, readers=("mlp.gate", "mlp.up"))),
        "the path mlp.gate in its mlp layout leads nowhere",
    ),
    "blocks of something that is no reader": (
        llama(mlp=attrs.evolve(MLP, stacked={"mlp.gate_up_proj": ("gate", "up")})),
        r"its mlp layout stacks \['mlp.gate_up_proj'\], which are none of its readers",
    ),
    "sizes of something else": (
        llama(mlp=attrs.evolve(MLP, sizes={"channels": "hidden_size"})),
        "the mlp of layer 0 has 24 units, and the config says hidden_size=16",
    ),
    "sizes forgotten": (
        llama(mlp=attrs.evolve(MLP, sizes={})),
        "the sizes of its mlp do not say which config attribute holds the channels",
    ),
    "groups forgotten": (
        llama(attention=attrs.evolve(ATTENTION, sizes={"heads": "num_attention_heads"})),
        "with attention 1 to 2 key-value groups made",
    ),
    "norm over all heads forgotten": (
        attrs.evolve(OLMO2, attention=attrs.evolve(OLMO2.attention, rigid=())),
        "with attention 1 to 1 key-value groups made.*it does not run",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_description_is_caught_and_the_mistake_is_named(name: str) -> None:
    adapter, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_adapter(adapter)


def test_an_adapter_need_not_be_installed_to_be_checked() -> None:
    check_adapter(llama(name="my-llama"))
