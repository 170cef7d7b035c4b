"""Tables and JSON on stdout."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import CutReport, DropBranch, DropLayers
from billhook.cli import output

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


@given(data=st.dictionaries(st.text(), VALUES))
def test_what_is_printed_is_strict_json(data: dict[str, object]) -> None:
    assert json.loads(output.to_json(data), parse_constant=_refuse).keys() == data.keys()


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


def test_a_figure_that_does_not_exist_is_a_dash() -> None:
    assert output.number(math.nan) == output.NOTHING
    assert output.number(0.12345) == "0.123"


def test_facts_line_up_and_long_values_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(output.facts([("a", "short"), ("longer", "/very/long" * 30)]))
    assert capsys.readouterr().out == f"a       short\nlonger  {'/very/long' * 30}\n"


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    made = output.table("[b]name[/b]")
    made.add_row("[red]x[/red] :smile:")
    output.show(made, output.facts([("path", "[dim]y[/dim]")]))
    out = capsys.readouterr().out
    assert all(text in out for text in ("[b]name[/b]", "[red]x[/red] :smile:", "[dim]y[/dim]"))


def columns_of(*reports: CutReport) -> list[object]:
    return [column.header for column in output.cut_table(reports).columns]


def test_the_table_of_unrepaired_cuts_has_no_empty_columns() -> None:
    assert columns_of(CutReport(cut=DropBranch(1, "mlp"))) == ["dropped"]


def test_the_table_of_a_search_tells_the_objective_after_each_cut(capsys: pytest.CaptureFixture[str]) -> None:
    reports = [CutReport(cut=DropBranch(n, "mlp"), score=score) for n, score in ((4, 12.3456), (2, 12.5))]
    assert columns_of(*reports) == ["dropped", "objective"]
    output.show(output.cut_table(reports))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "mlp" in line]
    assert lines == [["mlp", "4", "12.346"], ["mlp", "2", "12.500"]]


def test_a_column_is_there_for_one_cut_that_has_something_to_show() -> None:
    repaired = CutReport(cut=DropLayers(2, 3), donor=1, r_squared=0.5, token_count=64, seconds=1.25)
    shown = columns_of(CutReport(cut=DropBranch(1, "mlp")), repaired)
    assert shown == ["dropped", "repaired in", "R²", "tokens", "seconds"]


def test_what_thirty_repairs_note_alike_is_said_once() -> None:
    alike = [CutReport(cut=DropBranch(n, "mlp"), notes=("ridge 0.1",)) for n in range(3)]
    found = list(output._notes([*alike, CutReport(cut=DropLayers(4, 5), notes=("undetermined",))]))
    assert found == ["ridge 0.1 (3 cuts)", "layers 4:5: undetermined"]
