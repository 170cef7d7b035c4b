"""The one place where JSON that somebody else may have written is read: strictly, and in bounded time and memory."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 64 * 2**20
"""Of one file. A plan that keeps other channels in each of a hundred layers has a few hundred thousand."""

DEEPEST = 64
"""Lists and objects within one another; a plan has six."""

LARGEST = 2**63
"""Integers lie below it in size, as those of tensors do."""


class BadJson(ValueError):
    """Text that is no JSON, or none that anybody here would write; its text says why, as a clause."""


def content_of(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file.

    Raises:
        BadJson: there is none, or it cannot be read, is no regular file, has more than ``most`` bytes, or is not UTF-8.
    """
    return decoded(bytes_of(path, most))


def bytes_of(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file; raises like :func:`content_of`."""
    try:
        # asked before opening: a pipe that nobody writes to would never open, and a device never end
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadJson("it is no regular file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise BadJson(error.strerror or type(error).__name__) from error
    except ValueError as error:  # a name with a null character in it
        raise error if isinstance(error, BadJson) else BadJson("there is no such file") from error
    if len(data) > most:
        raise BadJson(f"it has more than {most:,} bytes")
    return data


def decoded(data: bytes) -> str:
    """UTF-8 as text; raises :class:`BadJson`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not UTF-8 (byte {error.start})") from error


def parsed(text: str, *, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        text: of a file.
        finite: refuse NaN and infinity, which JSON has no words for and Python writes all the same.

    Raises:
        BadJson: it is no JSON, or has numbers of more than 64 bits, a key twice in an object, halves of characters
            (lone surrogates), or more than :data:`DEEPEST` lists and objects within one another.
    """
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_float if finite else float,
            parse_constant=_no_number if finite else float,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise BadJson(f"it is nested more than {DEEPEST} deep") from None
    except json.JSONDecodeError as error:
        raise BadJson(f"not even JSON ({error})") from error
    _walk(value)
    return value


def _walk(value: Any) -> None:
    """Refuse what is nested too deeply, and texts that no file can hold. Without recursion, for deep values."""
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        entry, depth = waiting.pop()
        if isinstance(entry, str):
            _refuse_surrogates(entry)
        elif isinstance(entry, list | dict):
            if depth > DEEPEST:
                raise BadJson(f"it is nested more than {DEEPEST} deep")
            inner = [*entry, *entry.values()] if isinstance(entry, dict) else entry
            waiting += [(part, depth + 1) for part in inner if isinstance(part, str | list | dict)]


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadJson(f"a text has half a character (a lone surrogate, {text[error.start]!r})") from error


def _integer(digits: str) -> int:
    # by length first: Python refuses to read thousands of digits, with an error of its own
    if len(digits) > 20 or not -LARGEST <= (number := int(digits)) < LARGEST:
        raise BadJson(f"{digits[:20]}{'…' if len(digits) > 20 else ''} has more than 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


def _no_number(word: str) -> NoReturn:
    raise BadJson(f"{word[:20]} is no number")


def _object(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise BadJson(f"{twice[:80]!r} stands twice in one object")
    return made
