"""Surgery: new versions of layers, on layers made by hand whose every entry says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.pytorch_utils import Conv1D

from billhook import BranchLayout
from billhook.model.inserted import insert_after
from billhook.model.surgery import copy_of, entries_of, narrowed, without_branch
from billhook.testing import random_map

D_MODEL, WIDTH = 5, 3
"""Of the stream, and of a head."""


def linear(d_in: int, d_out: int, transposed: bool = False) -> nn.Module:
    """Random, with a bias; ``transposed``: as GPT-2 stores it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(d_in * 100 + d_out)
        found: nn.Module = Conv1D(d_out, d_in) if transposed else nn.Linear(d_in, d_out)
        nn.init.normal_(found.get_parameter("bias"))
    return found


class FusedMLP(nn.Module):
    """Gate and up projection in one, with biases: no family has it, and any might."""

    def __init__(self, channels: int, transposed: bool = False) -> None:
        super().__init__()
        self.gate_up = linear(D_MODEL, 2 * channels, transposed)
        self.down = linear(channels, D_MODEL, transposed)

    def forward(self, stream: Tensor, lost: Sequence[int] = ()) -> Tensor:
        gate, up = self.gate_up(stream).chunk(2, dim=-1)
        inner = torch.sigmoid(gate) * up
        inner[..., list(lost)] = 0
        found: Tensor = self.down(inner)
        return found


class Layer(nn.Module):
    """A fused MLP behind a norm."""

    def __init__(self, channels: int = 6, transposed: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D_MODEL)
        self.mlp = FusedMLP(channels, transposed)
        self.config = LlamaConfig(num_attention_heads=4)


MLP = BranchLayout(
    writer="mlp.down",
    readers=("mlp.gate_up",),
    module="mlp",
    alone=("norm",),
    stacked={"mlp.gate_up": ("gate", "up")},
    sizes={"channels": "intermediate_size"},
)
X = torch.randn(2, 3, D_MODEL, generator=torch.Generator().manual_seed(0))


@st.composite
def choices(draw: st.DrawFn) -> tuple[int, tuple[int, ...]]:
    """A count of units, and some of them."""
    count = draw(st.integers(1, 6))
    return count, tuple(sorted(draw(st.sets(st.integers(0, count - 1), min_size=1))))


@given(choice=choices(), shares=st.lists(st.integers(1, 3), min_size=1, max_size=3), width=st.integers(1, 3))
def test_entries_of_kept_units_are_found_in_every_block(
    choice: tuple[int, tuple[int, ...]], shares: list[int], width: int
) -> None:
    count, kept = choice
    # what each entry belongs to, written down in the order in which blocks, units and shares lie
    owner = [unit for share in shares for unit in range(count) for _ in range(share * width)]
    wanted = [place for place, unit in enumerate(owner) if unit in kept]
    assert entries_of(kept, count, shares, len(owner)).tolist() == wanted


@pytest.mark.parametrize("transposed", [False, True])
@given(choice=choices())
def test_a_fused_gate_and_up_projection_with_biases_loses_the_channels_of_both(
    transposed: bool, choice: tuple[int, tuple[int, ...]]
) -> None:
    count, kept = choice
    layer = Layer(count, transposed)
    version = narrowed(layer, MLP, kept, count, {"channels": len(kept)})
    wanted = layer.mlp(X, lost=[unit for unit in range(count) if unit not in kept])
    assert version.mlp.down.weight.numel() == len(kept) * D_MODEL  # type: ignore[union-attr, operator] # a tensor
    torch.testing.assert_close(version.mlp(X), wanted)  # type: ignore[operator] # a module


class Grouped(nn.Module):
    """Readers of grouped-query attention, side by side in one map; each output names block, group and head."""

    def __init__(self, groups: int, queries: int, interleaved: bool) -> None:
        super().__init__()
        blocks = [("q", queries), ("k", 1), ("v", 1)]
        by_block = [(b, g, h) for b, share in blocks for g in range(groups) for h in range(share)]
        by_group = [(b, g, h) for g in range(groups) for b, share in blocks for h in range(share)]
        self.names = by_group if interleaved else by_block
        self.qkv = nn.Linear(D_MODEL, len(self.names) * WIDTH)
        self.out = nn.Linear(groups * queries * WIDTH, D_MODEL)
        labels = torch.arange(len(self.names) * WIDTH, dtype=torch.float32)
        self.qkv.weight = nn.Parameter(labels[:, None].expand(-1, D_MODEL).clone())
        self.qkv.bias = nn.Parameter(labels.clone())


