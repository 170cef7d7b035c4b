"""Prose: docstrings as Markdown, in lines of at most :data:`WIDTH` columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

WIDTH = 100
"""Columns of a line of prose, here and in every page that people write."""

Links = Mapping[str, str]
"""Where each public name has its entry: a page and its heading, as a link from a page beside it."""

_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_NAMES = re.compile(r"((?:[\w.]+(?:, )?)+): ")
_ROLE = re.compile(r":(\w+):`~?([\w.]+)`")
_MARK = re.compile(r"[-+*>|=]+|\d+[.)]|#.*|>.*|\|.*")
"""What must not come to stand at the beginning of a line: Markdown would take it for a list, a quotation, a heading."""


def markdown(docstring: str, links: Links, *, indent: int = 0) -> str:
    """A docstring as Markdown, ``indent`` columns in: sections become lists, ``::`` and what follows it code."""
    text = "\n\n".join(_block(lines, links, WIDTH - indent) for lines in _blocks(_sections(docstring, links)))
    return indented(text, indent)


def filled(text: str, first: str = "", rest: str | None = None, *, width: int = WIDTH) -> str:
    """``text`` as one paragraph; ``first`` stands before its first line, ``rest`` (blanks if None) before others."""
    rest = " " * len(first) if rest is None else rest
    lines: list[list[str]] = [[]]
    for word in _words(text):
        before = first if len(lines) == 1 else rest
        if not lines[-1] or len(before + " ".join([*lines[-1], word])) <= width:
            lines[-1].append(word)
            continue
        opening = [word]
        while _MARK.fullmatch(opening[0]) and len(lines[-1]) > 1:  # it takes the word before it along
            opening.insert(0, lines[-1].pop())
        lines.append(opening)
    return "\n".join((rest if number else first) + " ".join(line) for number, line in enumerate(lines))


def indented(text: str, indent: int) -> str:
    """Each line so many columns further in."""
    return "\n".join(f"{' ' * indent}{line}" if line else "" for line in text.splitlines())


def inline(text: str, links: Links) -> str:
    """reStructuredText's inline marks as Markdown's; names that have an entry of their own lead to it."""
    return _ROLE.sub(lambda found: reference(found[2], links, of_class=found[1] in ("meth", "attr")), text).replace(
        "``", "`"
    )


def reference(dotted: str, links: Links, *, of_class: bool = False) -> str:
    """A name as code, without the modules before it; as a link if it, or its class, has an entry.

    A name ``of_class`` is a member; where its class is not named, it is one of the class that speaks.
    """
    parts = dotted.split(".")
    start = next((number for number, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
    name, shown = parts[start], f"`{'.'.join(parts[start:])}`"
    return f"[{shown}]({links[name]})" if name in links and not (of_class and name == parts[-1]) else shown


def _words(text: str) -> Iterator[str]:
    """Words, with what stands between single backticks in one piece."""
    yield from re.findall(r"(?:`[^`]*`|[^\s`]|`)+", text)


def _sections(docstring: str, links: Links) -> Iterator[str]:
    """Lines, those below ``Args:`` and the like as list items."""
    section = ""
    for line in docstring.splitlines():
        if _SECTION.fullmatch(line):
            section = line
            yield from (f"*{line}*", "")
        elif section and line.startswith("    "):
            yield _item(line[4:], links if section == "Raises:" else {})
        else:
            section = "" if line else section
            yield line


def _item(line: str, links: Links) -> str:
    """``name: text`` of a section as a list item; a line that goes on stays one."""
    named = _NAMES.match(line)
    if named is None:
        return line
    return f"- {', '.join(reference(name, links) for name in named[1].split(', '))}: {line[named.end() :]}"


def _blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    """Lines that belong together: paragraphs, lists, and code with the blank lines within it."""
    block: list[str] = []
    for line in lines:
        ends_code = bool(block) and _is_code(block[0]) and bool(line) and not _is_code(line)
        if ends_code or (not line and block and not _is_code(block[0])):
            yield block
            block = []
        if line or block:
            block.append(line)
    if block:
        yield block


def _is_code(line: str) -> bool:
    return line.startswith("    ")


def _block(lines: list[str], links: Links, width: int) -> str:
    if _is_code(lines[0]):
        return "\n".join(lines).rstrip()
    items: list[str] = []
    for line in lines:
        if line.startswith("- ") or not items:
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    return "\n".join(_filled_item(inline(item, links), width) for item in items)


def _filled_item(text: str, width: int) -> str:
    text = text.removesuffix(":") if text.endswith("::") else text
    return filled(text[2:], "- ", width=width) if text.startswith("- ") else filled(text, width=width)
