"""The families that billhook serves, for tests of each: some in every run, all of them with ``-m families``.

Most families are built like another one, and differ in data that a family's own laws look at
(``tests/adapters/test_conformance.py``). So what is tested of each family is tried of some that differ in structure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from billhook import Adapter, Branch, default_registry
from billhook.testing import tiny_model

FIRST = (
    "falcon",
    "gemma2",
    "gemma3",
    "gpt-neox",
    "gpt2",
    "granite",
    "llama",
    "mistral",
    "olmo",
    "olmo2",
    "opt",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)
"""By name; between them they have every form that a declaration can take, but for what only one later family has."""


def every() -> list[Adapter]:
    """Adapters for types that the installed transformers knows; a declaration may be ahead of it."""
    return [
        adapter
        for adapter in default_registry().adapters()
        if all(kind in CONFIG_MAPPING for kind in adapter.model_types)
    ]


def some() -> list[Adapter]:
    """Those that are tried in every run."""
    return [adapter for adapter in every() if adapter.name in FIRST]


def types(adapters: Collection[Adapter]) -> list[str]:
    """The model types of some adapters."""
    return [kind for adapter in adapters for kind in adapter.model_types]


DERIVED = frozenset(
    (
        "biogpt",
        "ctrl",
        "falcon",
        "gpt2",
        "gpt_neox",
        "gptj",
        "helium",
        "opt",
        "persimmon",
        "stablelm",
        "xglm",
    )
)
"""Types whose heads are as wide as the stream divided by their number, so that stock code cannot have fewer."""


def narrowable(branch: Branch) -> list[str]:
    """The model types of which this branch can get narrower."""
    return [
        kind
        for adapter in every()
        for kind in adapter.model_types
        if not adapter.why_not_narrowable(tiny_model(adapter, model_type=kind).config, branch)
    ]


def _is_first(family: Adapter | str) -> bool:
    if isinstance(family, str):
        return family in types(some()) or family in FIRST
    return family.name in FIRST


def marked(families: Collection[Any]) -> list[Any]:
    """Parameters for adapters, their names or model types: all but :data:`FIRST` are tried when they are asked for."""
    return [
        pytest.param(
            family,
            id=family if isinstance(family, str) else family.name,
            marks=() if _is_first(family) else pytest.mark.families,
        )
        for family in families
    ]


by_name: Callable[..., Any] = pytest.mark.parametrize("adapter", marked(every()))
"""Decorates a test of every family."""
