"""Numbers as runs, so that a plan file shows thousands of kept channels in a line: ``0:5 7 9:12``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from billhook.errors import InvalidPlan

MOST = 1_000_000
"""Numbers in one text. No branch has nearly as many units; a damaged file must not fill the memory."""

_RUN = re.compile(r"(\d{1,9})(?::(\d{1,9}))?", re.ASCII)


def to_runs(numbers: Iterable[int]) -> str:
    """Numbers of 0 or more as half-open runs separated by blanks; one that stands alone as itself."""
    # within a run, number minus position stays the same
    groups = itertools.groupby(enumerate(numbers), key=lambda item: item[1] - item[0])
    return " ".join(_run([number for _, number in group]) for _, group in groups)


def from_runs(text: str) -> tuple[int, ...]:
    """The inverse of :func:`to_runs`.

    Raises:
        InvalidPlan: a part is neither a number nor a run of at least one, or there are more than :data:`MOST` numbers.
    """
    ranges = [_range(part) for part in text.split()]
    if sum(map(len, ranges)) > MOST:
        raise InvalidPlan(f"These runs hold more than {MOST:,} numbers; no branch has so many units.")
    return tuple(itertools.chain.from_iterable(ranges))


def count_runs(text: str) -> int:
    """How many numbers :func:`from_runs` gives; what is no run counts none. Makes no list of them."""
    found = map(_RUN.fullmatch, text.split())
    spans = ((int(m[1]), int(m[2]) if m[2] else int(m[1]) + 1) for m in found if m is not None)
    return sum(max(0, stop - first) for first, stop in spans)


def _run(numbers: list[int]) -> str:
    first, stop = numbers[0], numbers[-1] + 1
    return str(first) if len(numbers) == 1 else f"{first}:{stop}"


def _range(part: str) -> range:
    match = _RUN.fullmatch(part)
    first, stop = (None, None) if match is None else match.groups()
    found = range(0) if first is None else range(int(first), int(first) + 1 if stop is None else int(stop))
    if not found:
        raise InvalidPlan(f"{part!r} is no run of numbers: write 7, or 9:12 for 9, 10 and 11.")
    return found
