"""BitNet: norms before the writers, over all heads and over all channels."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, Refused, hookimpl
from billhook_adapters.llama import ATTENTION, MLP, llama_like

BITNET = llama_like(
    "bitnet",
    attention=attrs.evolve(
        ATTENTION,
        alone=("input_layernorm", "self_attn.attn_sub_norm"),
        rigid=(Refused(reason="a norm over all heads together stands before the writer."),),
    ),
    mlp=attrs.evolve(MLP, rigid=(Refused(reason="a norm over all channels together stands before the writer."),)),
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """BitNet."""
    register(BITNET)
