"""The texts that come with billhook: several kinds, for calibration without a download."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

import attrs

from billhook.data.text_layout import TextLayout
from billhook.data.text_source import Document
from billhook.data.tokens import TokenBatch, Tokens
from billhook.errors import CalibrationError, did_you_mean

TEXTS = "texts"
"""The source that is all of them; ``texts:web`` and the like are one kind of them."""

KINDS = {
    "encyclopedia": "encyclopedia.txt",
    "web": "web.txt",
    "dialogue": "dialogue.jsonl",
    "stories": "stories.txt",
    "code": "code.txt",
    "languages": "languages.txt",
}
"""Kinds of text, and the file of each; ``texts/README.md`` says where they come from."""

BETWEEN = "\n%%\n"
"""What stands between the documents of a file of plain text."""


def kinds_of(source: object) -> tuple[str, ...]:
    """The kinds that a source names: all for ``texts``, one for ``texts:KIND``; none if it is another source.

    Raises:
        CalibrationError: there is no such kind.
    """
    if source == TEXTS:
        return tuple(KINDS)
    if not isinstance(source, str) or not source.startswith(f"{TEXTS}:"):
        return ()
    kind = source.removeprefix(f"{TEXTS}:")
    if kind not in KINDS:
        raise CalibrationError(
            f"There is no kind {kind!r} of the texts that come with billhook.{did_you_mean(kind, KINDS)} "
            f"There are: {', '.join(KINDS)}."
        )
    return (kind,)


def shipped_rows(kinds: Sequence[str], layout: TextLayout) -> Tokens:
    """Rows of each kind, one kind after the other.

    Chats go through the tokenizer's chat template, if it has one: that is how a model that was tuned on chats sees
    them. Kinds are laid out apart, so that no row is half a chat in its template and half a story; a kind that does
    not fill a row is left out.

    Raises:
        CalibrationError: none fills a row.
    """
    parts, error = [], None
    for kind in kinds:
        chats = kind == "dialogue" and bool(getattr(layout.tokenizer, "chat_template", None))
        apart = attrs.evolve(layout, chat_template=layout.chat_template or chats)
        try:
            parts.append(apart.rows(shipped(kind), f"{TEXTS}:{kind}"))
        except CalibrationError as too_short:
            error = too_short
    if error is not None and not parts:
        raise error
    return Tokens.from_batches([TokenBatch(part.ids, part.keep) for part in parts])


def shipped(kind: str) -> list[Document]:
    """The documents of one of :data:`KINDS`: plain texts, or chats of messages."""
    file = files("billhook.data").joinpath("texts", KINDS[kind])
    text = file.read_text(encoding="utf-8")
    if KINDS[kind].endswith(".jsonl"):
        return [json.loads(line)["messages"] for line in text.split("\n") if line]
    return [document.strip("\n") for document in text.split(BETWEEN)]
