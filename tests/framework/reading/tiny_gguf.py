"""A tiny Llama as a GGUF file, in the layout that llama.cpp's converter writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from billhook.testing import tiny_model

Tensors = dict[str, NDArray[np.float32]]

_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def tiny_llama(**config: Any) -> PreTrainedModel:
    """Without biases, which GGUF's Llamas do not have."""
    return tiny_model("llama", attention_bias=False, mlp_bias=False, **config)


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    change: Callable[[Tensors], Tensors] = lambda tensors: tensors,
    architecture: str = "llama",
    **scalars: int,
) -> Path:
    """Write ``model``, a Llama, to ``file``; ``change`` alters its tensors before, ``scalars`` its metadata."""
    config = model.config
    writer = GGUFWriter(file, architecture)
    counts = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": config.head_dim,
        "vocab_size": config.vocab_size,
    }
    for key, value in {**counts, **scalars}.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32("llama.rope.freq_base", config.rope_parameters["rope_theta"])
    _add_words(writer, config.vocab_size)
    for name, values in change(_tensors(model)).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_words(writer: GGUFWriter, count: int) -> None:
    """A vocabulary of letters, as byte-level BPE; with two merges, since older transformers read one as a text."""
    letters = ["<unk>", *(chr(ord("!") + n) for n in range(count - 3)), "!!", "##"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(letters)
    writer.add_token_merges(["! !", "# #"])
    writer.add_token_types([1] * count)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


def _tensors(model: PreTrainedModel) -> Tensors:
    """By GGUF's name: every weight; those of queries and keys in the order that GGUF has rotary pairs in."""
    heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
    found: Tensors = {}
    for name, weight in model.state_dict().items():
        path = name.removesuffix(".weight")
        if path in _WHOLE:
            found[f"{_WHOLE[path]}.weight"] = weight.numpy()
            continue
        _, _, number, part = path.split(".", 3)
        called = _PARTS[part]
        ordered = _pairs_side_by_side(weight, heads[called]) if called in heads else weight
        found[f"blk.{number}.{called}.weight"] = ordered.contiguous().numpy()
    return found


def _pairs_side_by_side(weight: Tensor, heads: int) -> Tensor:
    """As llama.cpp's ``permute``: ``[heads, 2, half, d]`` to ``[heads, half, 2, d]``."""
    halves = weight.reshape(heads, 2, -1, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def without(*names: str) -> Callable[[Tensors], Tensors]:
    """A change that takes tensors out."""
    return lambda tensors: {name: values for name, values in tensors.items() if name not in names}


def renamed(names: Mapping[str, str]) -> Callable[[Tensors], Tensors]:
    """A change that calls tensors something else."""
    return lambda tensors: {names.get(name, name): values for name, values in tensors.items()}


def also(**more: Tensor) -> Callable[[Tensors], Tensors]:
    """A change that adds tensors; ``__`` in a name stands for a dot."""
    added = {name.replace("__", "."): values.to(torch.float32).numpy() for name, values in more.items()}
    return lambda tensors: {**tensors, **added}
