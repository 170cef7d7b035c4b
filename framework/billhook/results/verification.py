"""Verification: does a checkpoint reproduce the model in memory?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, StaticCache

from billhook.data.tokens import TokenBatch
from billhook.errors import CheckpointError, NotFinite, first_line, is_out_of_memory
from billhook.heterogeneous.configuration_billhook import is_known
from billhook.heterogeneous.family import is_heterogeneous
from billhook.log import logger
from billhook.model.key_values import read_on
from billhook.model.writer import all_finite

PROMPT_TOKENS = 16
NEW_TOKENS = 8

CacheKind = Literal["no", "a dynamic", "a static"]


@torch.no_grad()
def verify_reload(model: PreTrainedModel, folder: Path) -> None:
    """Load ``folder`` into a fresh model and compare it with ``model``.

    Same logits (to one unit in the last place of the largest), and the same greedy tokens without cache, with a
    dynamic and with a static one; on two rows, one of them padded on the left. This catches what no static check of a
    config can: a list that was not sliced, a period that lies, a cache slot out of range.

    Raises:
        CheckpointError: weights are missing, or anything differs; names the folder, which is left as evidence.
    """
    fresh = _reload(model, folder)
    prompt = _prompt(model)
    worst, largest = _difference(model, fresh, prompt)
    allowed = float(torch.finfo(model.dtype).eps * largest)
    if not worst <= allowed:  # also catches NaN
        raise CheckpointError(
            f"The reloaded checkpoint differs from the model in memory: logits by {worst:.3g} (allowed {allowed:.1g}). "
            f"It is left in {folder}. Please report the model type {model.config.model_type!r}."
        )
    # the flag by which families say that their code can work on tensors of fixed sizes
    static: tuple[CacheKind, ...] = ("a static",) if getattr(model, "_can_compile_fullgraph", False) else ()
    for cache in ("no", "a dynamic", *static):
        _compare_tokens(model, fresh, prompt, cache, folder)


@torch.no_grad()
def verify_same(model: PreTrainedModel, other: PreTrainedModel, what: str) -> None:
    """Raise :class:`CheckpointError` unless ``other``, called ``what``, computes the same up to rounding.

    Its sums may come in another order, so half of the dtype's digits must agree, relative to the largest logit.
    """
    worst, largest = _difference(model, other, _prompt(model))
    allowed = float(torch.finfo(model.dtype).eps ** 0.5 * largest)
    if not worst <= allowed:
        raise CheckpointError(
            f"{what} differs from the model in memory: logits by {worst:.3g} (allowed {allowed:.1g}); nothing was "
            f"written. Please report the model type {model.config.model_type!r}."
        )


@torch.no_grad()
def refuse_not_finite(model: PreTrainedModel) -> None:
    """Raise :class:`NotFinite` for a model whose logits are NaN or infinite: no checkpoint of it can be compared."""
    prompt = _prompt(model)
    logits = model(input_ids=prompt.ids, attention_mask=prompt.keep.long(), use_cache=False).logits[prompt.keep]
    if not all_finite(logits):
        raise NotFinite("The pruned model's logits are")


def _difference(model: PreTrainedModel, other: PreTrainedModel, prompt: TokenBatch) -> tuple[float, float]:
    """How far the logits of the two are apart at most, and the largest of ``model``'s; padding left out."""
    ours, theirs = (
        m(input_ids=prompt.ids, attention_mask=prompt.keep.long(), use_cache=False).logits[prompt.keep].float()
        for m in (model, other)
    )
    return float((ours - theirs).abs().max()), float(ours.abs().max())


def _reload(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    try:
        loaded: Any = _loader(model).from_pretrained(
            folder,
            dtype=model.dtype,
            attn_implementation=model.config._attn_implementation,
            output_loading_info=True,
            trust_remote_code=False,  # the code that counts is the installed one, not the copy beside the weights
        )
    except Exception as error:  # whatever a loader raises, the user must hear that the checkpoint is not good
        if is_out_of_memory(error):  # which says nothing of the checkpoint
            raise
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"The checkpoint cannot be loaded again: {reason}. It is left in {folder}.") from error
    fresh, info = loaded  # a pair because of output_loading_info
    strange = sorted({*info["missing_keys"], *info["unexpected_keys"]} | {str(k) for k in info["mismatched_keys"]})
    if strange:
        raise CheckpointError(f"The reloaded checkpoint does not fit at {', '.join(strange)}. It is left in {folder}.")
    return cast(PreTrainedModel, fresh.to(model.device).eval())


