"""Llama, and the families that build their layers the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from billhook import Adapter, BranchLayout, DeclaredAdapter, hookimpl

ATTENTION = BranchLayout(
    writer="self_attn.o_proj",
    readers=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    module="self_attn",
    alone=("input_layernorm",),
    sizes={"heads": "num_attention_heads", "key_value_heads": "num_key_value_heads"},
)
MLP = BranchLayout(
    writer="mlp.down_proj",
    readers=("mlp.gate_proj", "mlp.up_proj"),
    module="mlp",
    alone=("post_attention_layernorm",),
    sizes={"channels": "intermediate_size"},
)

TINY: Mapping[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Config arguments that all these families understand; grouped-query attention on purpose."""


def llama_like(name: str, *model_types: str, scale_attribute: str | None = None, **tiny: Any) -> DeclaredAdapter:
    """An adapter for a family with Llama's module names; ``tiny`` adds to :data:`TINY`."""
    return DeclaredAdapter(
        name=name,
        model_types=model_types or (name,),
        layer_list="model.layers",
        attention=ATTENTION,
        mlp=MLP,
        scale_attribute=scale_attribute,
        tiny_config={**TINY, **tiny},
    )


LLAMA = llama_like("llama", attention_bias=True, mlp_bias=True)
MISTRAL = llama_like("mistral", "mistral", "ministral", sliding_window=8, head_dim=4)
QWEN2 = llama_like("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=2)
QWEN3 = llama_like("qwen3", head_dim=4, use_sliding_window=True, sliding_window=8, max_window_layers=2)
SMOLLM3 = llama_like("smollm3", no_rope_layer_interval=2)
OLMO = llama_like("olmo")
GRANITE = llama_like(
    "granite",
    scale_attribute="residual_multiplier",
    residual_multiplier=0.5,
    embedding_multiplier=2.0,
    logits_scaling=3.0,
    attention_multiplier=0.5,
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Llama, Mistral, Qwen2, Qwen3, SmolLM3, OLMo, Granite."""
    for adapter in (LLAMA, MISTRAL, QWEN2, QWEN3, SMOLLM3, OLMO, GRANITE):
        register(adapter)
