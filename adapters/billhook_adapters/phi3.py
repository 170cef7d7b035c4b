"""Phi-3: Llama with fused query-key-value and gate-up projections."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Adapter, BranchLayout, DeclaredAdapter, hookimpl
from billhook_adapters.llama import TINY

PHI3 = DeclaredAdapter(
    name="phi3",
    model_types=("phi3",),
    layer_list="model.layers",
    attention=BranchLayout(writer="self_attn.o_proj", readers=("self_attn.qkv_proj",)),
    mlp=BranchLayout(writer="mlp.down_proj", readers=("mlp.gate_up_proj",)),
    tiny_config={**TINY, "original_max_position_embeddings": 64},
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Phi-3."""
    register(PHI3)
