"""Llama's attention, and an MLP without a gate: one linear layer reads the stream."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, hookimpl
from billhook_adapters.llama import ATTENTION, MLP, ROPE, llama_like

UP = attrs.evolve(MLP, readers=("mlp.up_proj",))

FAMILIES = (
    llama_like(
        "apertus",
        "apertus",
        "apertus1p5_text",
        attention=attrs.evolve(ATTENTION, alone=("attention_layernorm",)),
        mlp=attrs.evolve(UP, alone=("feedforward_layernorm",)),
        rope_parameters=ROPE,
    ),
    llama_like("arcee", mlp=UP, head_dim=8),
    llama_like("jais2", mlp=UP, head_dim=8, rope_parameters=ROPE),
    llama_like("nemotron", mlp=UP, head_dim=4, rope_parameters={**ROPE, "partial_rotary_factor": 0.5}),
    llama_like(
        "nanochat",
        mlp=attrs.evolve(MLP, writer="mlp.fc2", readers=("mlp.fc1",)),
        final_logit_softcapping=3.0,
    ),
    llama_like("starcoder2", mlp=attrs.evolve(MLP, writer="mlp.c_proj", readers=("mlp.c_fc",))),
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Apertus, Arcee, Jais 2, Nemotron, nanochat, StarCoder2."""
    for adapter in FAMILIES:
        register(adapter)
