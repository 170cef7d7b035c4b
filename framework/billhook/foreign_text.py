"""Foreign text made harmless: what comes from files, models, plans, plugins and the file system is data, never control.

Whoever prints, logs or writes such text does it through one of these functions. Most need not think of it: errors,
log messages, everything on a console of the command line, and printed plans go through :func:`harmless` already.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000
"""Characters of an error's text: nobody reads more, and a damaged file must not fill a screen."""

_DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control characters (among them the escape that begins terminal sequences), formatting (bidi
overrides, tags), halves of surrogate pairs, separators of lines and paragraphs."""

_JOINERS = "\u200c\u200d"
"""Formatting that scripts and emojis need; it turns no line around."""

_MARKUP = re.compile(r"[\\`*_\[\]|~$@#]|:(?=//|\w+:)|(?<=\bwww)\.", re.IGNORECASE)
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def harmless(text: str, *, lines: bool = False) -> str:
    r"""``text`` with every character that controls a terminal or a line's direction written out, as ``\x1b``.

    Args:
        text: from anywhere.
        lines: leave line breaks and tabs as they are.
    """
    if text.isprintable():
        return text
    kept = _JOINERS + ("\n\t" if lines else "")
    return "".join(char if char in kept or char.isprintable() else _written_out(char) for char in text)


def shortened(text: str, most: int = LONGEST) -> str:
    """``text`` without its middle if it has more than ``most`` characters: the end often says what to do."""
    if len(text) <= most:
        return text
    left, right = most * 2 // 3 - 50, most // 3  # less than the words about it take
    return f"{text[:left]} … ({len(text) - left - right:,} characters left out) … {text[-right:]}"


def markdown(text: str) -> str:
    """``text`` as it is to be read, in one line of Markdown or a cell of its tables: no markup, no HTML, no links."""
    return _MARKUP.sub(r"\\\g<0>", harmless(text)).translate(_ENTITIES)


def fenced(text: str) -> list[str]:
    """The lines of a block of code in Markdown that holds ``text`` and ends where it ends."""
    clean = harmless(text, lines=True)
    longest = max((len(run) for run in re.findall("`+", clean)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, clean, fence]


def _written_out(char: str) -> str:
    if unicodedata.category(char) not in _DANGEROUS:
        return char
    code = ord(char)
    if char in "\n\t\r":
        return {"\n": r"\n", "\t": r"\t", "\r": r"\r"}[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
