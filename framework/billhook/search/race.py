"""Race: look at all candidates on little data, at the best of them on more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs

from billhook.errors import InvalidConfig
from billhook.value_kinds import typed


@attrs.frozen(kw_only=True, field_transformer=typed)
class Race:
    """Rounds of a search that is not exact: successive halving on the calibration data.

    After the share ``data[i]`` of the tokens only the best ``keep[i]`` of the candidates go on; whoever is left in the
    end is scored on all data. Every round continues where the last one stopped, so nothing is computed twice.

    Attributes:
        data: cumulative shares of the data, ascending, in (0, 1).
        keep: for each of them, the share of all candidates that goes on, descending, in (0, 1); at least two do.
    """

    data: tuple[float, ...] = (0.0625, 0.25)
    keep: tuple[float, ...] = (0.25, 0.1)

    def __attrs_post_init__(self) -> None:
        if len(self.data) != len(self.keep) or not self.data:
            raise InvalidConfig(f"A Race needs one 'keep' for each 'data'; got {len(self.keep)} and {len(self.data)}.")
        for name, values in (("data", self.data), ("keep", self.keep[::-1])):
            if not all(0 < value < 1 for value in values) or any(a >= b for a, b in itertools.pairwise(values)):
                order = "ascending" if name == "data" else "descending"
                raise InvalidConfig(f"The {name!r} of Race must lie between 0 and 1, {order}; got {self}.")

    def survivors(self, rounds: int, candidates: int) -> int:
        """How many of that many candidates go on after round number ``rounds`` (from 0)."""
        return max(2, round(self.keep[rounds] * candidates))

    def work(self, ends: Sequence[int], batches: int, candidates: int) -> int:
        """Batches that all candidates together will run, if rounds end after ``ends`` of so many batches."""
        left = [candidates, *(self.survivors(number, candidates) for number in range(len(ends)))]
        edges = [0, *ends, batches]
        return sum(count * (stop - start) for count, (start, stop) in zip(left, itertools.pairwise(edges), strict=True))
