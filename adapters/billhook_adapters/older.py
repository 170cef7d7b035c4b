"""Decoders of the years before Llama: GPT-BigCode (StarCoder), CTRL, MPT."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, hookimpl

TOKENS = {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
TINY = {**TOKENS, "n_embd": 16, "n_layer": 4, "n_head": 4, "n_positions": 64}

BIGCODE = DeclaredAdapter(
    name="gpt-bigcode",
    model_types=("gpt_bigcode",),
    layer_list="transformer.h",
    attention=BranchLayout(
        writer="attn.c_proj",
        readers=("attn.c_attn",),
        module="attn",
        alone=("ln_1",),
        sizes={"heads": "n_head"},
        counts={"attn.num_heads": "heads", "attn.kv_heads": "heads"},
        rigid=(Refused(attribute="multi_query", value=True, reason="all heads share one key-value head."),),
    ),
    mlp=BranchLayout(
        writer="mlp.c_proj", readers=("mlp.c_fc",), module="mlp", alone=("ln_2",), sizes={"channels": "n_inner"}
    ),
    tiny_config={**TINY, "n_inner": 24},
)
CTRL = DeclaredAdapter(
    name="ctrl",
    model_types=("ctrl",),
    layer_list="transformer.h",
    attention=BranchLayout(
        writer="multi_head_attention.dense",
        readers=("multi_head_attention.Wq", "multi_head_attention.Wk", "multi_head_attention.Wv"),
        module="multi_head_attention",
        alone=("layernorm1",),
        sizes={"heads": "n_head"},
    ),
    mlp=BranchLayout(
        writer="ffn.2", readers=("ffn.0",), module="ffn", alone=("layernorm2",), sizes={"channels": "dff"}
    ),
    tiny_config={**TINY, "dff": 24},
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """GPT-BigCode, CTRL."""
    for adapter in (BIGCODE, CTRL):
        register(adapter)
