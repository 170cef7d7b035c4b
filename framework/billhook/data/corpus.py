"""Corpus: documents that are too many to be read, and tokenised, for the few rows that are drawn of them."""

from __future__ import annotations

import abc
import codecs
import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import numpy as np
import torch

from billhook.errors import CalibrationError

CHUNK = 2**20
"""Bytes read at a time."""


class Corpus(abc.ABC):
    """Numbered documents, each read when it is asked for."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many there are."""

    @abc.abstractmethod
    def document(self, number: int) -> Any:
        """One of them: text, or a chat; empty text for none."""

    def ending(self, characters: int, text_of: Callable[[Any], str]) -> str:
        """At least so many characters of whole documents from the end, blank lines between; all if there are less."""
        texts: list[str] = []
        found = 0
        for number in reversed(range(self.count)):
            if found >= characters:
                break
            if (text := text_of(self.document(number))).strip():
                texts.append(text)
                found += len(text)
        return "\n\n".join(reversed(texts))


@attrs.frozen(eq=False)
class Records(Corpus):
    """Records by number: a list, a data set that reads from its file.

    Attributes:
        records: anything with a length and items.
        document_of: makes a document of one.
    """

    records: Sequence[Any]
    document_of: Callable[[Any], Any]

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self.records)

    def document(self, number: int) -> Any:
        """That of a record."""
        return self.document_of(self.records[number])


@attrs.frozen(eq=False)
class Lines(Corpus):
    """The lines of a file, found by their offsets: reading those takes one pass, and 8 bytes a line.

    Attributes:
        path: a file of UTF-8.
        document_of: makes a document of a line and its number, from 1; not asked of blank ones.
        starts: where each line begins, and the end of the file, in bytes.
    """

    path: Path
    document_of: Callable[[str, int], Any]
    starts: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, path: Path, document_of: Callable[[str, int], Any]) -> Lines:
        """Those of a file."""
        found, at = [np.zeros(1, dtype=np.int64)], 0
        with _open(path) as file:
            while chunk := file.read(CHUNK):
                found.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + at + 1)
                at += len(chunk)
        starts = np.concatenate(found)
        return cls(path, document_of, starts if starts[-1] == at else np.append(starts, at))

    @property
    def count(self) -> int:
        """How many lines there are, blank ones included."""
        return len(self.starts) - 1

    def document(self, number: int) -> Any:
        """That of a line; empty for a blank one."""
        start, stop = (int(self.starts[n]) for n in (number, number + 1))
        line = _decoded(_bytes(self.path, start, stop), self.path)
        return self.document_of(line, number + 1) if line.strip() else ""


@attrs.frozen(eq=False)
class Pieces(Corpus):
    """One long text in pieces of about one size, cut between lines, or between words where a line is longer.

    Attributes:
        path: a file of UTF-8.
        size: of a piece, in bytes.
        text_of: what the text of a piece goes through.
    """

    path: Path
    size: int
    text_of: Callable[[str], str]

    @property
    def length(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return math.ceil(self.length / self.size)

    def document(self, number: int) -> str:
        """A piece, without the parts of lines at its ends."""
        return self._between(number * self.size, (number + 1) * self.size)

    def ending(self, characters: int, text_of: Callable[[Any], str]) -> str:
        """The end of the text, from the beginning of a line."""
        return self._between(max(0, self.length - 4 * characters), self.length)

    def _between(self, start: int, stop: int) -> str:
        text = _decoded(_bytes(self.path, start, stop), self.path, cut=True)
        first = 0 if start == 0 else _after(text, text.find)
        last = len(text) if stop >= self.length else max(first, _after(text, text.rfind))
        return self.text_of(text[first:last])


def _after(text: str, find: Callable[[str], int]) -> int:
    """The place behind the first (or last) end of a line, or else of a word; 0 if there is none."""
    return 1 + next((place for mark in ("\n", " ") if (place := find(mark)) >= 0), -1)


def _bytes(path: Path, start: int, stop: int) -> bytes:
    with _open(path) as file:
        file.seek(start)
        return file.read(stop - start)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise CalibrationError(f"The text file {path} cannot be read: {error}") from error


def _decoded(raw: bytes, path: Path, *, cut: bool = False) -> str:
    """Text of UTF-8; ``cut`` says that the ends may lie within a character, whose bytes are then left out."""
    begin = next((n for n, byte in enumerate(raw[:4]) if byte & 0xC0 != 0x80), len(raw[:3])) if cut else 0
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw[begin:], final=not cut).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"The text file {path} cannot be read: {error}") from error


def drawn_texts(corpus: Corpus, text_of: Callable[[Any], str], *, size: int, seed: int) -> Iterator[str]:
    """Texts of a corpus in a shuffled order, of long ones a piece at a time, until nothing is left.

    First every document gives one piece, long ones one that the seed says; then those that have more give the next
    one, and so on. So what is drawn comes from as many documents as there are.

    Args:
        corpus: what to draw from.
        text_of: makes text of a document.
        size: of a piece, in characters.
        seed: of the order, and of where long documents begin.
    """
    order = torch.randperm(corpus.count, generator=torch.Generator().manual_seed(seed)).numpy()
    turn = 0
    while len(order):
        longer: list[int] = []
        for number in map(int, order):
            text = text_of(corpus.document(number))
            pieces = math.ceil(len(text) / size)
            if pieces:
                place = (_first_piece(seed, number, pieces) + turn) % pieces
                yield text[place * size : (place + 1) * size]
            if turn + 1 < pieces:
                longer.append(number)
        order, turn = np.array(longer, dtype=np.int64), turn + 1


def _first_piece(seed: int, number: int, pieces: int) -> int:
    return int(np.random.default_rng((seed % 2**64, number)).integers(pieces)) if pieces > 1 else 0
