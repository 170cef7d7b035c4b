"""Wrong values in config.json: the model loads and can be measured all the same, or one line says why not."""

from __future__ import annotations

import json
import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.framework.heterogeneous.uneven import settled

import billhook
from billhook.errors import BillhookError, ModelNotFound
from billhook.testing import save_tiny_checkpoint, tiny_tokenizer, tiny_tokens

COUNTS: tuple[Any, ...] = (0, -1, 10**9, 2.5, "4", None, [], {}, True, math.nan)
ANYTHING: tuple[Any, ...] = (None, "word", -1, [], {"a": 1}, math.inf)

VALUES: dict[str, tuple[Any, ...]] = {
    "model_type": (None, "", "no-such-type", "t5", 7, [], "billhook", "bert"),
    "num_hidden_layers": COUNTS,
    "hidden_size": COUNTS,
    "intermediate_size": COUNTS,
    "num_attention_heads": (*COUNTS, 3),
    "num_key_value_heads": (*COUNTS, 3),
    "head_dim": COUNTS,
    "vocab_size": COUNTS,
    "hidden_act": (*ANYTHING, "xielu2"),
    "rms_norm_eps": ANYTHING,
    "rope_theta": ANYTHING,
    "rope_parameters": (
        *ANYTHING,
        {"rope_type": "mrope"},
        {"rope_type": "linear"},
        {"rope_type": "llama3", "factor": "x"},
    ),
    "rope_scaling": (*ANYTHING, {"type": "mrope", "mrope_section": [1, 1, 2]}, {"type": "yarn", "factor": 0}),
    "max_position_embeddings": COUNTS,
    "tie_word_embeddings": ANYTHING,
    "attention_bias": ANYTHING,
    "dtype": ("float8", "int8", "word", 7, [], "float64"),
    "torch_dtype": ("word", 7),
    "attn_implementation": (*ANYTHING, "flash_attention_2", "flash_attention_3", "no-such-kernel"),
    "_attn_implementation": (*ANYTHING, "flash_attention_2", {"": "sdpa"}),
    "layer_types": (*ANYTHING, ["sliding_attention"] * 9, ["word"] * 4),
    "architectures": (*ANYTHING, ["LlamaForSequenceClassification"], ["NoSuchClass"], [7], [{}], [["Llama"]]),
    "output_attentions": (True, "word"),
    "output_hidden_states": (True,),
    "return_dict": (False, "word"),
    "use_cache": ANYTHING,
    "pad_token_id": (*ANYTHING, 10**9),
    "bos_token_id": (*ANYTHING, 10**9),
    "eos_token_id": (*ANYTHING, 10**9),
    "initializer_range": ANYTHING,
    "quantization_config": (*ANYTHING, {"quant_method": "gptq"}, {"quant_method": 7}, {"load_in_4bit": True}),
    "per_layer_config": (*ANYTHING, {"0": {"intermediate_size": 7}}, {"x": {}}),
    "auto_map": (*ANYTHING, {"AutoConfig": "code.C"}),
    "attribute_map": ANYTHING,
    "transformers_version": ANYTHING,
    "id2label": ANYTHING,
    "num_labels": ANYTHING,
    "pruned_heads": (*ANYTHING, {"0": [0]}),
    "chunk_size_feed_forward": ANYTHING,
    "is_encoder_decoder": (True,),
    "__class__": ("word",),
}
"""By key of a Llama's config, what it must not be, and some that it may."""

UNEVEN: dict[str, tuple[Any, ...]] = {
    "billhook": (*ANYTHING, {}, {"base": "no-such"}, {"base": "billhook"}, {"base": ["llama"]}),
    "billhook.base": (*ANYTHING, "gpt2", "t5"),
    "billhook.layout": (*ANYTHING, {"layers": "nowhere"}),
    "billhook.layout.layers": (*ANYTHING, "lm_head"),
    "billhook.layout.attention": (*ANYTHING, {}),
    "billhook.layout.mlp": (*ANYTHING, {"module": "mlp"}),
    "billhook.layout.mlp.writer": (*ANYTHING, "mlp"),
    "billhook.layout.mlp.readers": (*ANYTHING, ["nowhere"], ["self_attn.q_proj"]),
    "billhook.numbers": (*ANYTHING, [0], [3, 2, 1, 0], [0, 0, 1, 2], [10**9] * 4),
    "billhook.inserted": (*ANYTHING, {"99": {"mlp": True}}, {"0": {"nowhere": True}}, {"x": 1}),
    "per_layer_config": (*ANYTHING, {"0": "word"}, {"99": {}}, {"0": {"skip": "attention"}}, {"0": {"skip": ["word"]}}),
    "per_layer_config.1": ({"intermediate_size": -1}, {"intermediate_size": "x"}, {"num_attention_heads": 0}),
    "num_hidden_layers": (0, 3, 5),
}
"""The same for a model of the type ``billhook``, whose config says where its parts are."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("configs") / "good", "llama")


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("configs") / "uneven"
    settled("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def changed(folder: Path, to: Path, key: str, value: object) -> Path:
    """A copy of a checkpoint whose config has another value at the dotted ``key``."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).symlink_to(file)
    config = json.loads((folder / "config.json").read_text())
    *path, last = key.split(".")
    inner = config
    for name in path:
        inner = inner[name]
    inner[last] = value
    (to / "config.json").unlink()
    (to / "config.json").write_text(json.dumps(config))
    return to


