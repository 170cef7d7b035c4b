"""Key-value caches: what a model keeps of the tokens that it has read, by whatever name its transformers calls it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def read_on(model: PreTrainedModel, ids: Tensor, cache: Any, **options: Any) -> tuple[Any, Any]:
    """Call ``model`` on more tokens, behind those that it has read already.

    Args:
        model: a causal language model.
        ids: the new tokens, ``[batch, new]``.
        cache: of the tokens before; None at the beginning.
        options: further arguments of the model, such as ``attention_mask``.

    Returns:
        The model's output, and the cache of all tokens so far; None if the model was told to keep none.
    """
    out = model(input_ids=ids, **{cache_name(model): cache}, **options)
    return out, cache_of(out)


def cache_name(model: PreTrainedModel) -> str:
    """What ``model`` calls the cache among its arguments: ``cache`` since transformers 5.24, else ``past_key_values``.

    The model is asked, not the version: code that comes with a checkpoint keeps the name it was written with.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def cache_of(out: Any) -> Any:
    """The cache in a model's output, by the newer name if it has that; the older one is deprecated there."""
    return out.cache if hasattr(out, "cache") else out.past_key_values
