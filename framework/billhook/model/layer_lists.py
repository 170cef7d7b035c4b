"""What a config says layer by layer, and how it changes when layers go.

transformers has no one place for this; the families' habits are listed here. What is missed here is caught by
the comparison after every save (``billhook.results.checkpoint``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig

from billhook.errors import InvalidCut
from billhook.log import logger

LISTS = (
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "no_rope_layers",
    "indexer_types",
    "layer_rope_theta",
    "num_attention_heads_per_layer",
    "num_key_value_heads_per_layer",
    "activation_sparsity_pattern",
)
"""Attributes with one entry a layer: the entries of the lost layers go."""

INDICES = (
    "moe_layers",
    "mlp_only_layers",
    "full_attn_idxs",
    "attn_layer_indices",
    "local_layer_ids",
    "cross_attention_layers",
)
"""Attributes that list layer numbers: they are renumbered."""

THRESHOLDS = ("first_k_dense_replace",)
"""Attributes that say "the first k layers": recounted."""

PERIODS = {
    "decoder_sparse_step": None,
    "attn_layer_period": None,
    "expert_layer_period": None,
    "interleave_moe_layer_step": "moe_layers",
    "sliding_window_pattern": "layer_types",
    "full_attention_interval": "layer_types",
    "no_rope_layer_interval": "no_rope_layers",
}
"""Attributes that say "every k-th layer", and the explicit list that overrules each, if the family has one."""


def shortened(config: PreTrainedConfig, kept: Sequence[int]) -> dict[str, Any]:
    """The attributes to change so that ``config`` describes only the layers ``kept`` (present positions).

    Raises:
        InvalidCut: a period cannot express the gap and the family has no explicit list instead, or the
            config class refuses the result.
    """
    count = config.num_hidden_layers
    _refuse_periods(config, kept)
    changes: dict[str, Any] = {"num_hidden_layers": len(kept)}
    for name in LISTS:
        value = getattr(config, name, None)
        if isinstance(value, list | tuple) and len(value) == count:
            changes[name] = [value[i] for i in kept]
    for name in INDICES:
        value = getattr(config, name, None)
        if isinstance(value, list | tuple):
            changes[name] = [new for new, old in enumerate(kept) if old in value]
    for name in THRESHOLDS:
        value = getattr(config, name, None)
        if isinstance(value, int):
            changes[name] = sum(1 for i in kept if i < value)
    _name_unknown_lists(config, count)
    _try_on_a_copy(config, changes)
    return changes


def assign(config: PreTrainedConfig, changes: dict[str, Any]) -> None:
    """Make the changes; ``config`` stays the same object, since all submodules hold it."""
    for name, value in changes.items():
        # object.__setattr__ on purpose: some config classes validate on every assignment, and the list and the
        # count can only change together. _try_on_a_copy has validated the whole.
        object.__setattr__(config, config.attribute_map.get(name, name), value)


def _refuse_periods(config: PreTrainedConfig, kept: Sequence[int]) -> None:
    if list(kept) == list(range(len(kept))):
        return  # only the last layers went: every period still says the same
    for name, explicit in PERIODS.items():
        period = getattr(config, name, None)
        if isinstance(period, int) and period > 1 and not (explicit and getattr(config, explicit, None)):
            raise InvalidCut(
                f"{config.model_type} describes its layers by {name}={period}, which cannot express a gap. "
                f"Drop the last layers only, or whole periods by hand."
            )


def _name_unknown_lists(config: PreTrainedConfig, count: int) -> None:
    known = {*LISTS, *INDICES}
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == count and name not in known and not name.endswith("token_id"):
            logger.warning(
                "config.{} has one entry for each layer by its length; it is left as it is. If it belongs to the "
                "layers, the comparison after saving will fail.",
                name,
            )


def _try_on_a_copy(config: PreTrainedConfig, changes: dict[str, Any]) -> None:
    trial = copy.deepcopy(config)
    assign(trial, changes)
    try:
        type(config).from_dict(trial.to_dict())
    except Exception as error:  # config classes raise errors of many kinds, strict-dataclass ones among them
        raise InvalidCut(f"{config.model_type}'s config refuses {len(changes)} changed fields: {error}") from error
