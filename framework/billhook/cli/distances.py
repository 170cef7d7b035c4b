"""Window distances as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from billhook.cli import output

if TYPE_CHECKING:
    from billhook.measures.windows import WindowDistances

NEAREST = 4
"""Windows of each length in the short table."""

CELL = 8
"""Columns that one distance takes in the matrix."""


def as_data(distances: WindowDistances) -> list[dict[str, Any]]:
    """Every window, shortest first, then in layer order."""
    return [
        {"start": start, "stop": start + length, "distance": distance}
        for length in range(1, distances.layer_count + 1)
        for start, distance in distances.of_length(length)
    ]


def tables(distances: WindowDistances, length: int | None, full: bool, width: int) -> Iterator[Table]:
    """What ``--length`` and ``--full`` ask for: one length, everything, or the nearest few of each length."""
    if length is not None:
        yield one_length(distances, length)
    if full:
        yield from matrix(distances, width)
    if length is None and not full:
        yield nearest(distances)


def nearest(distances: WindowDistances) -> Table:
    """The nearest windows of each length, a row for each length."""
    made = output.table("length", "nearest", *("next",) * (NEAREST - 1))
    for length in range(1, distances.layer_count):
        cells = [
            Text.assemble((f"{start}:{start + length}", "bold" if rank == 0 else ""), (f"  {_figure(distance)}", "dim"))
            for rank, (distance, start) in enumerate(_ranked(distances, length)[:NEAREST])
        ]
        made.add_row(str(length), *cells)
    return made


def one_length(distances: WindowDistances, length: int) -> Table:
    """All windows of one length, nearest first."""
    made = output.table("window", "distance")
    for distance, start in _ranked(distances, length):
        made.add_row(f"{start}:{start + length}", _figure(distance))
    return made


def matrix(distances: WindowDistances, width: int) -> Iterator[Table]:
    """All distances: a row for each first layer, a column for each length; in as many blocks as fit ``width``."""
    columns = max(1, (width - CELL) // CELL)
    for first in range(1, distances.layer_count + 1, columns):
        lengths = range(first, min(first + columns, distances.layer_count + 1))
        made = output.table("start", *(f"+{length}" for length in lengths))
        for start in range(distances.layer_count + 1 - first):
            fitting = [length for length in lengths if start + length <= distances.layer_count]
            made.add_row(str(start), *(_figure(distances[start, start + length]) for length in fitting))
        yield made


def facts(about: Mapping[str, Any]) -> Text:
    """What was measured, and on what."""
    which = "all tokens" if about["tokens"] == "all" else "the last token of each row"
    rows = [
        ("model", f"{about['model']} ({about['layers']} layers)"),
        ("metric", f"{about['metric']}, {which}{', without the first' if about['skip_sink'] else ''}"),
        ("calibration", f"{about['token_count']:,} tokens of {about['source']}"),
        ("seconds", output.durations(about["seconds"])),
    ]
    return output.facts([*rows, ("heat map", about["heatmap"])] if about["heatmap"] else rows)


def _ranked(distances: WindowDistances, length: int) -> list[tuple[float, int]]:
    """``(distance, start)``, nearest first; ties go to the lower layer."""
    return sorted((distance, start) for start, distance in distances.of_length(length))


def _figure(distance: float) -> str:
    """At most six characters for any distance below a million."""
    return f"{distance:.4f}" if distance < 10 else f"{distance:.1f}" if distance < 10_000 else f"{distance:.0f}"
