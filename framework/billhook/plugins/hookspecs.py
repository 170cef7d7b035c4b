"""All hooks of billhook: the complete list of places where a plugin can take part.

A plugin is a module (or an object) with functions named like these and marked with :data:`hookimpl`::

    from billhook import hookimpl

    @hookimpl
    def billhook_register_estimators(register):
        register("my-estimator", MyEstimator)

An implementation may leave out arguments it does not use. An installed distribution is found through its
entry points of the group ``billhook``; an object can be handed to one pruner: ``Pruner(hooks=[obj])``.
Implementations of one hook run in reverse order of registration, built-ins last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from billhook.cuts.cut import Cut
    from billhook.model.adapter import Adapter
    from billhook.plans.budget import Budget
    from billhook.plans.report import CutReport
    from billhook.progress import SearchProgress
    from billhook.regression.linear_map import LinearMap
    from billhook.results.result import PruneResult
    from billhook.roles.estimator import Estimator
    from billhook.roles.merger import Merger
    from billhook.roles.objective import Objective
    from billhook.roles.recipe import Recipe
    from billhook.roles.selector import Selector
    from billhook.roles.state import PruningState

hookspec = pluggy.HookspecMarker("billhook")
hookimpl = pluggy.HookimplMarker("billhook")
"""Marks a function as an implementation of the hook it is named after."""


@hookspec
def billhook_register_selectors(register: Callable[[str, Callable[..., Selector]], None]) -> None:
    """Offer selectors by the name users will write.

    Called once for each plugin, when names are first looked up. ``register(name, factory)`` takes a
    :class:`Selector` class or another callable that returns one. Two distributions offering one name is an
    error naming both, raised when that name is asked for; ``dist:name`` then selects.
    """


@hookspec
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """Offer estimators by name; otherwise like ``billhook_register_selectors``."""


@hookspec
def billhook_register_mergers(register: Callable[[str, Callable[..., Merger]], None]) -> None:
    """Offer mergers by name; otherwise like ``billhook_register_selectors``."""


@hookspec
def billhook_register_objectives(register: Callable[[str, Callable[..., Objective]], None]) -> None:
    """Offer objectives by name; otherwise like ``billhook_register_selectors``."""


@hookspec
def billhook_register_adapters(register: Callable[[Adapter], None]) -> None:
    """Offer adapters. ``register(adapter)`` takes an instance; it serves the ``model_types`` it names.

    Called once for each plugin, when a model is first opened. Two distributions serving one model type is an
    error naming both, raised when such a model is opened; block one with ``BILLHOOK_DISABLE_PLUGINS``.
    """


@hookspec
def billhook_register_recipes(register: Callable[[Recipe], None]) -> None:
    """Offer recipes. ``register(recipe)`` takes an instance, which is found by its own name.

    Called once for each plugin, when a recipe is first looked up. Names follow the rules of
    ``billhook_register_selectors``.
    """


@hookspec
def billhook_before_prune(state: PruningState, budget: Budget) -> None:
    """Before the first cut is selected, once a run. Raising a ``BillhookError`` ends the run."""


@hookspec
def billhook_after_calibration(state: PruningState) -> None:
    """After the calibration data are tokenised and batched, once a run, before ``billhook_before_prune``."""


@hookspec
def billhook_before_cut(state: PruningState, cut: Cut) -> str | None:
    """Before data are collected for a cut, once for each.

    May veto by returning a reason: the cut is skipped, logged and put into ``state.vetoed``. One veto is
    enough; all reasons are logged.
    """


@hookspec
def billhook_after_estimate(state: PruningState, cut: Cut, linear_map: LinearMap | None) -> None:
    """After a cut's map is found and before it is merged, once for each cut; None when nothing is repaired."""


@hookspec
def billhook_after_cut(state: PruningState, cut: Cut, report: CutReport) -> None:
    """After a cut is merged, once for each; ``state.model`` has it."""


@hookspec
def billhook_after_prune(result: PruneResult) -> None:
    """After the last cut, once a run, before the result is returned."""


@hookspec
def billhook_on_progress(stage: str, done: int, total: int | None) -> None:
    """Many times a run: ``done`` of ``total`` steps of ``stage`` are over.

    Stages: ``selecting``, ``estimating``, ``scoring`` and ``comparing`` in steps of one batch; ``writing text`` of one
    token; ``fitting`` of one epoch; ``eliminating`` (which units of a branch can go) and ``repairing`` (at the end) of
    one branch; those of plugins. ``total`` is None where it is not known. Must be quick, and must not change anything.
    """


@hookspec
def billhook_on_search(progress: SearchProgress) -> None:
    """Many times a run of a searching selector: after every candidate that was scored on a batch.

    Says which step it is, how many candidates are left, the best so far, and the time left. Must be quick, and must not
    change anything.
    """