def works_or_says_why(folder: Path) -> str:
    """``"loaded"`` if the model can be measured, else the one line of the error; any other error comes through."""
    try:
        model, _ = billhook.load(str(folder))
        billhook.evaluate(model, None, tiny_tokens(2, 8))
        billhook.default_registry().view(model)
    except BillhookError as error:
        said = str(error)
    else:
        said = "loaded"
    assert "\n" not in said
    return said


QUICK = 4
"""Values of a key that are tried in every run of the tests; the others are slow together."""


def cases(values: dict[str, tuple[Any, ...]]) -> list[Any]:
    return [
        pytest.param(key, value, id=f"{key}={value!r:.40}", marks=[pytest.mark.slow] if number >= QUICK else [])
        for key, given in values.items()
        for number, value in enumerate(given)
    ]


@pytest.mark.parametrize(("key", "value"), cases(VALUES))
def test_a_bad_value_is_one_line_or_does_no_harm(good: Path, tmp_path: Path, key: str, value: object) -> None:
    assert works_or_says_why(changed(good, tmp_path / "model", key, value))


@pytest.mark.parametrize(("key", "value"), cases(UNEVEN))
def test_a_bad_value_of_an_uneven_model_is_one_line_or_does_no_harm(
    uneven: Path, tmp_path: Path, key: str, value: object
) -> None:
    assert works_or_says_why(changed(uneven, tmp_path / "model", key, value))


def test_the_tables_of_this_page_are_long_enough() -> None:
    quick = [case for values in (VALUES, UNEVEN) for case in cases(values) if not case.marks]
    assert len(quick) >= 95
    assert len(cases(VALUES)) >= 95
    assert len(cases(UNEVEN)) >= 24


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "7", '"word"', "{", "\ufeff{}", "{}" * 2, "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"]
)
def test_a_config_that_is_no_object_is_one_line(good: Path, tmp_path: Path, text: str) -> None:
    folder = changed(good, tmp_path / "model", "vocab_size", 64)
    (folder / "config.json").write_text(text)
    assert "cannot be loaded" in works_or_says_why(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
@pytest.mark.parametrize(
    "value",
    [
        "kernels-community/flash-attn3",
        "paged|owner/kernel",
        "owner/kernel@v1:forward",
        {"": "owner/kernel"},
        {"a": {"b": "o/k"}},
    ],
)
def test_a_kernel_from_a_hub_is_refused_as_remote_code_is(good: Path, tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ModelNotFound, match=r"asks for a kernel from a hub .*which is code, and billhook runs none"):
        billhook.load(str(changed(good, tmp_path / "model", key, value)))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_flash_attention_was_a_wish_of_another_machine(good: Path, tmp_path: Path, key: str) -> None:
    model, _ = billhook.load(str(changed(good, tmp_path / "model", key, "flash_attention_2")))
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("key", "value"), [("output_attentions", True), ("output_hidden_states", True), ("return_dict", False)]
)
def test_what_forward_returned_elsewhere_changes_nothing(good: Path, tmp_path: Path, key: str, value: bool) -> None:
    model, _ = billhook.load(str(changed(good, tmp_path / "model", key, value)))
    ids = tiny_tokens(1, 8).ids
    with torch.no_grad():
        assert set(model(input_ids=ids, use_cache=False)) == {"logits"}


def test_a_number_of_layers_beyond_all_reason_is_refused_before_they_are_built(good: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"promises 1000000000 layers \(num_hidden_layers\); at most 10,000"):
        billhook.load(str(changed(good, tmp_path / "model", "num_hidden_layers", 10**9)))


class Rude:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_pickle_that_would_run_code_is_one_line_and_runs_none(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({**weights, "rude": Rude(tmp_path / "ran")}))
    assert "cannot be loaded" in works_or_says_why(folder)
    assert not (tmp_path / "ran").exists()
