"""Pruner: lets a selector, an estimator and a merger work together on one model."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from transformers import PreTrainedModel

from billhook.activations.activation_cache import CacheBudget
from billhook.cuts.cut import Cut
from billhook.cuts.placed import Placed
from billhook.data.calibration import Calibration
from billhook.data.encoding import refuse_no_tokenizer
from billhook.data.guard import guard_tokens
from billhook.data.tokens import Tokens
from billhook.errors import InvalidConfig
from billhook.log import logger
from billhook.model.skeleton import has_rounded_buffers, renew_buffers
from billhook.model.view import ModelView
from billhook.model.vocabulary import refuse_unknown_ids
from billhook.model.weights import refuse_unusable
from billhook.news import News
from billhook.plans.budget import Budget
from billhook.plans.journal import Journal
from billhook.plans.journal_file import JournalFile, opened
from billhook.plans.plan import TOKENS_PER_BATCH
from billhook.plans.repair import Repair
from billhook.plans.report import CutReport
from billhook.plugins.registry import Registry, default_registry
from billhook.progress import SearchProgress
from billhook.pruning.attribution import Whereabouts, attributed
from billhook.pruning.method import Method
from billhook.pruning.overwriting import Overwriting
from billhook.pruning.proposals import proposals, tell_missed, tell_nothing_cut
from billhook.pruning.records import Records
from billhook.pruning.refusals import (
    refuse_growing,
    refuse_layers,
    refuse_no_budget,
    refuse_no_model,
    refuse_other_regressor,
    refuse_rigid,
    refuse_unmergeable,
    refuse_unweighted,
)
from billhook.regression.linear_map import LinearMap
from billhook.repair.divergence import moved
from billhook.repair.final_repairs import FinalRepairs
from billhook.repair.repairer import Repairer
from billhook.repair.trial_repairs import TrialRepairs
from billhook.results.result import PruneResult
from billhook.results.settling import settle
from billhook.roles.estimator import Estimator
from billhook.roles.merger import Merger
from billhook.roles.objective import Objective
from billhook.roles.recipe import Recipe
from billhook.roles.role import ROLES
from billhook.roles.selector import Selector
from billhook.roles.state import PruningState
from billhook.search.scoring import score, why_not_finite
from billhook.value_kinds import ELSEWHERE, refuse_other_kind, typed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def _path(given: object) -> os.PathLike[str] | None:
    refuse_other_kind(given, str | os.PathLike | None, "The 'journal' of Pruner")
    return given if given is None or isinstance(given, JournalFile) else Path(cast("str", given))


@attrs.frozen(kw_only=True, eq=False, field_transformer=typed)
class Pruner:
    """Orders the steps; knows no method by name.

    A strategy or repair that is not given is that of the default recipe, ``billhook``: of all MLPs the channels that
    the loss misses least, and every writer solved anew. :meth:`following` gives a pruner of another recipe.

    Attributes:
        selector: what goes; an object or a registered name.
        estimator: how each loss is made up for.
        merger: where the repair is put.
        objective: measured before and after, and what searching selectors minimise. If None, those take perplexity,
            and the others do without.
        repair: when and how.
        hooks: plugin objects with hook implementations, for this pruner alone.
        cache: bytes that activations may take.
        tokens_per_batch: tokens that go through a layer at a time; 4096 if None, or what the plan says that is applied.
            Sums in 16 bits depend on it by their last digits, so plans record it.
        journal: a file for the decisions of a search. If it is there, from an interrupted run on the same model, data
            and options, that run goes on where it was; None for no such file.
        registry: where names are looked up; all installed plugins if not given.
        progress: whether it is shown where a run stands: a bar in a terminal and in a notebook, a line about every half
            minute where the output goes to a file. If None, it is, unless one of the ``hooks`` is told of progress, or
            the environment says ``BILLHOOK_PROGRESS=0``.
        recipe: the one that :meth:`following` took the strategies of, for the plan's list of versions; changes nothing.
    """

    selector: str | Selector | None = attrs.field(default=None, metadata=ELSEWHERE)
    estimator: str | Estimator | None = attrs.field(default=None, metadata=ELSEWHERE)
    merger: str | Merger | None = attrs.field(default=None, metadata=ELSEWHERE)
    objective: str | Objective | None = attrs.field(default=None, metadata=ELSEWHERE)
    repair: Repair | None = None
    hooks: Sequence[object] = ()
    cache: CacheBudget = attrs.field(factory=CacheBudget)
    tokens_per_batch: int | None = None
    journal: os.PathLike[str] | None = attrs.field(default=None, converter=_path, metadata={"billhook_kind": False})
    registry: Registry = attrs.field(factory=default_registry, repr=False)
    recipe: Recipe | None = None
    progress: bool | None = None

    def __attrs_post_init__(self) -> None:
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise InvalidConfig(f"The 'tokens_per_batch' of Pruner must be at least 1; got {self.tokens_per_batch}.")

    @classmethod
    def following(cls, recipe: str | Recipe, **options: Any) -> Pruner:
        """A pruner that follows a recipe.

        Args:
            recipe: the recipe, or its name in the ``registry``.
            options: any of the class. A strategy or repair that is given takes the place of the recipe's own.

        Raises:
            UnknownStrategy: nobody offers a recipe of that name; the nearest one is suggested.
            AmbiguousStrategy: two distributions do.
        """
        registry: Registry = options.get("registry", default_registry())
        followed = registry.recipe(recipe) if isinstance(recipe, str) else recipe
        own = {str(role): followed.strategy(role) for role in ROLES}
        return cls(**{**own, "repair": followed.repair, "recipe": followed, **options})

    def method(self) -> Method:
        """The strategies as objects; those that are not given from the default recipe.

        Raises:
            UnknownStrategy, AmbiguousStrategy: a name is not offered, or by two distributions.
            InvalidConfig: an object of another class.
        """
        return _method_of(self, self.whole_registry)

    @property
    def whole_registry(self) -> Registry:
        """:attr:`registry` with what :attr:`hooks` bring."""
        return self.registry.extended(self.hooks) if self.hooks else self.registry

    def prune(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        calibration: object = None,
        budget: Budget,
    ) -> PruneResult:
        """Prune ``model`` by ``budget``. The model that is handed in is never changed, whatever happens.

        Args:
            model: a transformers causal language model that an adapter knows, with finite float weights.
            tokenizer: for calibration text, and carried into checkpoints; not needed with ready token batches.
            calibration: a :class:`Calibration`, or what its ``source`` takes; English text from Python's own help
                if None.
            budget: how much to remove.

        Returns:
            The pruned model, its plan, and figures.

        Raises:
            BillhookError: any rule that is broken; the subclass and the text say which.
        """
        refuse_no_model(model)
        registry, where = self.whole_registry, Whereabouts()  # refuses hooks that are none
        refuse_no_budget(budget)
        if tokenizer is not None:
            refuse_no_tokenizer(tokenizer)
        refuse_layers(self.selector, budget)
        with attributed(registry, where), opened(self.journal) as journal:
            run = _Run(attrs.evolve(self, journal=journal), registry, model, where)
            with run.news, run.overwriting.by_hooks():
                return run(tokenizer, Calibration.of(calibration), budget)


class _Run:
    """One call of :meth:`Pruner.prune`: the loop, and the clock."""

    def __init__(self, pruner: Pruner, registry: Registry, model: PreTrainedModel, where: Whereabouts) -> None:
        self.where = where
        view = registry.view(model)
        refuse_unusable(model)
        self.dense = without_rounding(view)  # the state works on copies of it
        self.pruner, self.hook = pruner, registry.hook
        self.method = _method_of(pruner, registry)
        self.records = Records(
            registry, self.method, self.dense, pruner.tokens_per_batch or TOKENS_PER_BATCH, recipe=pruner.recipe
        )
        self.overwriting = Overwriting(model, self.method, registry, where)
        self.repairer = Repairer(self.method.estimator, self.method.merger)
        self.final = FinalRepairs(self.repairer, self.method.repair)
        self.guard: Tokens | None = None
        self.reports: list[CutReport] = []
        self.metrics: dict[str, float] = {}
        watched = any(hasattr(hooks, "billhook_on_progress") for hooks in pruner.hooks)
        self.news = News(shown=not watched if pruner.progress is None else pruner.progress)

    def __call__(
        self, tokenizer: PreTrainedTokenizerBase | None, calibration: Calibration, budget: Budget
    ) -> PruneResult:
        began = time.perf_counter()
        refuse_unweighted(self.method)
        refuse_other_regressor(self.method)
        refuse_growing(self.method)
        refuse_unmergeable(self.dense, self.method)
        refuse_rigid(self.dense, self.method.selector)
        tokens = calibration.tokenize(tokenizer, self.dense.model, progress=self._progress)
        refuse_unknown_ids(self.dense.model, tokens.ids, tokenizer)
        self.guard = self._guard(calibration, tokens, tokenizer)
        searched = tokens.some(self.method.repair.search_tokens)
        state = self._state(searched, self.records.journal(self.pruner.journal, tokens, budget), on_trial=True)
        try:
            self.hook.billhook_after_calibration(state=state)
            self.hook.billhook_before_prune(state=state, budget=budget)
            self._measure(state, "objective_before")
            self._cut_until_done(state, budget)
            self._repair_finally(state, tokens)
            self._measure(state, "objective_after")
            self.metrics |= moved(state)
        finally:
            state.close()
        settle(state.model)
        self.metrics |= _sizes(self.dense, state.model)
        self.metrics |= {
            "layer_tokens": state.flow.runner.layer_tokens,
            "seconds_total": time.perf_counter() - began,
        }
        result = PruneResult(
            model=state.model.model,
            plan=self.records.plan(state, budget, calibration.record(tokens, self.guard)),
            metrics=self.metrics,
            reports=tuple(self.final.with_figures(report) for report in self.reports),
            repairs=tuple(self.final.reports),
            tokenizer=tokenizer,
        )
        self.hook.billhook_after_prune(result=result)
        return result

    def _guard(
        self, calibration: Calibration, tokens: Tokens, tokenizer: PreTrainedTokenizerBase | None
    ) -> Tokens | None:
        """Text of another kind that repairs are checked on; None where none is asked for, or nothing is repaired."""
        rows = math.ceil(self.method.repair.guard * len(tokens.ids))
        if not rows or not self.repairer.repairs:
            return None
        return guard_tokens(calibration, tokens, tokenizer, self.dense.model, rows=rows, progress=self._progress)

    def _cut_until_done(self, state: PruningState, budget: Budget) -> None:
        cuts = proposals(self.method.selector, state, budget)
        gone = 0
        while True:
            began = time.perf_counter()
            self.where.phase, self.where.cut = "selecting", None
            cut = next(cuts, None)
            self.overwriting.refuse("selector", "objective", "estimator", "merger")
            selected = time.perf_counter()
            self._clock("seconds_selecting", selected - began)
            if cut is None:
                break
            self.where.phase, self.where.cut = "cutting", cut
            if not self._vetoed(state, cut):
                gone = state.removed_parameters
                self._apply(state, cut)
            self._clock("seconds_repairing", time.perf_counter() - selected)
        self.where.phase, self.where.cut = "", None
        if not state.cuts:
            tell_nothing_cut(self.method.selector, state)
        elif self.method.selector.meets_budget and not state.vetoed:
            tell_missed(self.method.selector, state, budget, gone)

    def _apply(self, state: PruningState, cut: Cut) -> None:
        began = time.perf_counter()
        placed = Placed.of(cut, state.model)
        linear_map, figures = self._solve(state, placed)
        self.hook.billhook_after_estimate(state=state, cut=cut, linear_map=linear_map)
        self.overwriting.refuse("estimator")
        self.method.merger.merge_placed(placed, linear_map)
        self.overwriting.refuse("merger")
        state.model.adopt(placed.after)
        state.record(cut)
        figures = attrs.evolve(figures, score=state.scores.get(cut, math.nan), seconds=time.perf_counter() - began)
        self.reports.append(figures)
        logger.trace("{}: R² {:.3f}, {:.1f} s", cut, figures.r_squared, figures.seconds)
        self.hook.billhook_after_cut(state=state, cut=cut, report=figures)

    def _solve(self, state: PruningState, placed: Placed) -> tuple[LinearMap | None, CutReport]:
        if self.final.waits:
            self.final.put_off(placed)
            return None, CutReport(cut=placed.cut)
        if state.trials is not None:
            return state.trials.repair(placed.cut)
        return self.repairer.solve(state, placed)

    def _vetoed(self, state: PruningState, cut: Cut) -> bool:
        reasons = [r for r in self.hook.billhook_before_cut(state=state, cut=cut) if r]
        if reasons and cut not in state.vetoed:
            logger.info("{} is vetoed: {}", cut, "; ".join(reasons))
        if reasons:
            state.vetoed.append(cut)
        return bool(reasons)

    def _repair_finally(self, state: PruningState, tokens: Tokens) -> None:
        """Of the writers that are still to be solved; on all tokens."""
        if not self.final.due(state):
            return
        began = time.perf_counter()
        self.where.phase = "repairing at the end"
        if not self.final.waits:
            self._measure(state, "objective_before_closing")
        searched_all = state.tokens.ids.shape == tokens.ids.shape
        self.final.make(state, None if searched_all else lambda: self._state(tokens))
        self.overwriting.refuse("estimator", "merger")
        self._clock("seconds_repairing", time.perf_counter() - began)

    def _state(self, tokens: Tokens, journal: Journal | None = None, *, on_trial: bool = False) -> PruningState:
        tries = on_trial and self.method.repair.when == "trial" and self.repairer.repairs
        return PruningState(
            self.dense,
            tokens,
            merger=self.method.merger,
            objective=self.method.objective,
            cache=self.pruner.cache,
            tokens_per_batch=self.records.tokens_per_batch,
            progress=self._progress,
            on_search=self._on_search,
            journal=journal,
            repair=self.method.repair,
            trials=(lambda state: TrialRepairs(state, self.repairer)) if tries else None,
            guard=self.guard,
        )

    def _on_search(self, progress: SearchProgress) -> None:
        self.news.searching(progress)
        self.hook.billhook_on_search(progress=progress)

    def _progress(self, stage: str, done: int, total: int | None) -> None:
        self.news(stage, done, total)
        self.hook.billhook_on_progress(stage=stage, done=done, total=total)

    def _measure(self, state: PruningState, name: str) -> None:
        if state.objective is not None:
            self.where.phase = "scoring"
            self.metrics[name] = score(state, state.objective)
            self.overwriting.refuse("objective")
            if not math.isfinite(self.metrics[name]):
                error = why_not_finite(state, state.objective, self.metrics[name])
                if not state.cuts:
                    raise error
                logger.warning("{}", error)

    def _clock(self, name: str, seconds: float) -> None:
        self.metrics[name] = self.metrics.get(name, 0.0) + seconds


def without_rounding(view: ModelView) -> ModelView:
    """The model itself, or a copy in which what a cast has rounded is exact again; see :func:`renew_buffers`."""
    if not has_rounded_buffers(view.model):
        return view
    logger.info("the model was cast by .to(): its {} buffers are made anew in the result", view.model.dtype)
    exact = view.copy()
    renew_buffers(exact.model)
    return exact


def _method_of(pruner: Pruner, registry: Registry) -> Method:
    return Method.of({role: getattr(pruner, role) for role in ROLES}, pruner.repair, registry)


def _sizes(dense: ModelView, pruned: ModelView) -> dict[str, float]:
    return {
        "layers_before": len(dense.numbers),
        "layers_after": len(pruned.numbers),
        "parameters_before": dense.parameter_count,
        "parameters_after": pruned.parameter_count,
        "ratio": 1 - pruned.parameter_count / dense.parameter_count,
    }
