"""What a leaderboard says: means over calibration seeds, and how rows differ on the same tokens and questions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
from rich.table import Table

Cell = Mapping[str, Any]
"""The figures of a row at one ratio and seed: parameters, seconds, perplexity by text, hits by task."""


@attrs.frozen
class Estimate:
    """A mean, and its standard error; NaN where a single value does not tell."""

    mean: float
    error: float = math.nan

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Over calibration seeds."""
        mean = sum(values) / len(values)
        if len(values) < 2 or not math.isfinite(mean):
            return cls(mean)
        return cls(mean, statistics.stdev(values) / math.sqrt(len(values)))

    def show(self, digits: int, *, sign: bool = False) -> str:
        """For a table."""
        text = f"{self.mean:{'+' if sign else ''}.{digits}f}"
        return text if math.isnan(self.error) else f"{text} ± {self.error:.{digits}f}"


def excess_loss(cell: Cell, dense: Cell, text: str) -> float:
    """``ln(PPL / PPL_dense)``: nats per token that pruning costs."""
    return math.log(cell["perplexity"][text] / dense["perplexity"][text])


def gain(cells: Sequence[Cell], reference: Sequence[Cell]) -> Estimate:
    """How many percent points more questions are answered, tasks counting alike; the error is of the questions' choice.

    Paired by question: what a question gains is the difference of its mean hits over seeds. With one seed on both
    sides that is :func:`billhook.paired`.
    """
    means, variances = [], []
    for task in common_tasks([*cells, *reference]):
        ours, theirs = mean_hits(cells, task), mean_hits(reference, task)
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        means.append(statistics.fmean(gains))
        variances.append(statistics.pvariance(gains) / len(gains))
    return Estimate(100 * statistics.fmean(means), 100 * math.sqrt(sum(variances)) / len(variances))


def mean_hits(cells: Sequence[Cell], task: str) -> list[float]:
    """By question, over seeds."""
    return [statistics.fmean(hits) for hits in zip(*(cell["hits"][task] for cell in cells), strict=True)]


def common_tasks(cells: Sequence[Cell]) -> list[str]:
    """Tasks that all cells were asked."""
    return [task for task in cells[0]["hits"] if all(task in cell["hits"] for cell in cells)]


def mean_accuracy(cell: Cell) -> float:
    """In percent; each task counts alike."""
    return 100 * statistics.fmean(statistics.fmean(hits) for hits in cell["hits"].values())


