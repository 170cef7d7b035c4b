"""Attention and MLP read one normed stream, side by side: Cohere's Command, Phi, GPT-J, CodeGen."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, hookimpl
from billhook_adapters.gpt2 import TINY
from billhook_adapters.llama import ATTENTION, MLP, llama_like

COHERE = llama_like(
    "cohere",
    "cohere",
    "cohere2",
    attention=attrs.evolve(
        ATTENTION, alone=(), per_head={"self_attn.q_norm.weight": "q", "self_attn.k_norm.weight": "k"}
    ),
    mlp=attrs.evolve(MLP, alone=()),
    logit_scale=0.25,
)
PHI = llama_like(
    "phi",
    attention=attrs.evolve(ATTENTION, writer="self_attn.dense", alone=()),
    mlp=attrs.evolve(MLP, writer="mlp.fc2", readers=("mlp.fc1",), alone=()),
    partial_rotary_factor=0.5,
)
GPTJ = DeclaredAdapter(
    name="gptj",
    model_types=("gptj",),
    layer_list="transformer.h",
    attention=BranchLayout(
        writer="attn.out_proj",
        readers=("attn.q_proj", "attn.k_proj", "attn.v_proj"),
        module="attn",
        sizes={"heads": "n_head"},
    ),
    mlp=BranchLayout(writer="mlp.fc_out", readers=("mlp.fc_in",), module="mlp", sizes={"channels": "n_inner"}),
    tiny_config={**TINY, "rotary_dim": 2},
)
CODEGEN = attrs.evolve(
    GPTJ,
    name="codegen",
    model_types=("codegen",),
    attention=attrs.evolve(
        GPTJ.attention,
        readers=("attn.qkv_proj",),
        rigid=(Refused(reason="the fused projection is laid out for four devices, across heads."),),
    ),
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Cohere, Cohere 2, Phi, GPT-J, CodeGen."""
    for adapter in (COHERE, PHI, GPTJ, CODEGEN):
        register(adapter)