def _loader(model: PreTrainedModel) -> Any:
    """What reads the checkpoint: as users do, or the class in memory where the files beside the weights hold it.

    Those are code, which is not run; transformers has no class of its own then.
    """
    known = is_heterogeneous(model) or is_known(model.config.model_type)
    return AutoModelForCausalLM if known else type(model)


def _prompt(model: PreTrainedModel) -> TokenBatch:
    """Two rows of fixed random tokens, ``[2, seq]``, short enough for the model's positions; one padded on the left."""
    limit = getattr(model.config, "max_position_embeddings", None) or PROMPT_TOKENS + NEW_TOKENS
    length = max(2, min(PROMPT_TOKENS, limit - NEW_TOKENS))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (2, length), generator=generator)
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[1, : -(-length // 4)] = False
    return TokenBatch(ids, keep).to(model.device)


def _compare_tokens(
    model: PreTrainedModel, fresh: PreTrainedModel, prompt: TokenBatch, cache: CacheKind, folder: Path
) -> None:
    ours = _own_tokens(model, prompt, cache, folder)
    if ours is None:
        return
    try:
        theirs = greedy(fresh, prompt, cache)
    except _BREAKS as error:
        if is_out_of_memory(error):
            raise
        raise _failing(error, cache, folder) from error
    if not torch.equal(ours, theirs):
        raise CheckpointError(
            f"Greedy generation with {cache} cache differs between the model in memory and the reloaded checkpoint, "
            f"which is left in {folder}. Please report the model type {model.config.model_type!r}."
        )


_BREAKS = (IndexError, KeyError, RuntimeError, ValueError)
"""What a cache raises that has another shape than a model's code thinks."""


def _own_tokens(model: PreTrainedModel, prompt: TokenBatch, cache: CacheKind, folder: Path) -> Tensor | None:
    """What the model in memory generates; None where that fails with a static cache, as some dense models do."""
    try:
        return greedy(model, prompt, cache)
    except _BREAKS as error:
        if is_out_of_memory(error):
            raise
        if cache != "a static":
            raise _failing(error, cache, folder) from error
        logger.warning(
            "The model in memory cannot generate with a static cache ({}: {}); the checkpoint is compared without.",
            type(error).__name__,
            first_line(error),
        )
        return None


def _failing(error: Exception, cache: CacheKind, folder: Path) -> CheckpointError:
    return CheckpointError(
        f"Generation with {cache} cache fails: {type(error).__name__}: {error}. The checkpoint is left in {folder}."
    )


def greedy(model: PreTrainedModel, prompt: TokenBatch, cache: CacheKind) -> Tensor:
    """The ``NEW_TOKENS`` likeliest next tokens, one after another: ``[batch, seq]`` to ``[batch, NEW_TOKENS]``.

    A loop of its own rather than ``generate``: no defaults of a generation config, and all ways of decoding.
    """
    tokens, mask, entering = prompt.ids, prompt.keep.long(), prompt.ids
    past = _static_cache(model, prompt) if cache == "a static" else None
    for _ in range(NEW_TOKENS):
        out, filled = read_on(model, entering, past, attention_mask=mask, use_cache=cache != "no")
        following = out.logits[:, -1:].argmax(-1)
        tokens, mask = (torch.cat([t, new], dim=1) for t, new in ((tokens, following), (mask, mask[:, -1:])))
        past, entering = (None, tokens) if cache == "no" else (filled, following)
    return tokens[:, prompt.ids.shape[1] :]


def _static_cache(model: PreTrainedModel, prompt: TokenBatch) -> StaticCache:
    return StaticCache(model.config.get_text_config(decoder=True), max_cache_len=prompt.ids.shape[1] + NEW_TOKENS)
