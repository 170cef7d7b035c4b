"""Window distances: how far each span of layers moves the residual stream, for all spans in one pass."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs
import torch
from torch import Tensor
from torch.nn.functional import normalize

from billhook.errors import InvalidConfig, NotFinite
from billhook.tables import Table

if TYPE_CHECKING:
    from billhook.roles.state import PruningState

Metric = Literal["cosine", "angular", "l2"]
"""How far a window of layers moves the stream: 1 − cos, the angle in half-turns, or the Euclidean distance."""

Which = Literal["all", "last"]
"""Of which tokens: all, or the last of each row."""

CHUNK_TOKENS = 256
"""Tokens whose streams are compared at a time: bounds the float32 copies to a few tens of megabytes."""


@attrs.frozen(eq=False, repr=False)
class WindowDistances:
    """Distances between the streams at all pairs of positions.

    Attributes:
        metric: ``cosine`` (1 − cos), ``angular`` (angle in half-turns) or ``l2`` (Euclidean), each a mean over tokens.
        values: ``[layers + 1, layers + 1]`` float64 on the CPU; entry ``[start, stop]`` is the distance between the
            stream entering ``start`` and the stream entering ``stop``. NaN unless ``start < stop``.
        token_count: tokens behind each mean.
    """

    metric: Metric
    values: Tensor
    token_count: int

    def __getitem__(self, span: tuple[int, int]) -> float:
        start, stop = span
        return float(self.values[start, stop])

    @property
    def layer_count(self) -> int:
        """Layers of the model."""
        return len(self.values) - 1

    def of_length(self, length: int) -> list[tuple[int, float]]:
        """``(start, distance)`` of all windows of ``length`` layers, in layer order."""
        starts = range(self.layer_count - length + 1)
        return [(start, self[start, start + length]) for start in starts if not math.isnan(self[start, start + length])]

    def __repr__(self) -> str:
        return f"<WindowDistances: {self.metric}, {self.layer_count} layers, {self.token_count:,} tokens>"

    def table(self, length: int | None = None) -> Table:
        """The nearest window of each length; or all of one ``length``, nearest first. Ties go to the lower layer."""
        lengths = range(1, self.layer_count) if length is None else [length]
        ranked = {n: sorted(self.of_length(n), key=lambda found: (found[1], found[0])) for n in lengths}
        return Table(
            {"length": n, "start": start, "stop": start + n, "distance": distance}
            for n, found in ranked.items()
            for start, distance in (found[:1] if length is None else found)
        )

    def to_dict(self) -> dict[str, Any]:
        """What was measured, and every window: shortest first, then in layer order."""
        windows = [
            {"start": start, "stop": start + length, "distance": distance}
            for length in range(1, self.layer_count + 1)
            for start, distance in self.of_length(length)
        ]
        return {
            "metric": self.metric,
            "layers": self.layer_count,
            "token_count": self.token_count,
            "windows": windows,
        }

    def __str__(self) -> str:
        return f"{self!r}\n{self.table()}"

    def _repr_html_(self) -> str:
        """A heat map: a row for each first layer, a column for each length; the darker, the nearer."""
        lengths = range(1, self.layer_count)
        ranks = {
            (start, n): rank / max(1, len(found) - 1)
            for n in lengths
            for found in [sorted(self.of_length(n), key=lambda pair: pair[1])]
            for rank, (start, _) in enumerate(found)
        }
        rows = "".join(
            f"<tr><th>{start}</th>{''.join(self._cell(start, n, ranks) for n in lengths)}</tr>"
            for start in range(self.layer_count)
        )
        head = "".join(f"<th>+{n}</th>" for n in lengths)
        return f"<p>{html.escape(repr(self)[1:-1])}</p><table><tr><th>start</th>{head}</tr>{rows}</table>"

    def _cell(self, start: int, length: int, ranks: Mapping[tuple[int, int], float]) -> str:
        if (start, length) not in ranks:
            return "<td></td>"
        light = round(55 + 40 * ranks[start, length])
        return f'<td style="background:hsl(210,60%,{light}%);color:#000">{self[start, start + length]:.3g}</td>'


def measure_windows(
    state: PruningState,
    *,
    metric: Metric = "cosine",
    tokens: Which = "all",
    skip_sink: bool = False,
    until: int | None = None,
) -> WindowDistances:
    """All window distances of the dense model, from one pass over the calibration data.

    Args:
        state: what to run.
        metric: see :class:`WindowDistances`. ``cosine`` averages the cosine (ReplaceMe, section 3.1), ``angular``
            the angle (UIDL, equation 7): the same order for one token, not after averaging.
        tokens: every token, or the last of each row as in UIDL.
        skip_sink: leave out the first token of each row, whose activations are hundreds of times larger in most
            models and hardly turn from layer to layer.
        until: last position needed; the layers from there on are not run.

    Returns:
        The distances; NaN for windows that end after ``until``.

    Raises:
        NotFinite: a stream is not.
        InvalidConfig: an unknown metric or choice of tokens, or no token is left.
    """
    if metric not in _DISTANCES or tokens not in ("all", "last"):
        raise InvalidConfig(
            f"Windows are measured by {', '.join(_DISTANCES)}, over 'all' or 'last' tokens; "
            f"got {metric!r} over {tokens!r}."
        )
    until = state.flow.last if until is None else until
    total = torch.zeros(until + 1, until + 1, dtype=torch.float64)
    count = 0
    for index in range(len(state.flow.batches)):
        streams = _streams(state, index, until)
        keep = chosen(state.flow.batches[index].keep, tokens, skip_sink).flatten().nonzero()[:, 0]
        for part in keep.to(streams[0].device).split(CHUNK_TOKENS):
            chunk = torch.stack([stream[part] for stream in streams])  # [positions, tokens, d_model]
            total += _DISTANCES[metric](chunk).sum(0, dtype=torch.float64).cpu()
        count += len(keep)
        state.progress("selecting", index + 1, len(state.flow.batches))
    if count == 0:
        raise InvalidConfig("No token is left to measure: rows of one token lose it to skip_sink=True.")
    if not bool(total.isfinite().all()):
        raise NotFinite("The activations are")
    values = torch.full((state.flow.last + 1, state.flow.last + 1), torch.nan, dtype=torch.float64)
    upper = torch.triu(torch.ones_like(total, dtype=torch.bool), diagonal=1)
    values[: until + 1, : until + 1] = torch.where(upper, total / count, torch.nan)
    return WindowDistances(metric, values, count)


def _streams(state: PruningState, index: int, until: int) -> list[Tensor]:
    """One batch at all positions, ``[batch · seq, d_model]`` each, the model's dtype; no copies."""
    walk = state.flow.walk(index)
    return [walk.to(position).flatten(0, 1) for position in range(until + 1)]


