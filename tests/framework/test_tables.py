"""Tables: the same figures as text, as HTML, and as values."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from billhook import Table
from billhook.tables import facts_html, finite

ROWS: list[dict[str, Any]] = [
    {"cut": "layers 2:4", "r_squared": 0.6634, "donor": 1, "held_out": math.nan, "notes": ()},
    {"cut": "mlp <5>", "r_squared": math.nan, "donor": None, "held_out": math.nan, "notes": ("a", "b")},
]


def test_it_prints_a_line_a_row_without_empty_columns() -> None:
    assert str(Table(ROWS)).splitlines() == [
        "cut         r_squared  donor  notes",
        "layers 2:4  0.6634     1      –",
        "mlp <5>     –          –      a; b",
    ]
    assert repr(Table(ROWS)) == str(Table(ROWS))


def test_a_notebook_gets_html_in_which_foreign_text_is_harmless() -> None:
    shown = Table([*ROWS, {**ROWS[0], "cut": "\x1b[31m<script>"}])._repr_html_()
    assert shown.count("<tr>") == 4
    assert "mlp &lt;5&gt;" in shown
    assert "<script>" not in shown
    assert "\x1b" not in shown
    assert "<b>" not in facts_html({"<b>": "<b>"})


def test_rows_are_what_pandas_takes() -> None:
    frame = pd.DataFrame(Table(ROWS))
    assert list(frame.columns) == list(ROWS[0])
    assert next(iter(frame["donor"])) == 1


def test_json_values_have_none_for_what_is_not_finite() -> None:
    assert Table(ROWS).to_dict()[1]["r_squared"] is None
    assert finite({"a": [math.inf, {"b": math.nan}], "c": 1}) == {"a": [None, {"b": None}], "c": 1}


@given(st.lists(st.fixed_dictionaries({"a": st.none() | st.floats() | st.integers() | st.text(), "b": st.booleans()})))
def test_anything_prints(rows: list[dict[str, Any]]) -> None:
    table = Table(rows)
    assert len(table) == len(rows)
    assert len(str(table).split("\n")) == (len(rows) + 1 if rows else 1)
    assert table._repr_html_().startswith("<table>")
