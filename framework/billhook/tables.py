"""Table: rows of figures, as text, as HTML for notebooks, and as plain values."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from billhook.foreign_text import harmless

NOTHING = "–"
"""Stands where there is no figure."""


def _rows(given: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(row) for row in given)


@attrs.frozen(repr=False)
class Table:
    """Rows that print as a table, in a terminal and in a notebook; columns without any figure are not shown.

    Iterating gives the rows as dictionaries, so that ``pandas.DataFrame(table)`` is the same table.

    Attributes:
        rows: figures by column, the same columns in each row; None or NaN where there is none.
    """

    rows: tuple[dict[str, Any], ...] = attrs.field(converter=_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def to_dict(self) -> list[dict[str, Any]]:
        """The rows as JSON values: None for what is not finite."""
        return [{name: finite(value) for name, value in row.items()} for row in self.rows]

    def __str__(self) -> str:
        cells = self._cells()
        if not cells:
            return "(no rows)"
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._cells() or [["no rows"]]
        rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in body)
        names = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        return f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table>"

    def _cells(self) -> list[list[str]]:
        """The names of the columns, and a row of texts for each row."""
        if not self.rows:
            return []
        columns = {name: [_text(row[name]) for row in self.rows] for name in self.rows[0]}
        shown = {name: texts for name, texts in columns.items() if set(texts) != {NOTHING}}
        return [list(shown), *map(list, zip(*shown.values(), strict=True))]


def facts_html(facts: Mapping[str, object]) -> str:
    """Names and values below one another, as HTML."""
    texts = {name: html.escape(_text(value)) for name, value in facts.items()}
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{text}</td></tr>" for name, text in texts.items())
    return f"<table><tbody>{rows}</tbody></table>"


def finite(value: Any) -> Any:
    """``value`` with None for every float that is not finite, at any depth."""
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == () or value == "":
        return NOTHING
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return harmless("; ".join(map(str, value)) if isinstance(value, tuple) else str(value))
