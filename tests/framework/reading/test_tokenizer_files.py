"""Tokenizers of all sorts: those that know no English word work, and those that cannot be read say how to go on."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from billhook import load
from billhook.errors import ModelNotFound, UnusableModel
from billhook.model.loading import find
from billhook.testing import save_tiny_checkpoint, tiny_tokenizer

PIECES = {name for name in ("sentencepiece", "google") if importlib.util.find_spec(name)}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A model without a tokenizer."""
    folder = save_tiny_checkpoint(tmp_path / "bare", "llama")
    for file in folder.glob("*token*"):
        file.unlink()
    return folder


@pytest.mark.parametrize("alphabet", ["ACDEFGHIKLMNPQRSTVWY", "的一是了我不人在他有这个上们来到时大地为"])
def test_an_alphabet_without_the_letters_of_english_is_a_vocabulary(bare: Path, alphabet: str) -> None:
    words = {token: number for number, token in enumerate(["<pad>", "<bos>", "<eos>", *alphabet])}
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=words, merges=[])), pad_token="<pad>")
    made.save_pretrained(bare)
    _, tokenizer = load(str(bare))
    assert tokenizer(alphabet[:3], add_special_tokens=False)["input_ids"] == [3, 4, 5]


def test_a_model_without_a_tokenizer_says_how_to_name_one(bare: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"has no usable tokenizer: .*--tokenizer FOLDER") as caught:
        load(str(bare))
    assert "\n" not in str(caught.value)
    assert find(str(bare)).tokenizer_if_any() is None


def test_a_tokenizer_can_be_taken_from_elsewhere(bare: Path, tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "words")
    _, tokenizer = load(str(bare), tokenizer=str(tmp_path / "words"))
    assert tokenizer("hello")["input_ids"] == tiny_tokenizer()("hello")["input_ids"]


def test_a_tokenizer_that_was_named_and_is_not_there_is_refused_at_once(bare: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"There is no tokenizer '\./nowhere'"):
        find(str(bare), tokenizer="./nowhere")


@pytest.mark.skipif(len(PIECES) == 2, reason="the packages that SentencePiece takes are here")
def test_a_sentencepiece_model_alone_names_both_packages_that_it_takes(bare: Path) -> None:
    (bare / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    with pytest.raises(UnusableModel, match=r"takes the packages sentencepiece and protobuf: pip install"):
        load(str(bare))


def test_a_folder_with_an_adapter_names_its_model(tmp_path: Path, bare: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/base", "peft_type": "LORA"}')
    with pytest.raises(ModelNotFound, match=r"holds a LoRA adapter for owner/base: merge it into its model first"):
        find(str(folder))
    shutil.copy(folder / "adapter_config.json", bare)
    with pytest.raises(ModelNotFound, match="LoRA adapter"):
        find(str(bare))
