"""PruningState: what a selector works with while the model shrinks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor

from billhook.activations.activation_cache import ActivationCache, CacheBudget
from billhook.activations.flow import Flow
from billhook.cuts.candidate import Candidate
from billhook.cuts.cut import Cut
from billhook.data.tokens import TokenBatch, Tokens
from billhook.model.shared import first_difference, parameters_by_layer
from billhook.model.view import ModelView
from billhook.model.vocabulary import refuse_unknown_ids
from billhook.plans.journal import Journal
from billhook.plans.repair import Repair
from billhook.progress import Progress, SearchProgress, silent
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.trials import Trials


class PruningState:
    """The dense model, the model as cut so far, the data, and how to run them.

    Attributes:
        dense: the model as it was given. Never changed.
        model: the model as cut so far. Selectors read it; mergers change it.
        tokens: the calibration data.
        guard: text of another kind, which nothing is chosen by or fitted to; None for none.
        merger: puts repairs in.
        progress: told how far a pass is, as ``progress(stage, done, total)``.
        on_search: told where a search stands.
        flow: streams of the dense model, and the runner for single layers of either model.
        cache: where activations are kept.
        objective: what a searching selector minimises; None if none was given.
        cuts: applied so far, in order.
        vetoed: cuts that a hook refused.
        scores: what a search found the objective to be after each cut that it chose.
        journal: where a search writes its decisions down and reads those of an interrupted run; None for nowhere.
        repair: when and how cuts are repaired.
        trials: gives the candidates of a search repaired; None if they are tried as they are.
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
        progress: Progress = silent,
        on_search: Callable[[SearchProgress], None] = silent,
        journal: Journal | None = None,
        repair: Repair | None = None,
        trials: Callable[[PruningState], Trials] | None = None,
        guard: Tokens | None = None,
    ) -> None:
        refuse_unknown_ids(dense.model, tokens.ids)
        self.dense = dense.copy()  # eval() must not reach what was handed in
        self.model = dense.copy()
        for view in (self.dense, self.model):
            view.model.eval()
        self.tokens = tokens
        self.guard = guard
        self.merger = merger
        self.objective = objective
        self.progress = progress
        self.on_search = on_search
        self.journal = journal
        self.repair = Repair() if repair is None else repair
        self.cache = ActivationCache(cache)
        guarding = () if guard is None else guard.batches(tokens_per_batch)
        self.flow = Flow(self.dense, tokens.batches(tokens_per_batch), self.cache, guarding)
        self.cuts: list[Cut] = []
        self.vetoed: list[Cut] = []
        self.scores: dict[Cut, float] = {}
        self.shared_until = self.flow.last
        self.trials: Trials | None = None if trials is None else trials(self)

    @contextmanager
    def trial(self, cut: Cut) -> Iterator[ModelView]:
        """Apply ``cut``, unrepaired, for as long as the context lasts: ``state.model`` is the cut model inside."""
        before, shared = self.model, self.shared_until
        trial = before.copy()
        self.merger.merge(trial, cut, None)
        self.model = trial
        self.shared_until = self.shared_with(trial)
        try:
            yield trial
        finally:
            self.model, self.shared_until = before, shared

    def candidates(self, cuts: Sequence[Cut]) -> list[Candidate]:
        """The present model without each of the cuts, repaired where there are :attr:`trials`; it is not changed.

        Raises:
            InvalidCut: one does not fit the present model.
        """
        if self.trials is None:
            return [Candidate.of(cut, self.model) for cut in cuts]
        return self.trials.candidates(cuts)

    def record(self, cut: Cut) -> None:
        """Note that ``cut`` was applied to ``model``."""
        self.cuts.append(cut)
        self.refresh()

    def refresh(self) -> None:
        """Note that weights of ``model`` were replaced."""
        self.shared_until = self.shared_with(self.model)

    @property
    def removed_parameters(self) -> int:
        """Parameters of the dense model that the present one has lost."""
        return self.dense.parameter_count - self.model.parameter_count

    def final_streams(self) -> Iterator[tuple[Tensor, TokenBatch]]:
        """Per batch: the stream leaving the last layer of ``model`` ``[batch, seq, d_model]``, and its tokens.

        What both models share is not computed twice.
        """
        for index in range(len(self.flow.batches)):
            yield self.final_stream(index)
            self.progress("scoring", index + 1, len(self.flow.batches))

    @torch.no_grad()
    def final_stream(self, index: int) -> tuple[Tensor, TokenBatch]:
        """What :meth:`final_streams` gives of batch ``index``; from ``len(flow.batches)`` on of the guard's."""
        walk = self.flow.walk(index)
        stream = walk.to(self.shared_until)
        for number in self.model.numbers:
            if number >= self.shared_until:
                stream = self.flow.runner.run(self.model, number, walk.batch, stream)
        return stream, walk.batch.tokens

    @torch.no_grad()
    def dense_final_stream(self, index: int) -> Tensor:
        """The stream leaving the last layer of ``dense`` for batch ``index``, ``[batch, seq, d_model]``."""
        return self.flow.walk(index).to(self.flow.last)

    def take(self, model: ModelView) -> None:
        """Work on ``model`` from now on, which others have cut."""
        self.model = model
        self.refresh()

    def close(self) -> None:
        """Free the caches, what is known of trials, and a journal that was opened by its path."""
        self.cache.close()
        if self.journal is not None:
            self.journal.close()
        self.trials = None

    def held_out_rows(self, index: int) -> Tensor | None:
        """Which rows of batch ``index`` no repair is fitted to, ``[batch]`` bool on the CPU; spread over all data.

        None if the batch is one of the guard's.
        """
        if index >= len(self.flow.batches):
            return None
        first = sum(len(batch.ids) for batch in self.flow.batches[:index])
        return self.held_out[first : first + len(self.flow.batches[index].ids)]

    @property
    def held_out(self) -> Tensor:
        """Which rows of :attr:`tokens` no repair is fitted to, ``[rows]`` bool on the CPU; spread over all data."""
        rows = torch.arange(len(self.tokens.ids))
        return ((rows + 1) * self.repair.held_out).floor() > (rows * self.repair.held_out).floor()

    @property
    def compared_on(self) -> Tokens:
        """What candidates are compared on: all tokens; of repaired candidates those held out, if there are any.

        On what it was fitted to, the repair with the most weights would look best.
        """
        if self.trials is None or not bool(self.held_out.any()):
            return self.tokens
        return attrs.evolve(self.tokens, ids=self.tokens.ids[self.held_out], keep=self.tokens.keep[self.held_out])

    def shared_with(self, view: ModelView) -> int:
        """The first layer that ``view`` lost or whose weights it does not share with the dense model."""
        return first_difference(parameters_by_layer(self.dense), parameters_by_layer(view), self.flow.last)
