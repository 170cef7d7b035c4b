"""Llama, and the families that build their layers the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

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


SLIDING, FULL = "sliding_attention", "full_attention"
ROPE: Mapping[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}
YARN: Mapping[str, Any] = {
    **ROPE,
    "rope_type": "yarn",
    "factor": 2.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 16,
}


def llama_like(
    name: str,
    *model_types: str,
    attention: BranchLayout = ATTENTION,
    mlp: BranchLayout = MLP,
    scale_attribute: str | None = None,
    **tiny: Any,
) -> DeclaredAdapter:
    """An adapter for a family with Llama's module names; ``tiny`` adds to :data:`TINY`."""
    return DeclaredAdapter(
        name=name,
        model_types=model_types or (name,),
        layer_list="model.layers",
        attention=attention,
        mlp=mlp,
        scale_attribute=scale_attribute,
        tiny_config={**TINY, **tiny},
    )


LLAMA = llama_like("llama", attention_bias=True, mlp_bias=True)
MISTRAL = llama_like("mistral", "mistral", "ministral", sliding_window=8, head_dim=4)
GRANITE = llama_like(
    "granite",
    scale_attribute="residual_multiplier",
    residual_multiplier=0.5,
    embedding_multiplier=2.0,
    logits_scaling=3.0,
    attention_multiplier=0.5,
)
FAMILIES = (
    LLAMA,
    MISTRAL,
    GRANITE,
    llama_like("ministral3", head_dim=8, rope_parameters=YARN),
    llama_like("qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=2),
    llama_like("qwen3", head_dim=4, use_sliding_window=True, sliding_window=8, max_window_layers=2),
    llama_like("smollm3", no_rope_layer_interval=2),
    llama_like("olmo"),
    llama_like(
        "granite-swa",
        "granite_swa",
        attention=attrs.evolve(ATTENTION, per_head={"self_attn.sinks": "q"}),
        scale_attribute="residual_multiplier",
        residual_multiplier=0.5,
        attention_multiplier=0.5,
        sliding_window=8,
        layer_types=[SLIDING, FULL, SLIDING, FULL],
    ),
    llama_like("gemma", head_dim=8),
    llama_like(
        "vaultgemma",
        mlp=attrs.evolve(MLP, alone=("pre_feedforward_layernorm",)),
        head_dim=8,
        sliding_window=8,
        layer_types=[SLIDING, FULL, SLIDING, FULL],
    ),
    llama_like("cwm", head_dim=8, rope_parameters=ROPE, layer_types=[FULL, SLIDING] * 2, sliding_window=8),
    llama_like("ernie4-5", "ernie4_5", use_bias=True, head_dim=8),
    llama_like("seed-oss", "seed_oss", head_dim=8, attention_bias=True, attention_out_bias=True, mlp_bias=True),
    llama_like("helium", head_dim=4),
    llama_like("hunyuan", "hunyuan_v1_dense", head_dim=8),
    llama_like("internlm3"),
    llama_like("iquestcoder"),
)
"""Llama's own module names; what is said beside the name is for the tests' tiny model, or a part more."""


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Llama, and what has its layers under another name."""
    for adapter in FAMILIES:
        register(adapter)
