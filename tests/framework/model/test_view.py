"""ModelView: cheap copies that stay apart, original numbers, and models that are turned away."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import by_name
from torch import nn

from billhook import Adapter, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView, default_registry
from billhook.errors import InvalidCut, UnsupportedArchitecture
from billhook.model.writer import replace_weight, weight_rows
from billhook.testing import linearised, tiny_model, tiny_tokens, tiny_view


@torch.no_grad()
def logits(view: ModelView) -> torch.Tensor:
    found: torch.Tensor = view.model(input_ids=tiny_tokens(2, 6).ids, use_cache=False).logits
    return found


@by_name
def test_a_copy_shares_every_tensor(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    twin = view.copy()
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(v.model, kind)()) for v in (view, twin))
        assert ours.keys() == theirs.keys()
        assert all(theirs[name] is tensor for name, tensor in ours.items())


@by_name
def test_a_copy_has_modules_and_a_config_of_its_own(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    twin = view.copy()
    ours, theirs = ({id(module) for module in v.model.modules()} for v in (view, twin))
    assert not ours & theirs
    assert twin.model.config is not view.model.config
    assert all(getattr(m, "config", twin.model.config) is not view.model.config for m in twin.model.modules())


@by_name
def test_cutting_a_copy_leaves_the_original_as_it_was(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    config, before = copy.deepcopy(view.model.config.to_dict()), logits(view)
    twin = view.copy()
    twin.drop_layers([1, 2])
    replace_weight(twin.writer(0, "mlp"), 2 * weight_rows(twin.writer(0, "mlp")), None)
    assert view.numbers == (0, 1, 2, 3)
    assert view.model.config.to_dict() == config
    assert logits(view).equal(before)
    assert not logits(twin).equal(before)


def test_tied_weights_stay_tied_in_a_copy() -> None:
    twin = tiny_view(tie_word_embeddings=True).copy()
    head: Any = twin.model.get_output_embeddings()
    assert head.weight is twin.model.get_input_embeddings().weight


def test_a_copy_of_a_cut_view_knows_the_original_numbers() -> None:
    view = tiny_view()
    view.drop_layers([1])
    assert view.copy().numbers == (0, 2, 3)
    assert view.copy().original_layer_count == 4


@by_name
def test_layers_are_renumbered_for_their_cache_slots(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    view.drop_layers([1])
    slots = [{m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")} for layer in view.layers]
    assert slots in ([{0}, {1}, {2}], [set(), set(), set()])
    assert view.model.config.num_hidden_layers == 3


@by_name
def test_a_cut_model_computes_what_its_layers_compute_one_after_another(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    skipping = ModelView(linearised(view, DropLayers(1, 3), None), adapter)
    view.drop_layers([1, 2])
    torch.testing.assert_close(logits(view), logits(skipping))


@by_name
def test_a_cut_model_generates_with_a_cache_what_it_generates_without(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    view.drop_layers([1])
    ids = tiny_tokens(1, 5).ids
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    model: Any = view.model  # generate() is mixed in where type checkers do not look
    with_cache, without = (
        model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=cache, **options) for cache in (True, False)
    )
    assert with_cache.tolist() == without.tolist()


@given(gone=st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=2), min_size=1, max_size=2))
def test_several_cuts_count_in_original_numbers(gone: list[set[int]]) -> None:
    view = tiny_view(num_hidden_layers=6)
    layers = list(view.layers)
    for numbers in gone:
        view.drop_layers(numbers)
    left = [number for number in range(6) if not any(number in numbers for numbers in gone)]
    assert view.numbers == tuple(left)
    assert all(view.layer(number) is layers[number] for number in left)


def test_a_lost_layer_cannot_be_asked_for() -> None:
    view = tiny_view()
    view.drop_layers([1])
    with pytest.raises(ValueError, match="not in tuple"):
        view.layer(1)


@pytest.mark.parametrize(
    ("model_type", "groups", "channels"), [("llama", 2, 24), ("gpt2", 4, 24), ("gpt_neox", 4, 24), ("falcon", 2, 24)]
)
def test_the_units_of_a_branch_are_key_value_groups_and_channels(model_type: str, groups: int, channels: int) -> None:
    view = tiny_view(model_type)
    assert view.units(1, "attention") == tuple(range(groups))
    assert view.units(1, "mlp") == tuple(range(channels))


@pytest.mark.parametrize("number", [1, 4, -1])
def test_a_layer_that_is_not_there_has_no_units_and_no_branches(number: int) -> None:
    view = tiny_view()
    view.drop_layers([1])
    assert view.units(number, "mlp") == ()
    assert not view.has_branch(number, "attention")


def test_a_copy_knows_the_units_and_loses_its_own() -> None:
    view = tiny_view()
    KeepChannels(1, (3, 5, 8)).remove_from(view)
    twin = view.copy()
    assert twin.units(1, "mlp") == (3, 5, 8)
    KeepChannels(1, (5,)).remove_from(twin)
    assert twin.units(1, "mlp") == (5,)
    assert view.units(1, "mlp") == (3, 5, 8)


def test_a_branch_is_there_whatever_its_writer_is() -> None:
    view = tiny_view()
    view.layer(1).get_submodule("mlp").down_proj = nn.Identity()  # as a quantised class would be: no weight to read
    assert view.has_branch(1, "mlp")


def test_a_layer_is_described_by_what_is_left_of_it() -> None:
    view = tiny_view()
    for cut in (KeepHeads(1, (1,)), DropBranch(1, "mlp"), DropLayers(2, 3)):
        cut.remove_from(view)
    assert view.describe_layer(0) == "Layer 0 has 2 key-value groups and 24 channels."
    assert view.describe_layer(1) == "Layer 1 has 1 key-value groups and no channels."
    assert view.describe_layer(2) == "The model has no layer 2 any more."
    assert view.describe_layer(4) == "The model has no layer 4."


def test_new_versions_take_the_place_of_old_ones_and_the_layers_without_one_go() -> None:
    view = tiny_view()
    cut = KeepChannels(3, (1, 2))
    version, others = cut.changes(view)[3], [view.layer(0), view.layer(2)]
    assert version is not None
    view.change_layers({1: None, 3: version})
    assert view.numbers == (0, 2, 3)
    assert list(view.layers) == [*others, version.module]
    assert view.units(3, "mlp") == (1, 2)
    assert version.module.get_submodule("self_attn").layer_idx == 2


@pytest.mark.parametrize(("gone", "gaps"), [([], False), ([3], False), ([2, 3], False), ([0], True), ([1, 3], True)])
def test_a_gap_is_a_lost_layer_before_one_that_stays(gone: list[int], gaps: bool) -> None:
    view = tiny_view()
    view.drop_layers(gone)
    assert view.has_gaps is gaps


def test_a_config_that_cannot_express_the_cut_leaves_everything_as_it_was() -> None:
    view = tiny_view()
    view.model.config.attn_layer_period = 2  # as Jamba has it, with nothing that says it layer by layer
    with pytest.raises(InvalidCut, match="attn_layer_period=2"):
        view.drop_layers([1])
    assert view.numbers == (0, 1, 2, 3)
    assert len(view.layers) == view.model.config.num_hidden_layers == 4
    assert [layer.self_attn.layer_idx for layer in view.layers] == [0, 1, 2, 3]  # type: ignore[union-attr] # a Llama layer


@by_name
def test_the_width_is_that_of_the_embeddings(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    embeddings = view.model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    assert view.d_model == embeddings.embedding_dim


def test_counts_of_parameters_and_bytes() -> None:
    view = tiny_view(dtype=torch.bfloat16)
    state = dict(view.model.named_parameters())
    assert view.parameter_count == sum(tensor.numel() for tensor in state.values())
    assert view.layer_parameter_count == sum(t.numel() for name, t in state.items() if ".layers." in name)
    assert view.bytes_per_parameter == 2
    assert view.dtype == torch.bfloat16
    assert view.device == torch.device("cpu")


def test_a_variant_that_the_adapter_refuses_makes_no_view() -> None:
    adapter = default_registry().adapter_for("gpt2")
    model = tiny_model("gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(UnsupportedArchitecture, match="scale_attn_by_inverse_layer_idx=True: attention is scaled"):
        ModelView(model, adapter)
