"""Families with a norm between writer and stream: Gemma 2 and 3, OLMo 2 and 3, EXAONE 4, GLM-4.

Maps cannot be folded there; the merger ``insert`` can serve them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from billhook import Adapter, DeclaredAdapter, Refused, hookimpl
from billhook_adapters.llama import ATTENTION, FULL, MLP, SLIDING, TINY, llama_like
from billhook_adapters.phi3 import PHI3


def post_norm(
    name: str,
    *model_types: str,
    attention: str,
    mlp: str,
    before: tuple[str, ...],
    rigid: tuple[Refused, ...] = (),
    refused: tuple[Refused, ...] = (),
    **tiny: Any,
) -> DeclaredAdapter:
    """Llama's module names, with norms ``attention`` and ``mlp`` after the writers, and ``before`` the branches."""
    return DeclaredAdapter(
        name=name,
        model_types=model_types or (name,),
        layer_list="model.layers",
        attention=attrs.evolve(ATTENTION, norm_after=attention, alone=before[:1], rigid=rigid),
        mlp=attrs.evolve(MLP, norm_after=mlp, alone=before[1:]),
        refused=refused,
        tiny_config={**TINY, **tiny},
    )


AFTER: Any = {"attention": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
BEFORE = ("input_layernorm", "pre_feedforward_layernorm")
WHOLE_NORMS = Refused(reason="queries and keys are normalised over all heads together.")
BOTH_WAYS = Refused(
    attribute="use_bidirectional_attention",
    value=True,
    reason="its tokens see those after them, so that it is no causal language model (EmbeddingGemma).",
)

GEMMA2 = post_norm("gemma2", **AFTER, before=BEFORE, head_dim=4, sliding_window=8)
GEMMA3 = post_norm(
    "gemma3",
    "gemma3_text",
    **AFTER,
    before=BEFORE,
    refused=(BOTH_WAYS,),
    head_dim=4,
    sliding_window=8,
    sliding_window_pattern=2,
)
OLMO2 = post_norm("olmo2", **AFTER, before=(), rigid=(WHOLE_NORMS,))
OLMO3 = post_norm(
    "olmo3", **AFTER, before=(), rigid=(WHOLE_NORMS,), layer_types=[SLIDING, FULL, SLIDING, FULL], sliding_window=8
)
EXAONE4 = post_norm(
    "exaone4",
    **AFTER,
    before=(),
    head_dim=8,
    layer_types=[SLIDING, FULL, SLIDING, FULL],
    sliding_window=8,
    sliding_window_pattern=None,
)
GLM4 = llama_like(
    "glm4",
    attention=attrs.evolve(ATTENTION, norm_after="post_self_attn_layernorm"),
    mlp=attrs.evolve(PHI3.mlp, norm_after="post_mlp_layernorm"),
    head_dim=8,
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Gemma 2, Gemma 3 (text), OLMo 2 and 3, EXAONE 4, GLM-4."""
    for adapter in (GEMMA2, GEMMA3, OLMO2, OLMO3, EXAONE4, GLM4):
        register(adapter)