@pytest.mark.parametrize("interleaved", [False, True])
@given(choice=choices(), queries=st.integers(1, 3))
def test_of_fused_query_key_value_projections_all_heads_of_a_group_stay(
    interleaved: bool, choice: tuple[int, tuple[int, ...]], queries: int
) -> None:
    count, kept = choice
    layer = Grouped(count, queries, interleaved)
    layout = BranchLayout(
        writer="out", readers=("qkv",), module="qkv", stacked={} if interleaved else {"qkv": ("q", "k", "v")}
    )
    sizes = {"heads": len(kept) * queries, "key_value_heads": len(kept)}
    version = narrowed(layer, layout, kept, count, sizes)  # type: ignore[arg-type] # literal keys
    left = [place for place, (_, group, _) in enumerate(layer.names) if group in kept]
    wanted = torch.tensor([float(place * WIDTH + entry) for place in left for entry in range(WIDTH)])
    bias, weight = (version.get_parameter(f"qkv.{name}") for name in ("bias", "weight"))
    assert torch.equal(bias, wanted)
    assert torch.equal(weight, wanted[:, None].expand(-1, D_MODEL))


def test_attributes_that_count_follow_and_those_of_the_old_layer_stay() -> None:
    layer: Any = Layer()
    layer.mlp.width = layer.mlp.channels = 6
    layout = attrs.evolve(MLP, counts={"mlp.width": "width", "mlp.channels": "channels"})
    version: Any = narrowed(layer, layout, (1, 4), 6, {"channels": 2}).get_submodule("mlp")
    assert (version.width, version.channels) == (2, 2)
    assert (layer.mlp.width, layer.mlp.channels) == (6, 6)


def test_a_count_that_is_read_from_the_config_is_another_for_this_layer_alone() -> None:
    layer: Any = Layer()
    layer.mlp.config = layer.config  # as Phi-3's attention has it
    layout = attrs.evolve(MLP, counts={"mlp.config.num_attention_heads": "channels"})
    once: Any = narrowed(layer, layout, (1, 4, 5), 6, {"channels": 3})
    twice: Any = narrowed(once, layout, (0,), 3, {"channels": 1})
    assert [version.mlp.config.num_attention_heads for version in (layer, once, twice)] == [4, 3, 1]
    assert layer.config.num_attention_heads == 4
    assert twice.mlp.config.hidden_size == layer.config.hidden_size


def test_what_went_takes_no_memory() -> None:
    version = narrowed(Layer(), MLP, (2,), 6, {"channels": 1})
    for name, parameter in version.named_parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size(), name


def test_the_given_layer_stays_as_it_is() -> None:
    layer = Layer()
    before = layer.mlp(X)
    narrowed(layer, MLP, (2,), 6, {"channels": 1})
    without_branch(layer, "mlp", MLP)
    assert torch.equal(layer.mlp(X), before)


def test_what_stays_is_shared() -> None:
    layer = Layer()
    version = narrowed(layer, MLP, (2, 3), 6, {"channels": 2})
    assert version.get_parameter("mlp.down.bias") is layer.get_parameter("mlp.down.bias")
    assert version.get_parameter("norm.weight") is layer.get_parameter("norm.weight")


def test_a_copy_has_modules_of_its_own_and_the_very_tensors_and_configs() -> None:
    layer = Layer()
    layer.register_buffer("angles", torch.ones(2))
    twin: Any = copy_of(layer)
    assert not {id(module) for module in layer.modules()} & {id(module) for module in twin.modules()}
    ours, theirs = ({n: id(t) for n, t in m.state_dict(keep_vars=True).items()} for m in (layer, twin))
    assert ours == theirs
    assert twin.config is layer.config


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_mode_and_frozen_weights_stay_what_they_are(training: bool, frozen: bool) -> None:
    layer = Layer().train(training).requires_grad_(not frozen)
    for version in (narrowed(layer, MLP, (2,), 6, {"channels": 1}), without_branch(layer, "mlp", MLP)):
        assert version.training is training
        assert all(parameter.requires_grad is not frozen for parameter in version.parameters())


def test_a_branch_that_is_gone_takes_its_norm_along() -> None:
    version = without_branch(Layer(), "mlp", MLP)
    assert list(version.parameters()) == []
    assert torch.equal(version.mlp(version.norm(X)), torch.zeros_like(X))  # type: ignore[operator] # modules


def test_a_map_behind_the_writer_stays_there() -> None:
    layer, linear_map = Layer(), random_map(D_MODEL, bias=True)
    insert_after(layer, "mlp.down", linear_map)
    version = narrowed(layer, MLP, (0, 2), 6, {"channels": 2})
    wanted = layer.mlp(X, lost=[1, 3, 4, 5])
    torch.testing.assert_close(version.mlp(X), wanted)  # type: ignore[operator] # a module
