"""What a plan removes, in a few words: 60 cuts of one run, one line for each kind."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from billhook.model.branch import BRANCHES, UNITS, Branch

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut


class Removed:
    """The sum of cuts, whatever their order.

    Attributes:
        layers: whole layers, in words; empty for none.
        branches: by branch, the layers that lost it and kept the other one.
        widths: by branch and layer, the units that are left of a narrowed one.
        others: cuts of kinds that this does not know, in their own words.
    """

    def __init__(self, cuts: Iterable[Cut]) -> None:
        self.branches: dict[Branch, set[int]] = {branch: set() for branch in BRANCHES}
        self.widths: dict[Branch, dict[int, int]] = {branch: {} for branch in BRANCHES}
        self.others: list[str] = []
        for cut in cuts:
            self._add(cut)
        whole = set.intersection(*self.branches.values())
        self.layers = _where(whole) if whole else ""
        for branch in BRANCHES:
            self.branches[branch] -= whole

    def _add(self, cut: Cut) -> None:
        for number, branch in cut.branches:
            self.widths[branch].pop(number, None)  # whatever was done to the branch before, it is gone now
            self.branches[branch].add(number)
        for (number, branch), kept in cut.narrowed.items():
            self.widths[branch][number] = len(kept)
        if not cut.branches and not cut.narrowed:
            self.others.append(str(cut))

    def facts(self) -> Iterator[tuple[str, str]]:
        """Label and text for all but whole layers."""
        for branch in BRANCHES:
            if self.branches[branch]:
                yield f"without {branch}", _where(self.branches[branch])
        for branch in BRANCHES:
            if widths := self.widths[branch]:
                yield f"{branch} width", _widths(widths, UNITS[branch])
        if self.others:
            yield "without", ", ".join(self.others)


def _widths(by_layer: dict[int, int], units: str) -> str:
    """``384 channels in layers 2:5, 9; 512 in layer 7``, the narrowest first."""
    parts: list[str] = []
    for width in sorted(set(by_layer.values())):
        layers = {number for number, left in by_layer.items() if left == width}
        parts.append(f"{width:,}{'' if parts else f' {units}'} in {_where(layers)}")
    return "; ".join(parts)


def _where(numbers: Collection[int]) -> str:
    return f"layer{'' if len(numbers) == 1 else 's'} {', '.join(_runs(numbers))}"


def _runs(numbers: Collection[int]) -> list[str]:
    """Layers as half-open spans, single ones by their number: ``2:5, 9``."""
    runs = []
    for _, group in itertools.groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}:{run[-1] + 1}" if len(run) > 1 else str(run[0]))
    return runs
