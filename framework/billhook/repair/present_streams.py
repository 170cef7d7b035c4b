"""PresentStreams: the streams of the model as cut so far, for going through its layers in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from billhook.activations.flow import STREAM

if TYPE_CHECKING:
    from billhook.activations.flow import Walk
    from billhook.roles.state import PruningState

PRESENT = "present stream"
"""Kind of the cache entries made here."""


class PresentStreams:
    """Keeps, of each batch, what enters the layer that was asked for last; what the cache refuses is computed again.

    Only for callers that go forward, and change nothing before the layer that they ask for.
    """

    def __init__(self, state: PruningState) -> None:
        self._state = state
        self._positions: dict[int, int] = {}
        state.cache.discard_kind(PRESENT)

    def entering(self, walk: Walk, number: int) -> Tensor:
        """What enters layer ``number`` of the present model, ``[batch, seq, d_model]``."""
        state, index = self._state, walk.index
        position = self._positions.get(index, -1)
        stream = state.cache.get((PRESENT, index, position), walk.stream.device)
        if stream is None:
            position = min(number, state.shared_until)
            stream = walk.to(position)
        for present in state.model.numbers:
            if position <= present < number:
                stream = state.flow.runner.run(state.model, present, walk.batch, stream)
        self._keep(index, number, stream)
        return stream

    def close(self) -> None:
        """Give the bytes back."""
        self._state.cache.discard_kind(PRESENT)

    def _keep(self, index: int, number: int, stream: Tensor) -> None:
        cache = self._state.cache
        before = self._positions.get(index, -1)
        if before == number:
            return
        cache.discard((PRESENT, index, before))
        for position in range(number):  # the dense model's streams behind us: their room is needed for those ahead
            cache.discard((STREAM, index, position))
        cache.put((PRESENT, index, number), stream, instead_of=STREAM)
        self._positions[index] = number
