"""Flow: streams at every position of the dense model, computed once where memory allows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from billhook.activations.activation_cache import ActivationCache
from billhook.activations.runner import OpenBatch, Runner
from billhook.cuts.sites import RepairSite
from billhook.data.tokens import TokenBatch
from billhook.model.view import ModelView

STREAM = "dense stream"
"""Kind of the cache entries made here."""


class Flow:
    """The dense model's streams, batch by batch: of the calibration data, and behind them of the guard's.

    Position ``p`` is the stream that enters layer ``p``; the last position is what leaves the last layer, before
    the final norm. (``hidden_states[-1]`` of transformers is *after* that norm, which is why it is not used.)

    Attributes:
        dense: the dense model.
        batches: those of the calibration data, in their order.
        guard: those of the guard's text; empty without one.
        runner: runs single layers, and records what their branches write.
        cache: where streams are kept.
    """

    def __init__(
        self,
        dense: ModelView,
        batches: Sequence[TokenBatch],
        cache: ActivationCache,
        guard: Sequence[TokenBatch] = (),
    ) -> None:
        """``batches`` are what cuts are chosen and repairs learnt from; of ``guard`` only the latter are checked on."""
        self.dense = dense
        self.batches = tuple(batches)
        self.guard = tuple(guard)
        self.cache = cache
        self.runner = Runner(dense)

    @property
    def last(self) -> int:
        """The last position."""
        return len(self.dense.numbers)

    @property
    def with_guard(self) -> tuple[TokenBatch, ...]:
        """All batches, those of the guard last; :meth:`walk` counts through them."""
        return self.batches + self.guard

    def walk(self, index: int) -> Walk:
        """Start at position 0 of batch ``index``."""
        return Walk(self, index)


class Walk:
    """One batch on its way through the dense model; goes forward only.

    Attributes:
        index: which one, of :attr:`Flow.with_guard`.
        batch: the batch, embedded; its tokens are ``batch.tokens``.
        position: how many layers lie behind it.
    """

    def __init__(self, flow: Flow, index: int) -> None:
        self._flow = flow
        self.index = index
        self.batch: OpenBatch = flow.runner.open(flow.with_guard[index])
        self.position = 0
        self._stream = self.batch.stream

    @property
    def stream(self) -> Tensor:
        """The stream where the walk stands, ``[batch, seq, d_model]``."""
        return self._stream

    def to(self, position: int) -> Tensor:
        """The stream at ``position``, ``[batch, seq, d_model]``; resumes from the furthest cached one.

        ``position`` must not lie before the present one.
        """
        if position < self.position:
            raise ValueError(f"A walk goes forward only; it stands at {self.position} and was sent to {position}.")
        self._jump(position)
        while self.position < position:
            stream = self._flow.runner.run(self._flow.dense, self.position, self.batch, self._stream)
            self.stand_at(self.position + 1, stream)
        return self._stream

    def at(self, site: RepairSite) -> Tensor:
        """The stream that a repair is to bring about, ``[batch, seq, d_model]``; float32 if between branches."""
        stream = self.to(site.target)
        if not site.between:
            return stream
        runner, dense = self._flow.runner, self._flow.dense
        written = runner.run_recording(dense, site.target, "attention", self.batch, stream)
        self.stand_at(site.target + 1, written.leaving)
        return written.after

    def stand_at(self, position: int, stream: Tensor) -> None:
        """Go on from ``stream``, which somebody else has computed, and cache it if there is room."""
        self.position, self._stream = position, stream
        self._flow.cache.put((STREAM, self.index, position), stream)

    def _jump(self, position: int) -> None:
        for candidate in range(position, self.position, -1):
            found = self._flow.cache.get((STREAM, self.index, candidate), self._stream.device)
            if found is not None:
                self.position, self._stream = candidate, found
                return
