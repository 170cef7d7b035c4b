"""BranchLayout: a value, and what of it a checkpoint carries."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from tests.families import by_name

from billhook import Adapter, BranchLayout

LAYOUT = BranchLayout(
    writer="attn.out",
    readers=("attn.qkv",),
    module="attn",
    alone=("before",),
    norm_after="after",
    stacked={"attn.qkv": ("q", "k", "v")},
    sizes={"heads": "num_attention_heads"},
    counts={"attn.num_heads": "heads"},
)


def test_what_a_checkpoint_carries_is_json_and_says_what_goes_with_the_branch() -> None:
    data = json.loads(json.dumps(LAYOUT.to_data()))
    assert data["alone"] == ["before", "after"]
    assert (data["module"], data["writer"], data["readers"]) == ("attn", "attn.out", ["attn.qkv"])
    assert (data["sizes"], data["counts"]) == ({"heads": "num_attention_heads"}, {"attn.num_heads": "heads"})


def test_without_a_norm_behind_the_writer_only_what_is_named_goes_with_the_branch() -> None:
    assert attrs.evolve(LAYOUT, norm_after=None).to_data()["alone"] == ["before"]


@by_name
def test_no_module_serves_both_branches_alone(adapter: Adapter) -> None:
    attention, mlp = (set(layout.to_data()["alone"]) for layout in (adapter.layout("attention"), adapter.layout("mlp")))
    assert not attention & mlp


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(BranchLayout)])
def test_layouts_compare_by_value(field: str) -> None:
    assert attrs.evolve(LAYOUT) == LAYOUT
    change: dict[str, Any] = {field: "something else"}
    assert attrs.evolve(LAYOUT, **change) != LAYOUT