def chosen(keep: Tensor, tokens: Which, skip_sink: bool) -> Tensor:
    """Which tokens count: ``[batch, seq]`` bool, never padding."""
    order = keep.long().cumsum(1)  # 1 at a row's first real token, whichever side is padded
    chosen = keep & (order == order[:, -1:]) if tokens == "last" else keep
    return chosen & (order > 1) if skip_sink else chosen


def _cosine(streams: Tensor) -> Tensor:
    """1 − cos by token and pair of positions: ``[positions, tokens, d]`` to ``[tokens, positions, positions]``."""
    unit = normalize(streams.transpose(0, 1).to(torch.float32), dim=-1)
    return 1 - torch.bmm(unit, unit.mT)


def _angular(streams: Tensor) -> Tensor:
    """Angle in half-turns; float64, since acos is steep where windows differ little."""
    unit = normalize(streams.transpose(0, 1).to(_finest(streams)), dim=-1)
    return torch.acos(torch.bmm(unit, unit.mT).clamp(-1, 1)) / math.pi


def _l2(streams: Tensor) -> Tensor:
    """Euclidean distance, taken from differences: Gram matrices would cancel."""
    tokens_first = streams.transpose(0, 1).to(torch.float32)
    return torch.cdist(tokens_first, tokens_first, compute_mode="donot_use_mm_for_euclid_dist")


def _finest(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.device.type == "mps" else torch.float64


_DISTANCES: dict[Metric, Callable[[Tensor], Tensor]] = {"cosine": _cosine, "angular": _angular, "l2": _l2}
