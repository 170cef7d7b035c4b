"""Verification: does a checkpoint reproduce the model in memory?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook.errors import CheckpointError

PROMPT_TOKENS = 16
NEW_TOKENS = 8


@torch.no_grad()
def verify_reload(model: PreTrainedModel, folder: Path) -> None:
    """Load ``folder`` into a fresh model and compare it with ``model``.

    Same logits (to one unit in the last place of the largest), and the same greedy tokens with and without cache.
    This catches what no static check of a config can: a list that was not sliced, a period that lies, a cache slot
    out of range.

    Raises:
        CheckpointError: weights are missing, or anything differs; names the folder, which is left as evidence.
    """
    fresh = _reload(model, folder)
    prompt = _prompt(model)
    ours, theirs = (m(input_ids=prompt, use_cache=False).logits.float() for m in (model, fresh))
    allowed = float(torch.finfo(model.dtype).eps * ours.abs().max())
    worst = float((ours - theirs).abs().max())
    if not worst <= allowed:  # also catches NaN
        raise CheckpointError(
            f"The reloaded checkpoint differs from the model in memory: logits by {worst:.3g} (allowed {allowed:.1g}). "
            f"It is left in {folder}. Please report the model type {model.config.model_type!r}."
        )
    for cached in (False, True):
        _compare_tokens(model, fresh, prompt, cached, folder)


def _reload(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=model.dtype,
            attn_implementation=model.config._attn_implementation,
            output_loading_info=True,
        )
    except Exception as error:  # whatever a loader raises, the user must hear that the checkpoint is not good
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"The checkpoint cannot be loaded again: {reason}. It is left in {folder}.") from error
    fresh, info = loaded  # a pair because of output_loading_info
    strange = sorted({*info["missing_keys"], *info["unexpected_keys"]} | {str(k) for k in info["mismatched_keys"]})
    if strange:
        raise CheckpointError(f"The reloaded checkpoint does not fit at {', '.join(strange)}. It is left in {folder}.")
    return cast(PreTrainedModel, fresh.to(model.device).eval())


def _prompt(model: PreTrainedModel) -> Tensor:
    """Two rows of fixed random tokens, ``[2, seq]``, short enough for the model's positions."""
    limit = getattr(model.config, "max_position_embeddings", None) or PROMPT_TOKENS + NEW_TOKENS
    length = max(2, min(PROMPT_TOKENS, limit - NEW_TOKENS))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (2, length), generator=generator).to(model.device)


def _compare_tokens(model: PreTrainedModel, fresh: PreTrainedModel, prompt: Tensor, cached: bool, folder: Path) -> None:
    where = "with" if cached else "without"
    try:
        ours, theirs = greedy(model, prompt, cached), greedy(fresh, prompt, cached)
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"Generation {where} cache fails: {type(error).__name__}: {error}. The checkpoint is left in {folder}."
        ) from error
    if not torch.equal(ours, theirs):
        raise CheckpointError(
            f"Greedy generation {where} cache differs between the model in memory and the reloaded checkpoint, which "
            f"is left in {folder}. Please report the model type {model.config.model_type!r}."
        )


def greedy(model: PreTrainedModel, prompt: Tensor, cached: bool) -> Tensor:
    """The ``NEW_TOKENS`` likeliest next tokens, one after another: ``[batch, seq]`` to ``[batch, NEW_TOKENS]``.

    A loop of its own rather than ``generate``: no defaults of a generation config, and both ways of decoding.
    """
    tokens, past, entering = prompt, None, prompt
    for _ in range(NEW_TOKENS):
        out = model(input_ids=entering, attention_mask=torch.ones_like(tokens), past_key_values=past, use_cache=cached)
        following = out.logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, following], dim=1)
        past, entering = (out.past_key_values, following) if cached else (None, tokens)
    return tokens[:, prompt.shape[1] :]
