"""Results on stdout: tables to read, or one JSON object to parse."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from billhook.cli.consoles import SafeConsole

if TYPE_CHECKING:
    from billhook.cli.removed import Removed
    from billhook.plans.report import CutReport
    from billhook.results.result import PruneResult

PIPED_WIDTH = 100
"""Columns when stdout is no terminal: rich's own 80 would cut names off."""

NOTHING = "–"


def short(name: str, among: Collection[str]) -> str:
    """A qualified name as users write it: of billhook's own without ``billhook:``, unless others offer it too."""
    plain = name.removeprefix("billhook:")
    return name if [each.rpartition(":")[2] for each in among].count(plain) > 1 else plain


def print_json(data: Mapping[str, Any]) -> None:
    """``data`` as one JSON object."""
    print(to_json(data))


def to_json(data: Mapping[str, Any]) -> str:
    """Indented JSON; NaN and infinity, which JSON has no word for, as null."""
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def console() -> Console:
    """Stdout as it is now. Texts are printed as they are: names may hold brackets."""
    plain = SafeConsole()
    return plain if plain.is_terminal else SafeConsole(width=PIPED_WIDTH)


def show(*parts: RenderableType) -> None:
    """Print tables and lines one below the other."""
    to = console()
    for part in parts:
        to.print(part, soft_wrap=isinstance(part, str | Text))


def table(*columns: str, left: Iterable[str] = (), title: str | None = None) -> Table:
    """An empty table; numbers stand to the right, the columns named in ``left`` to the left."""
    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", overflow="fold")
    return made


def facts(rows: Iterable[tuple[str, str]]) -> Text:
    """Lines of ``label  value``; as text, so that a long path is never broken."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows)
    return Text("\n").join(Text.assemble((f"{label:<{width}}", "dim"), "  ", value) for label, value in rows)


def number(value: float, digits: int = 3) -> str:
    """A figure, or a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def durations(seconds: Mapping[str, float]) -> str:
    """Seconds by stage, in one line."""
    return ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())


def print_result(result: PruneResult, path: Path | None, seconds: Mapping[str, float], *, as_json: bool) -> None:
    """What a run of the pruner did; ``path`` is None when nothing was written.

    Args:
        result: of the run.
        path: where the checkpoint lies.
        seconds: of the command's own steps.
        as_json: one JSON object instead of tables.
    """
    if as_json:
        print_json(result_data(result, path, seconds))
        return
    show(*([cut_table(result.reports)] if result.reports else []), facts(_result_facts(result, path, seconds)))


def result_data(result: PruneResult, path: Path | None, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Plan, metrics, reports and path as JSON values. ``billhook apply`` takes it as a plan file."""
    from billhook.results.checkpoint import report_to_data

    return {
        "plan": json.loads(result.plan.to_json()),
        "metrics": {**result.metrics, **{f"seconds_{step}": value for step, value in seconds.items()}},
        "reports": [report_to_data(report) for report in result.reports],
        "repairs": [report_to_data(report) for report in result.repairs],
        "path": None if path is None else str(path),
    }


def cut_table(reports: Sequence[CutReport]) -> Table:
    """A line for each cut, in their order; columns only where some cut has something to show."""
    columns = {
        "dropped": [str(report.cut) for report in reports],
        "objective": [number(report.score) for report in reports],
        "repaired in": [NOTHING if report.donor is None else f"layer {report.donor}" for report in reports],
        "R²": [number(report.r_squared) for report in reports],
        "cosine cut": [number(report.cosine_before, 4) for report in reports],
        "cosine repaired": [number(report.cosine_after, 4) for report in reports],
        "held out": [number(report.held_out) for report in reports],
        "other text": [number(report.guard) for report in reports],
        "tokens": [f"{report.token_count:,}" if report.token_count else NOTHING for report in reports],
        "massive": [f"{report.massive_count:,}" if report.massive_count else NOTHING for report in reports],
        "seconds": [f"{report.seconds:.1f}" if report.seconds >= 0.5 else NOTHING for report in reports],
    }
    shown = {name: cells for name, cells in columns.items() if set(cells) != {NOTHING}}
    made = table(*shown, left=["dropped"])
    for row in zip(*shown.values(), strict=True):
        made.add_row(*row)
    return made


def _notes(reports: Sequence[CutReport]) -> Iterable[str]:
    """What estimators noted, each once: a repair of thirty layers says the same thing thirty times."""
    by_note: dict[str, list[str]] = {}
    for report in reports:
        for note in report.notes:
            by_note.setdefault(note, []).append(str(report.cut))
    for note, cuts in by_note.items():
        yield f"{cuts[0]}: {note}" if len(cuts) == 1 else f"{note} ({len(cuts)} cuts)"


def _result_facts(result: PruneResult, path: Path | None, seconds: Mapping[str, float]) -> Iterable[tuple[str, str]]:
    from billhook.cli.removed import Removed

    plan, metrics = result.plan, result.metrics
    yield "model", f"{plan.model.name or plan.model.model_type} ({plan.model.model_type})"
    removed = Removed(plan.cuts)
    yield "layers", _layers(result, removed)
    yield from removed.facts()
    before, after = metrics["parameters_before"], metrics["parameters_after"]
    yield "parameters", f"{before:,} → {after:,} ({after / before - 1:+.1%})"
    yield "method", f"{plan.selector} → {plan.estimator} → {plan.merger}"
    data = plan.calibration
    yield "calibration", f"{data.token_count:,} tokens of {data.source}" if data.token_count else "none needed"
    if data.guard is not None and "kl_guard" in metrics:
        yield "KL from dense", _moved(metrics, data.guard.source)
    if "objective_before" in metrics:
        unrepaired = "" if result.reports else " (unrepaired)"
        yield "objective", f"{number(metrics['objective_before'])} → {number(metrics['objective_after'])}{unrepaired}"
    yield from (("note", text) for text in _notes(result.reports))
    if result.repairs:
        refused = sum(not report.made for report in result.repairs)
        yield "final repairs", f"{len(result.repairs)}" + (f", {refused} no help and not made" if refused else "")
    yield "seconds", _stages(metrics, seconds)
    yield "checkpoint", "none, this is only the plan" if path is None else str(path)


def _moved(metrics: Mapping[str, float], guard: str) -> str:
    """How far the result's predictions are from the dense model's, on both kinds of text."""
    from billhook.results.result import MOVED

    texts = {**MOVED, "kl_guard": f"{MOVED['kl_guard']} ({guard})"}
    told = [f"{number(metrics[name])} on {text}" for name, text in texts.items() if name in metrics]
    return f"{', '.join(told)}, in nats per token"


def _layers(result: PruneResult, removed: Removed) -> str:
    before, after = result.metrics["layers_before"], result.metrics["layers_after"]
    if removed.layers:
        return f"{before} → {after}, without {removed.layers}"
    return f"{before}, all of them left" if result.plan.cuts else f"{before} → {after}, without nothing"


def _stages(metrics: Mapping[str, float], seconds: Mapping[str, float]) -> str:
    stages = {
        "loading": seconds.get("loading"),
        "selecting": metrics.get("seconds_selecting"),
        "repairing": metrics.get("seconds_repairing"),
        "saving": seconds.get("saving"),
    }
    return durations({name: value for name, value in stages.items() if value is not None})


def _finite(value: Any) -> Any:
    """``value`` with None for every float that is not finite, at any depth."""
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
