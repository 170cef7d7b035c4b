"""Variants of a family that its tiny config leaves at their defaults, so that nothing there would tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import torch
from transformers import PreTrainedConfig

from billhook.errors import UnsupportedArchitecture
from billhook.model.view import ModelView
from billhook.testing.conformance.cut_law import check_generation
from billhook.testing.samples.models import tiny_model, tiny_tokens

FACTORS = re.compile(r"multiplier|scaling|scale")
"""Names of config attributes that are factors. At 1 they hide whether anybody knows of them."""

ELSEWHERE = frozenset({"use_cache", "tie_word_embeddings", "is_decoder"})
"""Switches that concern no layer."""

HALF = 0.5
"""What a hidden factor is set to."""


def hidden_variants(config: PreTrainedConfig) -> Iterator[tuple[str, object]]:
    """Attributes of the family's own config, each with another value: switches turned, factors of 1 halved."""
    common = PreTrainedConfig().to_dict()
    for name, value in sorted(config.to_dict().items()):
        if name in common or name in ELSEWHERE or name.startswith("_"):
            continue
        if isinstance(value, bool):
            yield name, not value
        elif isinstance(value, float) and value == 1 and FACTORS.search(name):
            yield name, HALF


def variant_of(view: ModelView, name: str, value: object) -> ModelView | None:
    """The tiny model with another value in its config; None if the family has no such variant or it is refused."""
    config = view.model.config
    try:
        with torch.random.fork_rng(devices=[]):
            model = tiny_model(view.adapter, model_type=config.model_type, **{name: cast(Any, value)})
            check_generation(model, tiny_tokens(rows=2).batches()[0], name)
        return ModelView(model, view.adapter)
    except UnsupportedArchitecture:
        return None
    except Exception:  # not every value makes a model of the family
        return None
