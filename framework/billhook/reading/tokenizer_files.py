"""Tokenizers: read, or why they cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from billhook.errors import ModelNotFound, UnusableModel, is_out_of_memory
from billhook.reading.one_line import reason, unloadable

WAY_OUT = "Name a model or folder that has it: --tokenizer FOLDER, billhook.load(..., tokenizer=FOLDER)."


def read_tokenizer(name: str, place: str, options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer of the model ``name`` at ``place``, a folder or hub name.

    Raises:
        ModelNotFound: there is none, it knows no tokens, or it cannot be read.
        UnusableModel: it needs packages that are not installed.
    """
    try:
        loaded = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(place, **options))
    except Exception as error:  # whatever its files make transformers raise
        if is_out_of_memory(error):
            raise
        if "Class validation error" in str(error):  # of a GGUF file's config, which is read with its tokenizer
            raise unloadable(name, error) from error
        _refuse_sentencepiece(name, place, error)
        if isinstance(error, ImportError):
            raise UnusableModel(f"The tokenizer of {name} needs a package: {reason(error)}") from error
        known = "backend tokenizer" in str(error)  # transformers then explains, over many lines, how to convert one
        why = "its vocabulary files are missing" if known else reason(error)
        raise ModelNotFound(f"The model {name} has no usable tokenizer: {why.rstrip('.')}. {WAY_OUT}") from error
    if not set(loaded.get_vocab()) - set(
        cast("dict[str, int]", loaded.added_tokens_encoder)
    ):  # transformers makes an empty one up
        raise ModelNotFound(f"The model {name} has no usable tokenizer: its vocabulary files are missing. {WAY_OUT}")
    return loaded


def _refuse_sentencepiece(name: str, place: str, error: Exception) -> None:
    """transformers names tiktoken where a SentencePiece model alone is there, which could not read it either."""
    folder = Path(place)
    if folder.is_dir():
        pieces = any(folder.glob("*.model")) and not (folder / "tokenizer.json").is_file()
    else:
        pieces = any(word in str(error).lower() for word in ("sentencepiece", "tiktoken", "protobuf"))
    missing = [package for package, module in _PACKAGES.items() if not _is_here(module)]
    if missing and pieces:
        raise UnusableModel(
            f"The tokenizer of {name} is a SentencePiece model, which takes the packages sentencepiece and protobuf: "
            f"pip install sentencepiece protobuf (not here: {' and '.join(missing)})."
        ) from error


_PACKAGES = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is not there
        return False
