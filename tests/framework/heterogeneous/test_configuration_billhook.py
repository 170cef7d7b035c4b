"""The config class of models whose layers differ, with and without transformers' own reader of the schema."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tests.framework.heterogeneous.uneven import MIXED, settled
from transformers import AutoConfig, GPT2Config, LlamaConfig, PreTrainedConfig

import billhook.heterogeneous.configuration_billhook as configuration
from billhook.heterogeneous.configuration_billhook import (
    BillhookConfig,
    family_of,
    global_value,
    heterogeneous_config,
    overrides,
)

WRITTEN = {"billhook": {"base": "llama"}, "num_hidden_layers": 3, "intermediate_size": 24}


class OldConfig(PreTrainedConfig):
    """As in releases that know nothing of the schema: what ``per_layer_config`` was given is what it holds."""

    model_type = "old"
    attribute_map = {"intermediate_size": "n_inner"}  # noqa: RUF012 # transformers declares it so

    def to_dict(self) -> dict[str, Any]:
        """The attributes."""
        return copy.deepcopy(vars(self))


@pytest.mark.parametrize("numbers", [(1, 10), ("1", "10"), ("01", "10")], ids=str)
def test_entries_are_read_as_they_came_where_transformers_does_not_parse_them(numbers: tuple[Any, Any]) -> None:
    config = OldConfig()
    vars(config)["per_layer_config"] = {numbers[0]: {"n_inner": 5}, numbers[1]: {"skip": ["mlp"]}}
    assert overrides(config) == {1: {"n_inner": 5}, 10: {"skip": ["mlp"]}}


def test_a_config_without_entries_has_no_overrides() -> None:
    assert overrides(OldConfig()) == {}
    assert overrides(LlamaConfig()) == {}


def test_a_global_value_is_read_by_either_name() -> None:
    config = OldConfig()
    vars(config)["n_inner"] = 24
    assert (global_value(config, "n_inner"), global_value(config, "intermediate_size")) == (24, 24)
    assert global_value(config, "no_such_field") is None


def test_a_config_is_one_of_the_familys_own() -> None:
    found = BillhookConfig.from_dict({**WRITTEN, "per_layer_config": {"1": {"intermediate_size": 5}}})
    assert type(found) is heterogeneous_config(LlamaConfig)
    assert isinstance(found, LlamaConfig)
    assert overrides(found) == {1: {"intermediate_size": 5}}
    assert family_of(found) == "llama"


def test_sizes_that_differ_read_as_those_of_an_untouched_layer() -> None:
    found = BillhookConfig.from_dict({**WRITTEN, "per_layer_config": {"1": {"intermediate_size": 5}}})
    assert found.intermediate_size == 24
    assert global_value(found, "intermediate_size") == 24


@pytest.mark.parametrize("billhook", [{}, {"base": "billhook"}], ids=["no family", "itself"])
def test_a_config_that_names_no_family_is_refused(billhook: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"does not say of which family \(billhook\.base\)"):
        BillhookConfig.from_dict({"model_type": "billhook", "billhook": billhook})


def test_a_family_that_this_transformers_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="family 'from-the-future', which this transformers does not know"):
        BillhookConfig.from_dict({"billhook": {"base": "from-the-future"}})


def test_the_family_of_any_other_config_is_its_type() -> None:
    assert family_of(GPT2Config()) == "gpt2"


def test_one_family_has_one_class_which_can_be_found_by_its_name() -> None:
    assert heterogeneous_config(LlamaConfig) is heterogeneous_config(LlamaConfig)
    assert configuration.BillhookLlamaConfig is heterogeneous_config(LlamaConfig)


@pytest.mark.parametrize("name", ["BillhookLlama", "BillhookLlamaModel", "LlamaConfig", "BillhookPath"])
def test_other_names_are_attribute_errors(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(configuration, name)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma3_text"])
def test_a_config_survives_its_files_and_copies(tmp_path: Path, model_type: str) -> None:
    config = settled(model_type, *MIXED).config
    config.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert type(read) is type(config)
    for other in (read, copy.deepcopy(config)):
        assert overrides(other) == overrides(config)
        assert other.billhook == config.billhook
        assert other.num_attention_heads == config.num_attention_heads
