"""Multi-head latent attention: queries, keys and values are made of latent numbers, in which no head has a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from billhook import Adapter, Refused, hookimpl
from billhook_adapters.llama import ATTENTION, llama_like

LATENT = attrs.evolve(
    ATTENTION,
    readers=("self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"),
    sizes={"heads": "num_attention_heads"},
    rigid=(Refused(reason="the layers that read the stream write latent numbers, of which no head has its own."),),
)
TINY: Mapping[str, Any] = {
    "pad_token_id": None,  # transformers sets its embedding to zero when a model of this family is read
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 4,
    "v_head_dim": 4,
}

YOUTU = llama_like("youtu", attention=LATENT, tie_word_embeddings=False, **TINY)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Youtu."""
    register(YOUTU)
