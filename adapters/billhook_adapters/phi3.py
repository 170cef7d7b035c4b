"""Phi-3: Llama with fused query-key-value and gate-up projections."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, DeclaredAdapter, hookimpl
from billhook_adapters.llama import ATTENTION, MLP, TINY

PHI3 = DeclaredAdapter(
    name="phi3",
    model_types=("phi3",),
    layer_list="model.layers",
    attention=attrs.evolve(
        ATTENTION,
        readers=("self_attn.qkv_proj",),
        stacked={"self_attn.qkv_proj": ("q", "k", "v")},
        counts={"self_attn.num_key_value_heads": "key_value_heads", "self_attn.config.num_attention_heads": "heads"},
    ),
    mlp=attrs.evolve(MLP, readers=("mlp.gate_up_proj",), stacked={"mlp.gate_up_proj": ("gate", "up")}),
    tiny_config={**TINY, "original_max_position_embeddings": 64},
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Phi-3."""
    register(PHI3)
