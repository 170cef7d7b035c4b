"""What transformers reports of a loading: whether every weight of the file went into the model, and back."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from billhook.errors import UnusableModel

NAMED = 3
"""Weights that a message names."""

HARMLESS = re.compile(r"(^|\.)(inv_freq|masked_bias|attn\.bias|attention\.bias|position_ids|_float_tensor)$")
"""What older versions of the families wrote beside their weights, and compute anew now: tables and masks."""

_QUANTISED = re.compile(
    r"(_scale|_scale_inv|scales|scale|_zero_point|_zeros|_packed|qweight|g_idx|absmax|quant_map|SCB|_format|_scale_2)$"
)
_ADAPTER = re.compile(r"(^|\.)(lora_\w+|base_layer|modules_to_save)(\.|$)")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks?|blk)\.(\d+)\.")


def refuse_incomplete(name: str, model: PreTrainedModel, info: Mapping[str, Any], kind: str = "checkpoint") -> None:
    """Turn away a file whose weights are not those of ``model``, which was loaded from it.

    transformers fills up with random numbers what is missing or of another shape, drops what it does not know, and
    goes on.

    Args:
        name: what the user called it.
        model: as it was loaded.
        info: its report: missing, unexpected and mismatched keys.
        kind: how to call the file.

    Raises:
        UnusableModel: names the first weights, and says what they are.
    """
    missing = sorted(info.get("missing_keys") or ())
    unknown = unexpected(model, info.get("unexpected_keys") or ())
    if kind == "checkpoint" and unknown and (what := _what_they_are(model, unknown)):
        raise UnusableModel(f"The {kind} {name} {what}")
    if missing:
        raise UnusableModel(
            f"The {kind} {name} is damaged: it lacks {missing[0]}"
            + (f" and {len(missing) - 1} more weights" if missing[1:] else "")
            + (f", and holds {_some(unknown)}, which a {_class(model)} does not have" if unknown else "")
            + "."
        )
    if mismatched := sorted(info.get("mismatched_keys") or (), key=str):
        refuse_mismatched(name, mismatched, kind)
    if unknown:
        raise UnusableModel(
            f"The {kind} {name} holds weights that a {_class(model)} does not have, and that would be lost: "
            f"{_some(unknown)}. Its config belongs to another model, or the class is not the one that wrote it."
        )


def refuse_mismatched(name: str, mismatched: Sequence[Sequence[Any]], kind: str = "checkpoint") -> None:
    """Raise :class:`UnusableModel` that names the first weight, its shape in the file, and that of the config."""
    weight, there, wanted = mismatched[0]
    raise UnusableModel(
        f"The {kind} {name} is not of its config's sizes: {weight} is {list(there)}, and the config asks for "
        f"{list(wanted)}"
        + (f"; {len(mismatched) - 1} more weights differ, too" if mismatched[1:] else "")
        + ". A model that another tool made narrower has to come with a config that says so."
    )


def unexpected(model: PreTrainedModel, keys: Iterable[str]) -> list[str]:
    """Of the weights that the class does not know, those that mean something; in order."""
    computed = {path.rpartition(".")[2] for path, _ in model.named_buffers()} - {"weight", "bias"}
    return sorted(key for key in keys if not HARMLESS.search(key) and key.rpartition(".")[2] not in computed)


def _what_they_are(model: PreTrainedModel, unknown: Collection[str]) -> str | None:
    """The end of a sentence on weights without a place, where their names tell what they are."""
    if adapters := [key for key in unknown if _ADAPTER.search(key)]:
        return f"holds LoRA adapters ({_some(adapters)}): merge them first (model.merge_and_unload()), and save that."
    if scales := [key for key in unknown if _QUANTISED.search(key)]:
        return (
            f"is quantised, though its config does not say so: {_some(scales)} beside its weights would be ignored. "
            f"Load the original checkpoint, prune it, and quantise the result."
        )
    count = getattr(model.config, "num_hidden_layers", None)
    beyond = [key for key in unknown if (n := _LAYER.search(key)) and count is not None and int(n[1]) >= count]
    if beyond:
        return f"has more layers than its config says (num_hidden_layers {count}): {_some(beyond)} would be lost."
    prefix = f"{model.base_model_prefix}."
    heads = [key for key in unknown if not key.startswith(prefix) and not _LAYER.search(key)]
    if heads and len(heads) == len(unknown):
        wrote = next(iter(getattr(model.config, "architectures", None) or ()), None)
        named = f"a {wrote}" if wrote and wrote != _class(model) else "a model with another head"
        return (
            f"is that of {named}: its head ({_some(heads)}) would be lost. Only causal language models can be pruned."
        )
    return None


def _class(model: PreTrainedModel) -> str:
    return type(model).__name__


def _some(names: Collection[str]) -> str:
    first = list(names)[:NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
