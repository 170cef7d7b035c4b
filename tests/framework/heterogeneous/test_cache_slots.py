"""The slots of a key-value cache when some layers have no attention, against trying out every assignment."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig

from billhook.heterogeneous.modeling_billhook import SkippedAttention, cache_slots, number_layers

LAYERS = st.lists(st.tuples(st.sampled_from(["full", "sliding", "chunked"]), st.booleans()), min_size=1, max_size=5)


def usable(kinds: list[str], attends: list[bool]) -> list[tuple[int | None, ...]]:
    """Every assignment that gives each attention a slot of its kind for itself, in the layers' order."""
    choices = [
        [slot for slot, kind in enumerate(kinds) if kind == own] if there else [None]
        for own, there in zip(kinds, attends, strict=True)
    ]
    return [found for found in itertools.product(*choices) if _in_order(kinds, found)]


def _in_order(kinds: list[str], slots: tuple[int | None, ...]) -> bool:
    of_kind = [[s for s, k in zip(slots, kinds, strict=True) if k == kind and s is not None] for kind in set(kinds)]
    return all(own == sorted(set(own)) for own in of_kind)


@given(layers=LAYERS)
def test_the_lowest_slots_of_each_kind_are_used(layers: list[tuple[str, bool]]) -> None:
    kinds, attends = [kind for kind, _ in layers], [there for _, there in layers]
    lowest = min(usable(kinds, attends), key=lambda slots: [-1 if slot is None else slot for slot in slots])
    if 0 in lowest:
        assert cache_slots(kinds, attends) == list(lowest)
    else:
        with pytest.raises(ValueError, match=rf"no attention of the first layer's kind \({kinds[0]}\) would be left"):
            cache_slots(kinds, attends)


@given(layers=LAYERS)
def test_it_is_refused_only_when_no_assignment_uses_slot_0(layers: list[tuple[str, bool]]) -> None:
    kinds, attends = [kind for kind, _ in layers], [there for _, there in layers]
    if any(0 in slots for slots in usable(kinds, attends)):
        assert 0 in cache_slots(kinds, attends)
    else:
        with pytest.raises(ValueError, match="the length of the key-value cache is read from its slot"):
            cache_slots(kinds, attends)


class Attention(nn.Module):
    """Has a slot, as transformers' attentions do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_idx = -1


def layers_of(*attends: bool) -> list[nn.Module]:
    return [nn.ModuleDict({"attn": Attention() if there else SkippedAttention()}) for there in attends]


def test_attentions_move_up_into_the_slots_of_those_that_are_gone() -> None:
    layers = layers_of(False, True, False, True)
    number_layers(layers, "attn", LlamaConfig(num_hidden_layers=4))
    assert [getattr(layer.get_submodule("attn"), "layer_idx", None) for layer in layers] == [None, 0, None, 1]


def test_other_modules_of_a_layer_have_the_layers_number() -> None:
    layers = layers_of(False, True)
    layers[1].layer_idx = 7  # type: ignore[assignment] # an int, as some families' layers have it
    number_layers(layers, "attn", LlamaConfig(num_hidden_layers=2))
    assert layers[1].layer_idx == 1
