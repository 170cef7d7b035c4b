"""GPT-NeoX and Pythia: attention and MLP read the same stream, side by side. Persimmon has its names."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, BranchLayout, DeclaredAdapter, hookimpl
from billhook_adapters.llama import TINY

GPT_NEOX = DeclaredAdapter(
    name="gpt-neox",
    model_types=("gpt_neox",),
    layer_list="gpt_neox.layers",
    attention=BranchLayout(
        writer="attention.dense",
        readers=("attention.query_key_value",),
        module="attention",
        alone=("input_layernorm",),
        sizes={"heads": "num_attention_heads"},
    ),
    mlp=BranchLayout(
        writer="mlp.dense_4h_to_h",
        readers=("mlp.dense_h_to_4h",),
        module="mlp",
        alone=("post_attention_layernorm",),
        sizes={"channels": "intermediate_size"},
    ),
    tiny_config={
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "use_parallel_residual": True,
    },
)

PERSIMMON = DeclaredAdapter(
    name="persimmon",
    model_types=("persimmon",),
    layer_list="model.layers",
    attention=attrs.evolve(
        GPT_NEOX.attention,
        writer="self_attn.dense",
        readers=("self_attn.query_key_value",),
        module="self_attn",
        counts={"self_attn.num_heads": "heads"},
    ),
    mlp=GPT_NEOX.mlp,
    tiny_config={name: value for name, value in TINY.items() if name != "num_key_value_heads"},
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """GPT-NeoX, Persimmon."""
    register(GPT_NEOX)
    register(PERSIMMON)
