"""GPT-NeoX and Pythia: attention and MLP read the same stream, side by side."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Adapter, BranchLayout, DeclaredAdapter, hookimpl

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


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """GPT-NeoX."""
    register(GPT_NEOX)
