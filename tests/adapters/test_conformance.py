"""Every registered adapter keeps its promises, in each of the family's variants that change how layers are built."""

from __future__ import annotations

from typing import Any

import pytest
from tests.families import FIRST, every

from billhook.testing import check_adapter

ADAPTERS = {adapter.name: adapter for adapter in every()}

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"attention_bias": False, "mlp_bias": False}),
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"num_key_value_heads": 4}),
    ("llama", {"num_key_value_heads": 1}),
    ("llama", {"head_dim": 8}),
    ("qwen2", {"use_sliding_window": False}),
    ("qwen3", {"attention_bias": True}),
    ("smollm3", {"no_rope_layers": [1, 0, 0, 1]}),
    ("smollm3", {"use_sliding_window": True, "sliding_window": 8}),
    ("smollm3", {"attention_bias": True, "mlp_bias": True}),
    ("olmo", {"clip_qkv": 0.5, "attention_bias": True}),
    ("granite", {"mlp_bias": True, "attention_bias": True}),
    ("phi3", {"sliding_window": 8}),
    ("phi3", {"num_key_value_heads": 4, "attn_implementation": "eager"}),
    ("gpt2", {"scale_attn_weights": False}),
    ("gpt2", {"n_inner": None, "attn_implementation": "eager"}),
    ("gpt-neox", {"use_parallel_residual": False, "attention_bias": False}),
    ("falcon", {"new_decoder_architecture": False, "multi_query": True}),
    ("falcon", {"new_decoder_architecture": False, "parallel_attn": False, "alibi": True}),
    ("falcon", {"num_ln_in_parallel_attn": 1, "bias": False}),
    ("falcon", {"num_kv_heads": 4, "attn_implementation": "eager"}),
    ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("gemma2", {"attention_bias": True, "head_dim": 8}),
    ("gemma", {"tie_word_embeddings": False, "num_key_value_heads": 1}),
    ("ernie4-5", {"use_bias": False, "tie_word_embeddings": True}),
    ("seed-oss", {"attention_out_bias": False}),
    ("vaultgemma", {"attn_logit_softcapping": 5.0, "attn_implementation": "eager"}),
    ("nemotron", {"attention_bias": True, "mlp_bias": True}),
    ("starcoder2", {"use_bias": False, "sliding_window": 8}),
    ("stablelm", {"use_qkv_bias": True}),
    ("stablelm", {"qk_layernorm": True}),
    ("cohere", {"use_qk_norm": True, "attention_bias": True}),
    ("phi", {"qk_layernorm": True}),
    ("gptj", {"n_inner": None}),
    ("persimmon", {"qk_layernorm": False}),
    ("gpt-bigcode", {"multi_query": False}),
    ("gpt-bigcode", {"n_inner": None}),
    ("glm4", {"attention_bias": True}),
    ("gemma3", {"layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]}),
]


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_keeps_its_promises(name: str) -> None:
    check_adapter(ADAPTERS[name])


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        pytest.param(name, told, id=f"{name}-{told}", marks=() if name in FIRST else pytest.mark.families)
        for name, told in VARIANTS
        if name in ADAPTERS
    ],
)
def test_an_adapter_keeps_its_promises_in_a_variant(name: str, overrides: dict[str, Any]) -> None:
    check_adapter(ADAPTERS[name], **overrides)
