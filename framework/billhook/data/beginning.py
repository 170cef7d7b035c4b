"""What a tokenizer puts before a text, and rows that begin with it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from billhook.data.encoding import encode
from billhook.errors import CalibrationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRIED = ("a", "A", "0", "的", " ")
"""Texts of which one has a token in any tokenizer: some know no small letters (proteins), some no letters at all."""


def beginning_of(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that the tokenizer puts before every text by itself, ``<bos>`` as a rule; empty if it puts none.

    Seen from what it does, and not from its ``bos_token``: many have one and never use it.
    """
    whole: list[int] = []
    for text in TRIED:
        bare, whole = (encode([text], tokenizer, special=special)[0] for special in (False, True))
        starts = range(len(whole) - len(bare) + 1)
        if bare and (found := [at for at in starts if whole[at : at + len(bare)] == bare]):
            return tuple(whole[: found[0]])
    return tuple(takewhile(lambda token: token == tokenizer.bos_token_id, whole))


def begun_rows(ids: Tensor, start: tuple[int, ...], seqlen: int) -> Tensor:
    """A text cut into full rows that begin with ``start``; the rest at its end is dropped.

    Args:
        ids: the text, ``[tokens]`` int64, without special tokens of the tokenizer.
        start: what each row begins with. Where the text has it at that place already, it is not doubled.
        seqlen: tokens in a row, ``start`` included.

    Returns:
        ``[rows, seqlen]`` int64; no rows where the text does not fill one.

    Raises:
        CalibrationError: ``start`` leaves no room.
    """
    refuse_no_room(start, seqlen)
    if not start:
        count = len(ids) // seqlen
        return ids[: count * seqlen].view(count, seqlen)
    return torch.stack(rows) if (rows := list(_begun(ids, torch.tensor(start), seqlen))) else ids.new_empty(0, seqlen)


def refuse_no_room(start: tuple[int, ...], seqlen: int) -> None:
    """Raise :class:`CalibrationError` if rows hold nothing besides their beginning."""
    if len(start) >= seqlen:
        raise CalibrationError(
            f"The tokenizer puts {len(start)} tokens before a text, which leaves no room in rows of {seqlen}: give a "
            f"larger seqlen, or begin=False (--no-begin)."
        )


def _begun(ids: Tensor, start: Tensor, seqlen: int) -> Iterator[Tensor]:
    at = 0
    while True:
        begun = torch.equal(ids[at : at + len(start)], start)
        stop = at + seqlen - (0 if begun else len(start))
        if stop > len(ids):
            return
        yield ids[at:stop] if begun else torch.cat([start, ids[at:stop]])
        at = stop
