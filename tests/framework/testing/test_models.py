"""Tiny models: small, reproducible, and different from the identity everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import every, marked, types
from transformers import AutoModelForCausalLM, AutoTokenizer

from billhook import default_registry
from billhook.testing import save_tiny_checkpoint, tiny_model, tiny_tokenizer, tiny_tokens, tiny_view

MODEL_TYPES = types(every())


@pytest.mark.parametrize("model_type", marked(MODEL_TYPES))
def test_every_layer_of_every_family_changes_the_stream_and_no_parameter_is_zero_or_one(model_type: str) -> None:
    view = tiny_view(model_type)
    assert view.model.config.model_type == model_type
    for name, parameter in view.model.named_parameters():
        values = parameter.detach()
        assert float(values.std()) > 0.05, name
        assert float(values.abs().min()) > 0, name


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    first, again, other = (tiny_model(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not any(torch.equal(tensor, other[name]) for name, tensor in first.items())


def test_the_global_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    tiny_model()
    tiny_tokens(padding="both")
    assert torch.equal(torch.get_rng_state(), before)


def test_other_dtypes_are_the_float32_model_rounded() -> None:
    exact, rounded = tiny_model(), tiny_model(dtype=torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    for name, tensor in exact.named_parameters():
        assert torch.equal(rounded.get_parameter(name), tensor.to(torch.bfloat16))


@pytest.mark.parametrize(("model_type", "attribute"), [("gpt2", "n_layer"), ("llama", "num_hidden_layers")])
def test_config_arguments_go_by_their_common_names(model_type: str, attribute: str) -> None:
    model = tiny_model(model_type, num_hidden_layers=5)
    assert getattr(model.config, attribute) == 5
    assert len(default_registry().adapter_for(model_type).layers(model)) == 5


@given(text=st.text())
def test_any_text_becomes_ids_below_the_vocabulary_size(text: str) -> None:
    ids: Any = tiny_tokenizer(40)(text)["input_ids"]
    assert all(0 <= number < 40 for number in ids)


def test_english_survives_encoding_and_decoding_but_for_capitals() -> None:
    tokenizer = tiny_tokenizer()
    text = "The quick brown fox (aged 7): it jumps!\n"
    ids: Any = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text.lower()


def test_the_chat_template_marks_speakers() -> None:
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    assert tiny_tokenizer().apply_chat_template(chat, tokenize=False) == "user: hi\nassistant: ho\n"


def test_a_vocabulary_of_special_tokens_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 4 ids; got vocab_size=4"):
        tiny_tokenizer(4)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_a_saved_checkpoint_is_loaded_by_stock_transformers(model_type: str, tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "tiny", model_type, seed=3)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(t, loaded.state_dict()[n]) for n, t in tiny_model(model_type, seed=3).state_dict().items())
    assert AutoTokenizer.from_pretrained(folder)("abc")["input_ids"] == tiny_tokenizer()("abc")["input_ids"]


@pytest.mark.parametrize(
    ("padding", "left", "right"),
    [("none", False, False), ("left", True, False), ("right", False, True), ("both", True, True)],
)
def test_tokens_are_padded_where_they_are_asked_to_be(padding: Any, left: bool, right: bool) -> None:
    keep = tiny_tokens(rows=20, padding=padding).keep
    assert bool((~keep[:, 0]).any()) == left
    assert bool((~keep[:, -1]).any()) == right
    assert bool(keep[0].all())
    assert int(keep.sum(1).min()) >= 2
