"""Pruner: lets a selector, an estimator and a merger work together on one model."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
from loguru import logger
from transformers import PreTrainedModel

from billhook import report
from billhook.activation_cache import CacheBudget
from billhook.budget import Budget
from billhook.calibration import Calibration
from billhook.configuration_billhook import family_of
from billhook.cut import Cut
from billhook.estimator import Estimator
from billhook.heterogeneous import settle
from billhook.journal import Journal
from billhook.merger import Merger
from billhook.model_view import ModelView, fingerprint, refuse_unusable
from billhook.objective import Objective
from billhook.plan import CalibrationRecord, ModelIdentity, Plan
from billhook.refusals import (
    refuse_no_budget,
    refuse_no_model,
    refuse_rigid,
    refuse_unmergeable,
)
from billhook.registry import Registry, default_registry
from billhook.repair import Repair
from billhook.repair_sites import Place, branches_of
from billhook.repairer import Repairer
from billhook.result import PruneResult
from billhook.roles import Role, Strategy, options_of
from billhook.scoring import score
from billhook.selector import Selector
from billhook.state import PruningState
from billhook.sweep import sweep
from billhook.tokens import Tokens
from billhook.trial_repairs import TrialRepairs
from billhook.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@attrs.frozen(kw_only=True, eq=False)
class Pruner:
    """Orders the steps; knows no method by name.

    Attributes:
        selector: what goes; an object or a registered name.
        estimator: how each loss is made up for.
        merger: where the repair is put.
        objective: measured before and after, and what searching selectors minimise. If None, those take perplexity,
            and the others do without.
        hooks: plugin objects with hook implementations, for this pruner alone.
        cache: bytes that activations may take.
        tokens_per_batch: tokens that go through a layer at a time.
        repair: when and how.
        journal: a file for the decisions of a search. If it is there, from an interrupted run on the same model, data
            and options, that run goes on where it was; None for no such file.
        registry: where names are looked up; all installed plugins if not given.
    """

    # Qualified: a stranger's plugin that reuses one of these names must not break the defaults.
    selector: str | Selector = "billhook:cosine"
    estimator: str | Estimator = "billhook:least-squares"
    merger: str | Merger = "billhook:fold"
    objective: str | Objective | None = None
    repair: Repair = attrs.field(factory=Repair)
    hooks: Sequence[object] = ()
    cache: CacheBudget = attrs.field(factory=CacheBudget)
    tokens_per_batch: int = 4096
    journal: Path | None = attrs.field(default=None, converter=attrs.converters.optional(Path))
    registry: Registry = attrs.field(factory=default_registry, repr=False)

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
        refuse_no_budget(budget)
        registry = self.registry.extended(self.hooks) if self.hooks else self.registry
        run = _Run(self, registry, ModelView(model, registry.adapter_for(family_of(model.config))))
        return run(tokenizer, Calibration.of(calibration), budget)


class _Run:
    """One call of :meth:`Pruner.prune`: the loop, and the clock."""

    def __init__(self, pruner: Pruner, registry: Registry, given: ModelView) -> None:
        refuse_unusable(given.model)
        self.pruner = pruner
        self.hook = registry.hook
        self.registry = registry
        self.dense = given  # the state works on copies of it
        self.selector = cast(Selector, registry.resolve("selector", pruner.selector))
        self.estimator = cast(Estimator, registry.resolve("estimator", pruner.estimator))
        self.merger = cast(Merger, registry.resolve("merger", pruner.merger))
        objective = pruner.objective or ("billhook:perplexity" if self.selector.needs_objective() else None)
        self.objective = None if objective is None else cast(Objective, registry.resolve("objective", objective))
        self.repairer = Repairer(self.estimator, self.merger)
        self.donors: dict[Cut, Place] = {}
        self.repairs: list[report.SiteReport] = []
        self.reports: list[report.CutReport] = []
        self.metrics: dict[str, float] = {}

    def __call__(
        self, tokenizer: PreTrainedTokenizerBase | None, calibration: Calibration, budget: Budget
    ) -> PruneResult:
        began = time.perf_counter()
        refuse_unmergeable(self.dense, self.selector, self.estimator, self.merger)
        refuse_rigid(self.dense, self.selector)
        tokens = calibration.tokenize(tokenizer, self.dense.model, progress=self._progress)
        state = self._state(tokens.some(self.pruner.repair.search_tokens), self._journal(tokens, budget))
        if self.pruner.repair.when == "trial" and self.repairer.repairs:
            state.trials = TrialRepairs(state, self.repairer)
        try:
            self.hook.billhook_after_calibration(state=state)
            self.hook.billhook_before_prune(state=state, budget=budget)
            self._measure_objective(state, "objective_before")
            self._cut_until_done(state, budget)
            self._repair_finally(state, tokens)
            self._measure_objective(state, "objective_after")
        finally:
            state.close()
        settle(state.model)
        self.metrics |= _sizes(self.dense, state.model) | {
            "layer_tokens": state.flow.runner.layer_tokens,
            "seconds_total": time.perf_counter() - began,
        }
        result = PruneResult(
            model=state.model.model,
            plan=self._plan(state, budget, calibration.record(tokens)),
            metrics=self.metrics,
            reports=tuple(self.reports),
            repairs=tuple(self.repairs),
            tokenizer=tokenizer,
        )
        self.hook.billhook_after_prune(result=result)
        return result

    def _state(self, tokens: Tokens, journal: Journal | None = None) -> PruningState:
        return PruningState(
            self.dense,
            tokens,
            merger=self.merger,
            objective=self.objective,
            cache=self.pruner.cache,
            tokens_per_batch=self.pruner.tokens_per_batch,
            progress=self._progress,
            on_search=lambda progress: self.hook.billhook_on_search(progress=progress),
            journal=journal,
            repair=self.pruner.repair,
        )

    def _progress(self, stage: str, done: int, total: int | None) -> None:
        self.hook.billhook_on_progress(stage=stage, done=done, total=total)

    def _cut_until_done(self, state: PruningState, budget: Budget) -> None:
        cuts = self.selector.select(state, budget)
        while True:
            began = time.perf_counter()
            cut = next(cuts, None)
            selected = time.perf_counter()
            self._clock("seconds_selecting", selected - began)
            if cut is None:
                break
            if not self._vetoed(state, cut):
                self._apply(state, cut)
            self._clock("seconds_repairing", time.perf_counter() - selected)
        if not state.cuts:
            logger.warning("Nothing was cut: {} vetoed.", len(state.vetoed))

    def _apply(self, state: PruningState, cut: Cut) -> None:
        began = time.perf_counter()
        cut.check(state.model)
        if self.pruner.repair.when == "final" and self.repairer.repairs:
            linear_map, figures = None, report.CutReport(cut=cut)
            self._put_off(state, cut)
        else:
            solve = functools.partial(self.repairer.solve, state) if state.trials is None else state.trials.repair
            linear_map, figures = solve(cut)
        self.hook.billhook_after_estimate(state=state, cut=cut, linear_map=linear_map)
        self.merger.merge(state.model, cut, linear_map)
        state.record(cut)
        figures = attrs.evolve(figures, score=state.scores.get(cut, math.nan), seconds=time.perf_counter() - began)
        self.reports.append(figures)
        logger.trace("{}: R² {:.3f}, {:.1f} s", cut, figures.r_squared, figures.seconds)
        self.hook.billhook_after_cut(state=state, cut=cut, report=figures)

    def _put_off(self, state: PruningState, cut: Cut) -> None:
        """Note the donor of a cut that is about to be made; what counted on a donor that goes now counts on it, too."""
        site = cut.repair_site(state.model)
        after = state.model.copy()
        cut.remove_from(after)
        left = {*branches_of(after)}
        concerned = [cut, *(other for other, place in self.donors.items() if place not in left)]
        for one in concerned:
            self.donors.pop(one, None)
            if site is None:
                logger.warning("{} cannot be repaired: nothing that is left stands before it.", one)
            else:
                self.donors[one] = site.layer, site.branch

    def _repair_finally(self, state: PruningState, tokens: Tokens) -> None:
        """The donors that were not repaired when their cuts were made; then the closing passes. On all tokens."""
        began = time.perf_counter()
        options = self.pruner.repair
        if not self.repairer.repairs or not state.cuts or (options.when != "final" and not options.closing):
            return
        if options.closing and options.when != "final":
            self._measure_objective(state, "objective_before_closing")
        if state.tokens.ids.shape == tokens.ids.shape:
            self._sweep(state)
        else:
            state.cache.close()  # there is one budget of memory
            state.trials = None
            everything = self._state(tokens)
            try:
                everything.take(state.model)
                self._sweep(everything)
            finally:
                everything.close()
            state.refresh()
        self._clock("seconds_repairing", time.perf_counter() - began)

    def _sweep(self, state: PruningState) -> None:
        options = self.pruner.repair
        if options.when == "final":
            self.repairs += sweep(state, self.repairer, self.donors.values(), target=options.target)
            self.reports = [self._with_final_figures(figures) for figures in self.reports]
        for _ in range(options.closing):
            self.repairs += sweep(state, self.repairer, branches_of(state.model), readers=options.readers)

    def _with_final_figures(self, figures: report.CutReport) -> report.CutReport:
        """With those of its donor's repair, which may make up for other cuts, too."""
        place = self.donors.get(figures.cut)
        found = next((site for site in self.repairs if (site.donor, site.branch) == place), None)
        return figures if found is None else attrs.evolve(figures, **attrs.asdict(found, recurse=False))

    def _vetoed(self, state: PruningState, cut: Cut) -> bool:
        reasons = [r for r in self.hook.billhook_before_cut(state=state, cut=cut) if r]
        if reasons:
            logger.info("{} is vetoed: {}", cut, "; ".join(reasons))
            state.vetoed.append(cut)
        return bool(reasons)

    def _measure_objective(self, state: PruningState, name: str) -> None:
        if state.objective is not None:
            self.metrics[name] = score(state, state.objective)

    def _plan(self, state: PruningState, budget: Budget, calibration: CalibrationRecord) -> Plan:
        return Plan(
            cuts=tuple(state.cuts),
            model=self._identity(),
            budget=budget,
            selector=self.registry.spec("selector", self.selector),
            estimator=self.registry.spec("estimator", self.estimator),
            merger=self.registry.spec("merger", self.merger),
            objective=None if self.objective is None else self.registry.spec("objective", self.objective),
            repair=self.pruner.repair,
            calibration=calibration,
            billhook=__version__,
        )

    def _identity(self) -> ModelIdentity:
        config = self.dense.model.config
        return ModelIdentity(
            model_type=family_of(config),
            layer_count=len(self.dense.numbers),
            parameter_count=self.dense.parameter_count,
            name=_public_name(config.name_or_path or ""),
        )

    def _journal(self, tokens: Tokens, budget: Budget) -> Journal | None:
        """The journal of this very run: all that its decisions depend on is written at its top."""
        if self.pruner.journal is None:
            return None
        strategies: dict[Role, Strategy | None] = {
            "selector": self.selector,
            "estimator": self.estimator,
            "merger": self.merger,
            "objective": self.objective,
        }
        run: dict[str, Any] = {role: None if s is None else self._told(role, s) for role, s in strategies.items()}
        run |= {
            "budget": attrs.asdict(budget),
            "repair": attrs.asdict(self.pruner.repair),
            "data": {"fingerprint": tokens.fingerprint},
            "model": attrs.asdict(self._identity()) | {"weights": fingerprint(self.dense.model)},
            "billhook": {"version": __version__},
        }
        return Journal(self.pruner.journal, run)

    def _told(self, role: Role, strategy: Strategy) -> dict[str, Any]:
        """Name and options as JSON values; those of a class that is not registered in words."""
        spec = self.registry.spec(role, strategy)
        if spec.name.startswith("("):
            spec = attrs.evolve(spec, options={name: repr(v) for name, v in options_of(strategy).items()})
        return attrs.asdict(spec)

    def _clock(self, name: str, seconds: float) -> None:
        self.metrics[name] = self.metrics.get(name, 0.0) + seconds


def _public_name(name: str) -> str:
    """A hub name as it is, of a local path only the last part: plans travel, and paths tell about their owner."""
    return Path(name).name if Path(name).exists() or Path(name).is_absolute() else name


def _sizes(dense: ModelView, pruned: ModelView) -> dict[str, float]:
    return {
        "layers_before": len(dense.numbers),
        "layers_after": len(pruned.numbers),
        "parameters_before": dense.parameter_count,
        "parameters_after": pruned.parameter_count,
        "ratio": 1 - pruned.parameter_count / dense.parameter_count,
    }
