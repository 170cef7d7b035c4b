"""OPT, BioGPT, XGLM: biases everywhere, and an MLP that lies in the layer itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from billhook import Adapter, BranchLayout, DeclaredAdapter, Refused, Size, hookimpl

OPT = DeclaredAdapter(
    name="opt",
    model_types=("opt",),
    layer_list="model.decoder.layers",
    attention=BranchLayout(
        writer="self_attn.out_proj",
        readers=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        module="self_attn",
        alone=("self_attn_layer_norm",),
        sizes={"heads": "num_attention_heads"},
        counts={"self_attn.num_heads": "heads"},
    ),
    mlp=BranchLayout(
        writer="fc2",
        readers=("fc1",),
        module="fc2",
        alone=("final_layer_norm", "fc1"),
        sizes={"channels": "ffn_dim"},
    ),
    refused=(
        Refused(
            attribute="do_layer_norm_before",
            value=False,
            reason="it normalises after the residual addition (OPT-350m), so no writer reaches the stream unchanged.",
        ),
    ),
    tiny_config={
        "vocab_size": 64,
        "hidden_size": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    },
)

TINY: Mapping[str, Any] = {
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
COUNTS: Mapping[str, Size] = {"self_attn.num_heads": "heads", "self_attn.embed_dim": "width"}

BIOGPT = DeclaredAdapter(
    name="biogpt",
    model_types=("biogpt",),
    layer_list="biogpt.layers",
    attention=attrs.evolve(OPT.attention, counts=COUNTS),
    mlp=attrs.evolve(OPT.mlp, sizes={"channels": "intermediate_size"}),
    tiny_config={
        **TINY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
)
XGLM = DeclaredAdapter(
    name="xglm",
    model_types=("xglm",),
    layer_list="model.layers",
    attention=attrs.evolve(OPT.attention, sizes={"heads": "attention_heads"}, counts=COUNTS),
    mlp=OPT.mlp,
    refused=(
        Refused(attribute="add_cross_attention", value=True, reason="it has a third branch, which reads an encoder."),
    ),
    tiny_config={**TINY, "d_model": 16, "ffn_dim": 24, "num_layers": 4, "attention_heads": 4},
)


@hookimpl
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """OPT, BioGPT, XGLM."""
    for adapter in (OPT, BIOGPT, XGLM):
        register(adapter)
