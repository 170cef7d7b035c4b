"""Llama with fused projections: query, key and value in Phi-3, gate and up in Phi-3 and GLM."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, DeclaredAdapter, hookimpl
from billhook_adapters.llama import ATTENTION, MLP, TINY, llama_like

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

GLM = llama_like("glm", mlp=PHI3.mlp, head_dim=8)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Phi-3, GLM."""
    register(PHI3)
    register(GLM)
