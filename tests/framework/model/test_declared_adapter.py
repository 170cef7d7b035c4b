"""DeclaredAdapter: paths and flags, looked up; the installed ones are held to the adapter suite elsewhere."""

from __future__ import annotations

import attrs
import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from billhook import BranchLayout, DeclaredAdapter, Refused
from billhook.errors import UnsupportedArchitecture

ADAPTER = DeclaredAdapter(
    name="made-up",
    model_types=("made_up",),
    layer_list="body.blocks",
    attention=BranchLayout(writer="attn.out", readers=("attn.in",), module="attn"),
    mlp=BranchLayout(writer="mlp.out", readers=("mlp.in",), module="mlp", norm_after="norm"),
    tiny_config={},
)


class Model(nn.Module):
    """A list of one layer, and in that layer the modules that :data:`ADAPTER` names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleDict({"attn": nn.ModuleDict({"out": nn.Identity()}), "norm": nn.Identity()})
        self.layer["mlp"] = nn.ModuleDict({"out": nn.Identity()})
        self.body = nn.ModuleDict({"blocks": nn.ModuleList([self.layer])})


def test_the_layers_are_found_and_replaced() -> None:
    model, fresh = Model(), nn.ModuleList()
    assert ADAPTER.layers(model) is model.body["blocks"]  # type: ignore[arg-type] # any module has submodules
    ADAPTER.replace_layers(model, fresh)  # type: ignore[arg-type] # as above
    assert ADAPTER.layers(model) is fresh  # type: ignore[arg-type] # as above


def test_the_writer_is_the_last_linear_map_and_the_output_what_reaches_the_stream() -> None:
    layer = Model().layer
    assert ADAPTER.writer(layer, "attention") is layer.get_submodule("attn.out")
    assert ADAPTER.writer(layer, "mlp") is layer.get_submodule("mlp.out")
    assert ADAPTER.output(layer, "attention") == "attn.out"
    assert ADAPTER.output(layer, "mlp") == "norm"


def test_a_norm_after_the_writer_is_named_as_the_reason_against_folding() -> None:
    assert ADAPTER.why_not_foldable("attention") is None
    assert ADAPTER.why_not_foldable("mlp") == (
        "in made-up the norm 'norm' stands between the mlp writer and the residual stream"
    )


@pytest.mark.parametrize("returns_tuple", [False, True])
def test_a_stream_survives_the_shape_of_a_layers_output(returns_tuple: bool) -> None:
    adapter, stream = attrs.evolve(ADAPTER, returns_tuple=returns_tuple), torch.ones(1, 2, 3)
    assert isinstance(adapter.as_layer_output(stream), tuple) is returns_tuple
    assert adapter.stream(adapter.as_layer_output(stream)) is stream


def test_the_scale_is_1_unless_a_layer_has_it_under_the_declared_name() -> None:
    layer = Model().layer
    layer.multiplier = 0.25  # type: ignore[assignment] # a float, as Granite's layers have it
    assert ADAPTER.scale(layer, "mlp") == 1.0
    assert attrs.evolve(ADAPTER, scale_attribute="multiplier").scale(layer, "mlp") == 0.25


def test_a_refused_config_value_is_named_with_its_reason() -> None:
    adapter = attrs.evolve(ADAPTER, refused=(Refused(attribute="mlp_bias", value=True, reason="it has biases."),))
    adapter.check(LlamaConfig(mlp_bias=False))
    with pytest.raises(UnsupportedArchitecture, match=r"This made-up model has mlp_bias=True: it has biases\."):
        adapter.check(LlamaConfig(mlp_bias=True))
