"""Uneven models without their head, with another, and decoding by guesses: what works on the family works on them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.families import marked
from tests.framework.heterogeneous.test_auto_classes import BLOCKED, run
from tests.framework.heterogeneous.uneven import FAMILIES, IDS, settled
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DynamicCache,
    PreTrainedModel,
)
from transformers.models.auto import modeling_auto

from billhook import DropBranch
from billhook.model.key_values import cache_name
from billhook.testing import tiny_model

CLASSES: dict[Any, Any] = {
    AutoModel: modeling_auto.MODEL_MAPPING,
    AutoModelForSequenceClassification: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
}

REPEATING = torch.tensor([[5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 5, 6]])


def stream(model: PreTrainedModel) -> torch.Tensor:
    """What leaves the last layer, ``[batch, seq, d_model]``."""
    with torch.no_grad():
        found: torch.Tensor = model.base_model(input_ids=IDS, use_cache=False)[0]
    return found


@pytest.mark.parametrize("family", marked(FAMILIES))
def test_every_auto_class_of_the_family_loads_an_uneven_model(family: str, tmp_path: Path) -> None:
    model = settled(family)
    model.save_pretrained(tmp_path)
    dense: Any = type(model.config).__mro__[1]
    for auto, known in CLASSES.items():
        if dense not in known:
            continue
        loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded).__name__ == f"Billhook{known[dense].__name__}"
        assert all(name.partition(".")[0] in ("score", "classifier") for name in info["missing_keys"])
        assert set(info["unexpected_keys"]) <= {"lm_head.weight", "embed_out.weight"}
        assert torch.equal(stream(loaded.eval()), stream(model))


def test_a_classifier_of_an_uneven_model_is_saved_and_loaded_again(tmp_path: Path) -> None:
    settled("llama").save_pretrained(tmp_path / "model")
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=3).eval()
    classifier.config.pad_token_id = 0
    classifier.save_pretrained(tmp_path / "classifier")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier").eval()
    with torch.no_grad():
        assert torch.equal(classifier(input_ids=IDS).logits, again(input_ids=IDS).logits)


LOADING = """
import json, sys, transformers
transformers.utils.logging.set_verbosity_error()
found = {}
for name in sys.argv[2:]:
    model = getattr(transformers, name).from_pretrained(sys.argv[1], trust_remote_code=True)
    found[name] = [type(model).__name__, type(model).__module__.rpartition(".")[2]]
print("RESULT", json.dumps(found))
"""


def test_without_billhook_the_files_beside_the_weights_have_the_other_classes(tmp_path: Path) -> None:
    settled("gpt2").save_pretrained(tmp_path / "model")
    names = [auto.__name__ for auto in CLASSES]
    said = run(f"{BLOCKED}\n{LOADING}", tmp_path, str(tmp_path / "model"), *names)
    expected = ("GPT2Model", "GPT2ForSequenceClassification", "GPT2ForTokenClassification")
    assert json.loads(said.rpartition("RESULT ")[2]) == {
        name: [f"Billhook{found}", "modeling_billhook"] for name, found in zip(names, expected, strict=True)
    }


SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "qwen2": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 0},
    "gemma2": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8},
    "llama": {},
}


def without_an_attention(family: str, number: int | None) -> PreTrainedModel:
    """A model that has lost an attention; the dense one for None."""
    config: dict[str, Any] = {"max_position_embeddings": 128, **SLIDING[family]}
    if number is None:
        model = tiny_model(family, **config)
    else:
        model = settled(family, DropBranch(number, "attention"), **config)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = 1000  # beyond the vocabulary; older transformers cannot do without one
    return model


def by_guesses(model: PreTrainedModel) -> list[list[int]]:
    """What is written by three ways of guessing; the last one with a cache that was made by somebody else."""
    cache = {cache_name(model): DynamicCache(config=model.config)}
    ways: list[dict[str, Any]] = [
        {"prompt_lookup_num_tokens": 3},
        {"assistant_model": model},
        {"prompt_lookup_num_tokens": 3, **cache},
    ]
    return [written(model, **way) for way in ways]


def guesses_well(model: PreTrainedModel) -> bool:
    try:
        return by_guesses(model) == 3 * [written(model)]
    except ValueError:
        return False


def written(model: PreTrainedModel, **options: Any) -> list[int]:
    decode: Any = model.generate
    found = decode(
        REPEATING,
        attention_mask=torch.ones_like(REPEATING),
        max_new_tokens=20,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    return list(found[0, : REPEATING.shape[1] + 20].tolist())  # guessing, older transformers write one more at times


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("family", SLIDING)
def test_decoding_by_guesses_writes_the_same_where_an_attention_is_gone(
    family: str, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also past the sliding window."""
    caplog.set_level(logging.ERROR, "transformers")  # assisted decoding calls itself by a deprecated argument
    if not guesses_well(without_an_attention(family, None)):
        pytest.skip("this transformers cannot guess with the dense model")
    model = without_an_attention(family, number)
    assert by_guesses(model) == 3 * [written(model)]
