"""What a checkpoint consists of: the files that billhook and transformers write, by which overwriting knows its own."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

from billhook.files.lock import why_not_plain

RECORD = "billhook.json"
"""Beside the weights: plan, figures, versions and hashes."""

CARD = "README.md"

CODE = ("configuration_billhook.py", "modeling_billhook.py")

NAMED = 3
"""Foreign files that are looked for at most: a project has thousands."""

_ALWAYS = re.compile(
    r"""(?x)
    (generation_)?config\.json
    | (model|pytorch_model)(-\d{5}-of-\d{5})?\.(safetensors|bin)
    | (model\.safetensors|pytorch_model\.bin)\.index\.json
    | tokenizer\.(json|model) | (tokenizer|processor)_config\.json
    | (special_tokens_map|added_tokens|vocab|chat_template)\.json
    | vocab\.(txt|bpe) | merges\.txt | (spiece|sentencepiece\.bpe)\.model | chat_template\.jinja
    """
)
"""Names that ``save_pretrained`` of models and tokenizers gives."""

TEMPLATES = "additional_chat_templates"
"""The one folder that it makes: of a tokenizer with several chat templates."""


def why_no_checkpoint(folder: Path) -> str | None:
    """What speaks against ``folder`` being a checkpoint that billhook or transformers wrote, and nothing more.

    None if nothing does, or if it is empty. It is one if ``config.json`` is a model's (it says ``model_type`` or
    ``architectures``, and which transformers wrote it), and all else has names that those two give: weights, config,
    tokenizer; a card, the record and the code for models of the type ``billhook`` only where billhook wrote it.
    """
    if not any(folder.iterdir()):
        return None
    config = _json(folder / "config.json")
    if "transformers_version" not in config or not config.keys() & {"model_type", "architectures"}:
        return "it has no config.json of a model"
    strange = foreign_files(folder)
    if not strange:
        return None
    more = " and more" if len(strange) > NAMED else ""
    return f"it also holds {', '.join(repr(name) for name in strange[:NAMED])}{more}"


def foreign_files(folder: Path) -> list[str]:
    """Names in a checkpoint's folder that neither billhook nor transformers has given; a few, if there are many."""
    names = _own_names(folder)
    found: list[str] = []
    for entry in sorted(folder.iterdir()):
        if len(found) > NAMED:
            break
        if entry.name == TEMPLATES and stat.S_ISDIR(entry.lstat().st_mode):
            found += [f"{TEMPLATES}/{file.name}" for file in sorted(entry.iterdir()) if not _is_template(file)]
        elif why_not_plain(entry.lstat().st_mode) or not (entry.name in names or _ALWAYS.fullmatch(entry.name)):
            found.append(entry.name)
    return found


def remove_checkpoint(folder: Path) -> bool:
    """Delete a checkpoint file by file, only those that are known; False if something is left.

    Those by which the others are known go last, so that whoever is killed in between can be followed by another.
    """
    names, telling = _own_names(folder), (RECORD, "config.json")
    files = [*folder.glob(f"{TEMPLATES}/*"), *folder.iterdir()]
    for file in sorted(files, key=lambda file: telling.index(file.name) if file.name in telling else -1):
        plain = why_not_plain(file.lstat().st_mode) is None
        if plain and (_ALWAYS.fullmatch(file.name) or file.name in names or _is_template(file)):
            file.unlink()
    try:
        if (folder / TEMPLATES).is_dir():
            (folder / TEMPLATES).rmdir()
        folder.rmdir()
    except OSError:  # not empty
        return False
    return True


def _own_names(folder: Path) -> set[str]:
    """Further names that billhook has given, if it wrote the checkpoint."""
    ours = {RECORD, CARD} if "plan" in _json(folder / RECORD) else set()
    return ours | (set(CODE) if _json(folder / "config.json").get("model_type") == "billhook" else set())


def _is_template(file: Path) -> bool:
    return file.parent.name == TEMPLATES and file.suffix == ".jinja" and why_not_plain(file.lstat().st_mode) is None


def _json(file: Path) -> dict[str, Any]:
    """The object in a file; an empty one if there is none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
