"""PruningState: what a selector works with while the model shrinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from billhook.activation_cache import ActivationCache, CacheBudget
from billhook.cut import Cut
from billhook.flow import Flow
from billhook.merger import Merger
from billhook.model_view import ModelView
from billhook.objective import Objective
from billhook.tokens import Tokens

Progress = Callable[[str, int, int | None], None]
"""Called with a stage, the steps done, and their total if known."""


def _silent(stage: str, done: int, total: int | None) -> None:
    """The progress callback of nobody."""


class PruningState:
    """The dense model, the model as cut so far, the data, and how to run them.

    Attributes:
        dense: the model as it was given. Never changed.
        model: the model as cut so far. Selectors read it; mergers change it.
        tokens: the calibration data.
        flow: streams of the dense model, and the runner for single layers of either model.
        cache: where activations are kept.
        objective: what a searching selector minimises; None if none was given.
        cuts: applied so far, in order.
        vetoed: cuts that a hook refused.
        shared_until: the dense and the present model agree at every position up to this one.
    """

    def __init__(
        self,
        dense: ModelView,
        tokens: Tokens,
        *,
        merger: Merger,
        objective: Objective | None = None,
        cache: CacheBudget | None = None,
        tokens_per_batch: int = 4096,
        progress: Progress = _silent,
    ) -> None:
        self.dense = dense.copy()  # eval() must not reach what was handed in
        self.model = dense.copy()
        for view in (self.dense, self.model):
            view.model.eval()
        self.tokens = tokens
        self.merger = merger
        self.objective = objective
        self.progress = progress
        self.cache = ActivationCache(cache)
        self.flow = Flow(self.dense, tokens.batches(tokens_per_batch), self.cache)
        self.cuts: list[Cut] = []
        self.vetoed: list[Cut] = []
        self.shared_until = self.flow.last

    @contextmanager
    def trial(self, cut: Cut) -> Iterator[ModelView]:
        """Apply ``cut``, unrepaired, for as long as the context lasts: ``state.model`` is the cut model inside."""
        before, shared = self.model, self.shared_until
        trial = before.copy()
        self.merger.merge(trial, cut, None)
        self.model = trial
        self.shared_until = self._shared_with(trial)
        try:
            yield trial
        finally:
            self.model, self.shared_until = before, shared

    def record(self, cut: Cut) -> None:
        """Note that ``cut`` was applied to ``model``."""
        self.cuts.append(cut)
        self.shared_until = self._shared_with(self.model)

    @torch.no_grad()
    def final_streams(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Per batch: the stream leaving the last layer of ``model`` ``[batch, seq, d_model]``, the token ids and
        ``keep`` ``[batch, seq]``. What both models share is not computed twice."""
        for index in range(len(self.flow.batches)):
            walk = self.flow.walk(index)
            stream = walk.to(self.shared_until)
            for number in self.model.numbers:
                if number >= self.shared_until:
                    stream = self.flow.runner.run(self.model, number, walk.batch, stream)
            yield stream, walk.batch.tokens.ids, walk.batch.tokens.keep
            self.progress("scoring", index + 1, len(self.flow.batches))

    def close(self) -> None:
        """Free the caches."""
        self.cache.close()

    def _shared_with(self, view: ModelView) -> int:
        """The first layer that ``view`` lost or whose weights it does not share with the dense model."""
        for number in self.dense.numbers:
            if number not in view.numbers:
                return number
            ours, theirs = (dict(v.layer(number).named_parameters()) for v in (self.dense, view))
            if any(theirs.get(name) is not tensor for name, tensor in ours.items()) or len(ours) != len(theirs):
                return number
        return self.flow.last
