"""Writers: read and replaced as row-vector maps, whichever way their class stores them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from billhook.errors import CannotMerge
from billhook.model.writer import all_finite, bias_of, is_linear, replace_weight, weight_rows

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(3, 2)


def conv1d() -> Conv1D:
    with torch.random.fork_rng(devices=[]):
        return Conv1D(2, 3)


each = pytest.mark.parametrize("make", [linear, conv1d])


@each
def test_rows_times_weight_plus_bias_is_what_the_module_computes(make: type[nn.Module]) -> None:
    module = make()
    bias = bias_of(module)
    assert bias is not None
    torch.testing.assert_close(module(X), X @ weight_rows(module) + bias)


@each
def test_a_new_weight_and_bias_are_what_the_module_computes_with(make: type[nn.Module]) -> None:
    module = make()
    rows, bias = torch.arange(6.0).view(3, 2), torch.tensor([1.0, -1.0])
    replace_weight(module, rows, bias)
    torch.testing.assert_close(module(X), X @ rows + bias)


@each
def test_without_a_new_bias_the_old_one_stays(make: type[nn.Module]) -> None:
    module = make()
    before = module.bias
    replace_weight(module, torch.zeros(3, 2), None)
    assert module.bias is before


@each
def test_the_old_tensors_are_not_written_to(make: type[nn.Module]) -> None:
    module = make()
    old = module.weight
    assert isinstance(old, torch.Tensor)
    before = old.clone()
    replace_weight(module, torch.zeros(3, 2), torch.zeros(2))
    assert old.equal(before)
    assert module.weight is not old


@each
def test_the_dtype_and_whether_it_is_trained_are_taken_over(make: type[nn.Module]) -> None:
    module = make().to(torch.bfloat16).requires_grad_(False)
    replace_weight(module, torch.zeros(3, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    for parameter in module.parameters():
        assert parameter.dtype == torch.bfloat16
        assert not parameter.requires_grad
        assert parameter.is_contiguous()


@each
def test_the_new_weight_is_a_copy(make: type[nn.Module]) -> None:
    module, rows = make(), torch.ones(3, 2)
    replace_weight(module, rows, None)
    rows.zero_()
    assert float(weight_rows(module).sum()) == 6


def test_a_linear_layer_of_another_width_says_so() -> None:
    module = linear()
    replace_weight(module, torch.zeros(4, 2), None)
    assert (module.in_features, module.out_features) == (4, 2)


@pytest.mark.parametrize(
    "module", [nn.LayerNorm(3), nn.Embedding(3, 2), nn.Sequential()], ids=lambda m: type(m).__name__
)
def test_other_modules_are_no_writers(module: nn.Module) -> None:
    assert not is_linear(module)
    with pytest.raises(CannotMerge, match=f"A {type(module).__name__} cannot be folded into: only float nn.Linear"):
        weight_rows(module)


def test_a_quantised_weight_is_refused() -> None:
    module = linear().requires_grad_(False)
    module.weight = nn.Parameter(torch.ones(2, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(CannotMerge, match="Load the model unquantised"):
        weight_rows(module)


def test_a_module_without_bias_has_none() -> None:
    assert bias_of(nn.Linear(2, 2, bias=False)) is None


@pytest.mark.parametrize(("value", "finite"), [(0.0, True), (float("nan"), False), (float("-inf"), False)])
def test_one_entry_decides_whether_all_are_finite(value: float, finite: bool) -> None:
    tensor = torch.zeros(4)
    tensor[2] = value
    assert all_finite(tensor) is finite
