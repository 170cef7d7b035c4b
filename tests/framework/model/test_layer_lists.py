"""What a config says layer by layer follows the layers that stay; what cannot follow is refused or named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    DeepseekV3Config,
    GPT2Config,
    JambaConfig,
    Llama4TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    SmolLM3Config,
)

from billhook.errors import InvalidCut
from billhook.model.layer_lists import assign, shortened

LAYERS = 6
KEPT = [0, 1, 4, 5]


def qwen2() -> Any:
    return Qwen2Config(num_hidden_layers=LAYERS, use_sliding_window=True, max_window_layers=3)


@given(kept=st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True).map(sorted))
def test_lists_keep_the_entries_of_the_layers_that_stay(kept: list[int]) -> None:
    config = qwen2()
    kinds = list(config.layer_types)
    assign(config, shortened(config, kept))
    assert config.num_hidden_layers == len(kept)
    assert config.layer_types == [kinds[i] for i in kept]


@given(kept=st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True).map(sorted))
def test_index_lists_are_renumbered(kept: list[int]) -> None:
    config: Any = Qwen2MoeConfig(num_hidden_layers=LAYERS, mlp_only_layers=[1, 4])
    dense = [number in config.mlp_only_layers for number in range(LAYERS)]
    assign(config, shortened(config, kept))
    assert [number in config.mlp_only_layers for number in range(len(kept))] == [dense[i] for i in kept]


@given(kept=st.lists(st.integers(0, LAYERS - 1), min_size=1, unique=True).map(sorted))
def test_thresholds_are_recounted(kept: list[int]) -> None:
    config: Any = DeepseekV3Config(num_hidden_layers=LAYERS, first_k_dense_replace=3)
    assign(config, shortened(config, kept))
    assert [number < config.first_k_dense_replace for number in range(len(kept))] == [i < 3 for i in kept]


@pytest.mark.parametrize(
    ("config", "period"),
    [
        (Qwen2MoeConfig(num_hidden_layers=LAYERS, decoder_sparse_step=2), "decoder_sparse_step=2"),
        (JambaConfig(num_hidden_layers=LAYERS, attn_layer_period=3, attn_layer_offset=1), "attn_layer_period=3"),
    ],
    ids=["qwen2_moe", "jamba"],
)
def test_a_period_that_cannot_express_a_gap_is_refused_by_name(config: PreTrainedConfig, period: str) -> None:
    with pytest.raises(InvalidCut, match=f"{period}, which cannot express a gap"):
        shortened(config, KEPT)


def test_a_period_still_holds_when_only_the_last_layers_go() -> None:
    config = Qwen2MoeConfig(num_hidden_layers=LAYERS, decoder_sparse_step=2)
    assert shortened(config, [0, 1, 2])["num_hidden_layers"] == 3


def test_a_period_of_one_says_nothing() -> None:
    config = Qwen2MoeConfig(num_hidden_layers=LAYERS, decoder_sparse_step=1)
    assert shortened(config, KEPT)["num_hidden_layers"] == 4


def test_an_explicit_list_overrules_its_period() -> None:
    config = SmolLM3Config(num_hidden_layers=LAYERS, no_rope_layer_interval=2)
    assert config.no_rope_layers == [1, 0, 1, 0, 1, 0]
    assert shortened(config, [0, 2, 3, 5])["no_rope_layers"] == [1, 1, 0, 0]


def test_several_lists_change_together() -> None:
    config = Llama4TextConfig(num_hidden_layers=LAYERS, interleave_moe_layer_step=2)
    assert config.moe_layers == [1, 3, 5]
    changes = shortened(config, [0, 3, 4, 5])
    assert changes["moe_layers"] == [1, 3]
    assert len(changes["no_rope_layers"]) == len(changes["layer_types"]) == changes["num_hidden_layers"] == 4


def test_a_list_that_nobody_knows_is_left_and_named(logged: list[str]) -> None:
    config = LlamaConfig(num_hidden_layers=LAYERS)
    config.gates = list(range(LAYERS))
    assert shortened(config, KEPT) == {"num_hidden_layers": 4}
    assert [message.split(" ")[0] for message in logged] == ["config.gates"]


def test_lists_of_another_length_and_token_ids_are_not_mistaken_for_layers(logged: list[str]) -> None:
    config = LlamaConfig(num_hidden_layers=2, eos_token_id=[1, 2])
    config.three_of_something = [1, 2, 3]
    shortened(config, [0])
    assert logged == []


def test_families_with_other_names_for_the_layer_count_are_served() -> None:
    config = GPT2Config(n_layer=LAYERS)
    assign(config, shortened(config, KEPT))
    assert config.n_layer == config.num_hidden_layers == 4
    assert "num_hidden_layers" not in config.to_dict()


def test_a_changed_config_can_be_written_and_read_again() -> None:
    config = qwen2()
    assign(config, shortened(config, KEPT))
    assert Qwen2Config.from_dict(config.to_dict()).to_dict() == config.to_dict()


class Picky(PreTrainedConfig):
    """Wants an even number of layers."""

    model_type = "picky"

    def __init__(self, num_hidden_layers: int = 4, **kwargs: Any) -> None:
        self.num_hidden_layers = num_hidden_layers
        if num_hidden_layers % 2:
            raise ValueError("layers come in pairs")
        super().__init__(**kwargs)


def test_what_the_config_class_refuses_is_refused_before_anything_is_changed() -> None:
    config = Picky()
    before = copy.deepcopy(config.to_dict())
    with pytest.raises(InvalidCut, match=r"picky's config refuses .*layers come in pairs"):
        shortened(config, [0, 1, 2])
    assert config.to_dict() == before


@pytest.mark.parametrize("kept", [KEPT, [0, 1, 2]])
def test_asking_changes_nothing(kept: list[int]) -> None:
    config = qwen2()
    before = copy.deepcopy(config.to_dict())
    shortened(config, kept)
    assert config.to_dict() == before
