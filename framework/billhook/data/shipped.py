"""The texts that come with billhook: several kinds, for calibration without a download."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

import attrs

from billhook.data.blend import allocate
from billhook.data.pool import Pool
from billhook.data.text_layout import TextLayout
from billhook.data.text_source import Document
from billhook.data.tokens import TokenBatch, Tokens
from billhook.errors import CalibrationError, did_you_mean

TEXTS = "texts"
"""The source that is all of them; ``texts:web`` and the like are one kind of them."""

KINDS = {
    "encyclopedia": ("encyclopedia.txt", 6),
    "web": ("web.txt", 6),
    "instructions": ("instructions.jsonl", 6),
    "dialogue": ("dialogue.jsonl", 1),
    "stories": ("stories.txt", 1),
    "code": ("code.txt", 1),
    "languages": ("languages.txt", 1),
}
"""Kinds of text, the file of each, and its weight: so many rows it gives beside those of the others.

``texts/README.md`` says where they come from. By weight and not by length: what a tokenizer was not made for takes it
many tokens, so twenty short texts in other scripts would be a quarter of all rows."""

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


def shipped_pool(kinds: Sequence[str], layout: TextLayout, name: str, seed: int) -> Pool:
    """Rows of these kinds, by their weights, in one shuffled order.

    Kinds are laid out apart, so that no row is half a chat in its template and half a story. One that does not fill a
    row is left out; where one has too few, the others make up for it.

    Raises:
        CalibrationError: none fills a row.
    """
    pools, weights, error = [], [], None
    for kind in kinds:
        try:
            pools.append(Pool.of_rows(_rows(kind, layout), kind, seed))
            weights.append(KINDS[kind][1])
        except CalibrationError as too_short:
            error = too_short
    if error is not None and not pools:
        raise error

    def draw(count: int) -> Tokens:
        counts = allocate(count, weights, [pool.count for pool in pools])
        drawn = [pool.draw(rows) for pool, rows in zip(pools, counts, strict=True) if rows]
        rows = Tokens.from_batches([TokenBatch(part.ids, part.keep) for part in drawn])
        return Pool.of_rows(rows, name, seed).draw(len(rows.ids))

    return Pool(name=name, count=sum(pool.count or 0 for pool in pools), draw=draw)


def _rows(kind: str, layout: TextLayout) -> Tokens:
    """All rows of a kind. Chats go through the tokenizer's chat template, if it has one: that is how a model that was
    tuned on chats sees them."""
    chats = KINDS[kind][0].endswith(".jsonl") and bool(getattr(layout.tokenizer, "chat_template", None))
    apart = attrs.evolve(layout, chat_template=layout.chat_template or chats)
    return apart.rows(shipped(kind), f"{TEXTS}:{kind}")


def shipped(kind: str) -> list[Document]:
    """The documents of one of :data:`KINDS`: plain texts, or chats of messages."""
    name, _ = KINDS[kind]
    text = files("billhook.data").joinpath("texts", name).read_text(encoding="utf-8")
    if name.endswith(".jsonl"):
        return [json.loads(line)["messages"] for line in text.split("\n") if line]
    return [document.strip("\n") for document in text.split(BETWEEN)]