@attrs.define
class Standings:
    """All cells, and what follows from them.

    Attributes:
        published: rows that others have published.
        own: the row that is compared with the best of them.
        dense: the dense model's cell.
        seeds: of the calibration; a row has a cell for each.
    """

    published: tuple[str, ...]
    own: str
    dense: Cell
    seeds: Sequence[int]
    _cells: dict[float, dict[str, dict[int, Cell]]] = attrs.field(factory=dict, init=False)

    def add(self, row: str, ratio: float, cell: Cell) -> None:
        """Take in a cell, in the place of an earlier one."""
        self._cells.setdefault(ratio, {}).setdefault(row, {})[cell["seed"]] = cell

    @property
    def texts(self) -> list[str]:
        """Their names."""
        return list(self.dense["perplexity"])

    def cells(self, row: str, ratio: float) -> list[Cell]:
        """Of a row, by seed."""
        return [self._cells[ratio][row][seed] for seed in self.seeds]

    def excess(self, row: str, ratio: float, text: str) -> Estimate:
        """Loss above the dense model's."""
        return Estimate.of([excess_loss(cell, self.dense, text) for cell in self.cells(row, ratio)])

    def best(self, ratio: float, text: str | None = None) -> str | None:
        """The published row with the least excess loss on a text, or on all in the mean; None if there are no rows."""
        texts = self.texts if text is None else [text]
        return self._least(ratio, lambda row: sum(self.excess(row, ratio, each).mean for each in texts))

    def most_accurate(self, ratio: float) -> str | None:
        """The published row with the highest mean accuracy of those that were asked; None if none were."""
        return self._least(ratio, lambda row: -self.accuracy(row, ratio).mean if self.asked(row, ratio) else math.nan)

    def _least(self, ratio: float, key: Callable[[str], float]) -> str | None:
        keys = {row: key(row) for row in self.published if row in self._cells[ratio]}
        return min((row for row in keys if not math.isnan(keys[row])), key=keys.__getitem__, default=None)

    def asked(self, row: str, ratio: float) -> bool:
        """Whether the row's accuracy is known, on the tasks of the dense model."""
        tasks = self.dense["hits"]
        return bool(tasks) and all(set(cell["hits"]) == set(tasks) for cell in self.cells(row, ratio))

    def accuracy(self, row: str, ratio: float) -> Estimate:
        """Mean over tasks, in percent."""
        return Estimate.of([mean_accuracy(cell) for cell in self.cells(row, ratio)])

    def figures(self, row: str, ratio: float) -> dict[str, Any]:
        """Everything about a row."""
        cells = self.cells(row, ratio)
        parameters = Estimate.of([cell["parameters"] for cell in cells])
        found: dict[str, Any] = {
            "perplexity": {text: Estimate.of([cell["perplexity"][text] for cell in cells]) for text in self.texts},
            "excess_loss": {text: self.excess(row, ratio, text) for text in self.texts},
            "parameters": parameters,
            "removed": Estimate(1 - parameters.mean / self.dense["parameters"]),
            "seconds": Estimate.of([cell["seconds"] for cell in cells]),
        }
        if self.asked(row, ratio):
            found["accuracy"] = self.accuracy(row, ratio)
            found["accuracy_over_dense"] = gain(cells, [self.dense])
            if (rival := self.most_accurate(ratio)) is not None and rival != row:
                found["accuracy_over_best"] = gain(cells, self.cells(rival, ratio))
        return found

    def verdict(self, ratio: float) -> dict[str, Any]:
        """The own row against the best published one: of each text, and in accuracy."""
        found: dict[str, Any] = {"excess_ratio": {}}
        if self.own not in self._cells[ratio]:
            return found
        for text in self.texts:
            if (rival := self.best(ratio, text)) is not None:
                pairs = zip(self.cells(self.own, ratio), self.cells(rival, ratio), strict=True)
                shares = [_share(excess_loss(a, self.dense, text), excess_loss(b, self.dense, text)) for a, b in pairs]
                mean = _share(self.excess(self.own, ratio, text).mean, self.excess(rival, ratio, text).mean)
                found["excess_ratio"][text] = {"best": rival, "ratio": Estimate(mean, Estimate.of(shares).error)}
        rival = self.most_accurate(ratio)
        if rival is not None and self.asked(self.own, ratio):
            points = gain(self.cells(self.own, ratio), self.cells(rival, ratio))
            found["accuracy"] = {"best": rival, "points": points}
        return found

    def data(self) -> dict[str, Any]:
        """All figures as JSON values; what is no finite number is null."""
        ratios = {
            f"{ratio:g}": {
                "rows": {row: self.figures(row, ratio) | {"seeds": cells} for row, cells in rows.items()},
                "own_to_best": self.verdict(ratio),
            }
            for ratio, rows in self._cells.items()
        }
        found: dict[str, Any] = _plain({"dense": self.dense, "ratios": ratios})
        return found

    def tables(self) -> Iterator[Table | str]:
        """One a ratio, and the verdicts in lines behind it."""
        for ratio in self._cells:
            yield self._table(ratio)
            verdict = self.verdict(ratio)
            for text, found in verdict["excess_ratio"].items():
                share = f"{found['ratio'].show(3)} of {found['best']}'s"
                yield f"{ratio:.0%} {text}: excess loss {share}, the best published"
            if "accuracy" in verdict:
                found = verdict["accuracy"]
                points = found["points"].show(2, sign=True)
                yield f"{ratio:.0%} accuracy: {points} points over {found['best']}'s, the best published"

    def _table(self, ratio: float) -> Table:
        table = Table(title=f"{ratio:.0%} of all parameters removed", title_justify="left")
        table.add_column("row")
        names = [f"{figure} {text}" for text in self.texts for figure in ("PPL", "excess")]
        names += ["accuracy", "over dense", "over best"] if self.dense["hits"] else []
        for name in (*names, "parameters", "seconds"):
            table.add_column(name, justify="right")
        dense = [f for text in self.texts for f in (f"{self.dense['perplexity'][text]:.2f}", "0")]
        dense += [f"{mean_accuracy(self.dense):.2f}", "", ""] if self.dense["hits"] else []
        table.add_row("dense", *dense, f"{self.dense['parameters'] / 1e6:.1f}M", "")
        for row in self._cells[ratio]:
            table.add_row(row, *self._shown(self.figures(row, ratio)))
        return table

    def _shown(self, figures: Mapping[str, Any]) -> Iterator[str]:
        for text in self.texts:
            yield figures["perplexity"][text].show(2)
            yield figures["excess_loss"][text].show(4)
        for name in ("accuracy", "accuracy_over_dense", "accuracy_over_best") if self.dense["hits"] else ():
            yield figures[name].show(2, sign=name != "accuracy") if name in figures else ""
        yield f"{figures['parameters'].mean / 1e6:.1f}M (-{figures['removed'].mean:.1%})"
        yield f"{figures['seconds'].mean:.0f}"


def _share(ours: float, theirs: float) -> float:
    """Of a loss; NaN where there is none to have a share of."""
    return ours / theirs if theirs > 0 else math.nan


def _plain(value: object) -> Any:
    """Estimates as pairs, keys as text, what is no finite number as null."""
    if isinstance(value, Estimate):
        return {"mean": _plain(value.mean), "standard_error": _plain(value.error)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
