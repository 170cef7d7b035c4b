"""Falcon: parallel branches, and layers that return a tuple."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, hookimpl

FALCON = DeclaredAdapter(
    name="falcon",
    model_types=("falcon",),
    layer_list="transformer.h",
    # Each branch has a norm of its own in some configs; in others both read the same one, which goes with neither.
    attention=BranchLayout(
        writer="self_attention.dense",
        readers=("self_attention.query_key_value",),
        module="self_attention",
        alone=("ln_attn",),
        sizes={"heads": "num_attention_heads", "key_value_heads": "num_kv_heads"},
        counts={"self_attention.num_heads": "heads", "self_attention.num_kv_heads": "key_value_heads"},
        rigid=(
            Refused(
                attribute="new_decoder_architecture",
                value=False,
                reason="the older decoder architecture has no groups of heads that could go by themselves.",
            ),
            Refused(attribute="alibi", value=True, reason="the position biases (ALiBi) belong to the number of heads."),
        ),
    ),
    mlp=BranchLayout(
        writer="mlp.dense_4h_to_h",
        readers=("mlp.dense_h_to_4h",),
        module="mlp",
        alone=("ln_mlp",),
        sizes={"channels": "ffn_hidden_size"},
    ),
    returns_tuple=True,
    tiny_config={
        "vocab_size": 64,
        "hidden_size": 16,
        "ffn_hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "new_decoder_architecture": True,
        "bias": True,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Falcon."""
    register(FALCON)
