"""Families with a norm between writer and stream. Maps cannot be folded there; the merger ``insert`` can serve them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from billhook import Adapter, DeclaredAdapter, hookimpl
from billhook_adapters.llama import ATTENTION, MLP, TINY


def post_norm(name: str, *model_types: str, attention: str, mlp: str, **tiny: Any) -> DeclaredAdapter:
    """Llama's module names, with the norms ``attention`` and ``mlp`` after the two writers."""
    return DeclaredAdapter(
        name=name,
        model_types=model_types or (name,),
        layer_list="model.layers",
        attention=attrs.evolve(ATTENTION, norm_after=attention),
        mlp=attrs.evolve(MLP, norm_after=mlp),
        tiny_config={**TINY, **tiny},
    )


NORMS = {"attention": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}

GEMMA2 = post_norm("gemma2", **NORMS, head_dim=4, sliding_window=8)
GEMMA3 = post_norm("gemma3", "gemma3_text", **NORMS, head_dim=4, sliding_window=8, sliding_window_pattern=2)
OLMO2 = post_norm("olmo2", **NORMS)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Gemma 2, Gemma 3 (text), OLMo 2."""
    for adapter in (GEMMA2, GEMMA3, OLMO2):
        register(adapter)
