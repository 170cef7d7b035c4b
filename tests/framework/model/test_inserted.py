"""A map as a layer of its own, behind a module that it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import linear_maps
from torch import nn

from billhook import LinearMap
from billhook.model.inserted import Mapped, has_inserted, insert_after, without_maps
from billhook.testing import random_map

X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """Has a linear map and a norm, one level down."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.mlp = nn.ModuleDict({"down": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})


@pytest.mark.parametrize("path", ["mlp.down", "mlp.norm"])
@given(data=st.data(), scale=st.sampled_from([1.0, 0.5, 3.0]))
def test_the_scaled_output_is_mapped(path: str, data: st.DataObject, scale: float) -> None:
    layer, linear_map = Layer(), data.draw(linear_maps(4))
    before = scale * layer.get_submodule(path)(X)
    insert_after(layer, path, linear_map, scale)
    torch.testing.assert_close(scale * layer.get_submodule(path)(X), linear_map(before).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_map_takes_on_the_dtype_of_the_module(dtype: torch.dtype) -> None:
    layer = Layer().to(dtype)
    insert_after(layer, "mlp.down", random_map(4, bias=True))
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}


def test_a_map_between_widths_knows_its_widths() -> None:
    layer = Layer()
    insert_after(layer, "mlp.down", random_map(4, 6))
    linear = layer.get_submodule("mlp.down").linear
    assert isinstance(linear, nn.Linear)
    assert (linear.in_features, linear.out_features) == (4, 6)
    assert dict(linear.named_parameters()).keys() == {"weight"}


def test_the_module_itself_and_its_weights_stay() -> None:
    layer = Layer()
    old = layer.get_submodule("mlp.down")
    weights = [parameter.clone() for parameter in old.parameters()]
    insert_after(layer, "mlp.down", random_map(4))
    assert layer.get_submodule("mlp.down").module is old
    assert all(now.equal(then) for now, then in zip(old.parameters(), weights, strict=True))


def test_the_map_is_a_copy() -> None:
    linear_map = LinearMap(torch.eye(4))
    layer = Layer()
    insert_after(layer, "mlp.down", linear_map)
    with torch.no_grad():
        layer.get_submodule("mlp.down.linear").weight.zero_()  # type: ignore[operator] # a tensor
    assert linear_map.weight.equal(torch.eye(4))


def test_attributes_of_the_module_stay_reachable() -> None:
    layer = Layer()
    weight = layer.get_submodule("mlp.norm").weight
    insert_after(layer, "mlp.norm", random_map(4))
    assert layer.get_submodule("mlp.norm").weight is weight
    with pytest.raises(AttributeError, match="nonsense"):
        _ = layer.get_submodule("mlp.norm").nonsense


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_module_is_taken_on(training: bool) -> None:
    layer = Layer().train(training)
    insert_after(layer, "mlp.down", random_map(4))
    assert {module.training for module in layer.modules()} == {training}


def test_the_global_random_state_is_not_moved() -> None:
    layer = Layer()
    before = torch.random.get_rng_state()
    insert_after(layer, "mlp.down", random_map(4, bias=True))
    assert torch.random.get_rng_state().equal(before)


def test_a_wrapped_module_can_be_copied() -> None:
    layer = Layer()
    insert_after(layer, "mlp.down", random_map(4))
    twin = copy.deepcopy(layer)
    assert twin.get_submodule("mlp.down")(X).equal(layer.get_submodule("mlp.down")(X))


def test_a_second_map_follows_the_first() -> None:
    layer, first, second = Layer(), random_map(4, seed=1), random_map(4, seed=2)
    before = layer.get_submodule("mlp.down")(X)
    insert_after(layer, "mlp.down", first)
    insert_after(layer, "mlp.down", second)
    expected = second(first(before)).float()
    torch.testing.assert_close(layer.get_submodule("mlp.down")(X), expected, rtol=1e-4, atol=1e-4)  # float32 rounding


def test_a_model_with_a_map_of_its_own_is_recognised() -> None:
    layer = Layer()
    assert not has_inserted(layer)
    insert_after(layer, "mlp.down", random_map(4))
    assert has_inserted(layer)
    assert isinstance(layer.get_submodule("mlp.down"), Mapped)


def test_the_module_itself_is_found_behind_several_maps() -> None:
    layer = Layer()
    old = layer.get_submodule("mlp.down")
    assert without_maps(old) is old
    for seed in (1, 2):
        insert_after(layer, "mlp.down", random_map(4, seed=seed))
    assert without_maps(layer.get_submodule("mlp.down")) is old
