"""Decoders of the years before Llama: GPT-BigCode (StarCoder), CTRL."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, hookimpl
from billhook_adapters.gpt2 import GPT2, TINY

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
    mlp=GPT2.mlp,
    tiny_config=TINY,
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
