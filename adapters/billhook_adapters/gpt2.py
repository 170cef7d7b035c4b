"""GPT-2: Conv1D weights, which are stored transposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, hookimpl

TINY: Mapping[str, Any] = {
    "vocab_size": 64,
    "n_embd": 16,
    "n_inner": 24,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Config arguments with the names of GPT-2, which families of its years share."""

GPT2 = DeclaredAdapter(
    name="gpt2",
    model_types=("gpt2",),
    layer_list="transformer.h",
    attention=BranchLayout(
        writer="attn.c_proj",
        readers=("attn.c_attn",),
        module="attn",
        alone=("ln_1",),
        stacked={"attn.c_attn": ("q", "k", "v")},
        sizes={"heads": "n_head"},
        counts={"attn.num_heads": "heads", "attn.split_size": "width"},
    ),
    mlp=BranchLayout(
        writer="mlp.c_proj", readers=("mlp.c_fc",), module="mlp", alone=("ln_2",), sizes={"channels": "n_inner"}
    ),
    refused=(
        Refused(
            attribute="scale_attn_by_inverse_layer_idx",
            value=True,
            reason="attention is scaled by the layer's number, so renumbered layers would compute something else.",
        ),
        Refused(
            attribute="add_cross_attention",
            value=True,
            reason="layers then read an encoder as well; only decoder-only models are served.",
        ),
    ),
    tiny_config=TINY,
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """GPT-2."""
    register(GPT2)
