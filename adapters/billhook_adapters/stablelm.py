"""StableLM: Llama's layer with a partial rotary embedding, and norms of each head in some models."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, Refused, hookimpl
from billhook_adapters.llama import ATTENTION, llama_like

STABLELM = attrs.evolve(
    llama_like(
        "stablelm",
        attention=attrs.evolve(
            ATTENTION,
            counts={
                "self_attn.num_heads": "heads",
                "self_attn.num_key_value_heads": "key_value_heads",
                "self_attn.hidden_size": "width",
            },
            rigid=(Refused(attribute="qk_layernorm", value=True, reason="every head has a norm of its own."),),
        ),
        partial_rotary_factor=0.5,
    ),
    refused=(
        Refused(
            attribute="use_parallel_residual",
            value=True,
            reason="both branches read one norm there, and a layer has two otherwise.",
        ),
    ),
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """StableLM."""
    register(STABLELM)
