"""Pool: what the rows of one source of calibration data are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import torch

from billhook.data.tokens import Tokens


@attrs.frozen(kw_only=True)
class Pool:
    """Rows of one source, read or still to be written.

    Attributes:
        name: what to call the source.
        count: how many rows there are; None for as many as anybody wants.
        draw: gives that many rows, at least one and at most ``count``; the same ones each time.
    """

    name: str
    count: int | None
    draw: Callable[[int], Tokens]

    @classmethod
    def of_drawn(cls, tokens: Tokens, name: str) -> Pool:
        """Rows that were drawn in a random order already, as many as anybody may want."""

        def draw(count: int) -> Tokens:
            return Tokens(ids=tokens.ids[:count], keep=tokens.keep[:count], source=name)

        return cls(name=name, count=len(tokens.ids), draw=draw)

    @classmethod
    def of_rows(cls, tokens: Tokens, name: str, seed: int) -> Pool:
        """Rows that are there; ``seed`` says in which order they are drawn."""

        def draw(count: int) -> Tokens:
            order = torch.randperm(len(tokens.ids), generator=torch.Generator().manual_seed(seed))[:count]
            return Tokens(ids=tokens.ids[order], keep=tokens.keep[order], source=name)

        return cls(name=name, count=len(tokens.ids), draw=draw)
