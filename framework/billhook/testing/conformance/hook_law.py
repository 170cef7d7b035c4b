"""check_hooks: what every plugin with lifecycle hooks promises."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.keep_units import keeping
from billhook.errors import PluginError
from billhook.plans.budget import Budget
from billhook.plans.report import CutReport
from billhook.plugins import hookspecs
from billhook.plugins.registry import Registry, default_registry
from billhook.progress import SearchProgress
from billhook.pruning.pruner import Pruner
from billhook.regression.linear_map import LinearMap
from billhook.results.result import PruneResult
from billhook.roles.state import PruningState
from billhook.testing.conformance.expect import Snapshot, fail, process_unchanged, require
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.samples.models import tiny_model, tiny_tokens
from billhook.testing.samples.states import tiny_state

CUTS: tuple[Cut, ...] = (
    DropLayers(1, 3),
    DropBranch(1, "mlp"),
    DropBranch(2, "attention"),
    keeping((1, "mlp"), range(0, 24, 2)),
    keeping((1, "attention"), [1]),
)
"""One of every kind, for hooks that must not take one kind for all."""

QUICK = 0.01
"""Seconds that a call of a progress hook may take: it is called some thousand times a run."""


def check_hooks(
    plugin: object, *, registry: Registry | None = None, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Raise AssertionError unless the lifecycle hooks of ``plugin`` keep their promises.

    Every hook that it implements is called as a run calls it, with cuts of every kind, and a tiny model is pruned with
    and without the plugin: what hooks read must stay as it is.

    Args:
        plugin: an object, or a module, with functions marked ``hookimpl``.
        registry: the plugins beside it; all that are installed if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(hook_laws(plugin, registry=registry, expected_failures=expected_failures))


def hook_laws(
    plugin: object, *, registry: Registry | None = None, expected_failures: Mapping[str, str] | None = None
) -> list[Law]:
    """What :func:`check_hooks` tests, each law for itself; arguments as there."""
    trial = _Trial(plugin, registry)
    promises: list[Promise] = [
        ("registers", "names and arguments are those of hooks, and each is marked @hookimpl", trial.registers),
        ("takes-part", "a plugin implements at least one hook", trial.takes_part),
        ("runs", "a hook is a plain function: what is async, or yields, is never run", trial.runs),
        ("vetoes", "a veto is a reason, a text that is not empty; None lets a cut pass", trial.vetoes),
        (
            "every-cut",
            "hooks cope with every kind of cut: use what all cuts have, such as cut.touched and cut.layers",
            trial.every_cut,
        ),
        ("reads", "state, cut, map and result are read, not changed", trial.reads),
        ("process", "nothing that the whole process shares is changed", trial.process),
        ("same-model", "without a veto the same model comes out, and the user's own stays as it was", trial.same_model),
        ("quick", "progress hooks are called thousands of times: be quick", trial.quick),
    ]
    return suite(plugin, promises, expected_failures)


class _Trial:
    """A plugin, called as a run calls it."""

    def __init__(self, plugin: object, registry: Registry | None) -> None:
        self.plugin = plugin
        self._beside = registry

    @cached_property
    def registry(self) -> Registry:
        """With the plugin, and what it needs by name."""
        return (default_registry() if self._beside is None else self._beside).extended([self.plugin])

    @cached_property
    def hook(self) -> Any:
        """Of the plugin alone."""
        return Registry().extended([self.plugin]).hook

    def registers(self) -> None:
        try:
            _ = self.registry.hook
        except PluginError as error:
            fail(self.plugin, str(error))

    @cached_property
    def implemented(self) -> dict[str, Callable[..., object]]:
        """The functions, by the hook."""
        hook = self.hook
        names = [name for name in dir(hookspecs) if name.startswith("billhook_")]
        return {
            name: implementation.function for name in names for implementation in getattr(hook, name).get_hookimpls()
        }

    def takes_part(self) -> None:
        law = "it implements no hook: mark functions that are named like hooks with @hookimpl"
        require(bool(self.implemented), self.plugin, law)

    def runs(self) -> None:
        hook = self.hook
        for name in self.implemented:
            for implementation in getattr(hook, name).get_hookimpls():
                function, wraps = implementation.function, implementation.wrapper or implementation.hookwrapper
                idle = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
                require(not idle, self.plugin, f"{name} is async, and nobody awaits it")
                law = f"{name} yields, so that calling it runs nothing"
                require(wraps or not inspect.isgeneratorfunction(function), self.plugin, law)

    def every_cut(self) -> None:
        for cut in CUTS:
            state = self._state(DropLayers(3, 4))
            try:
                self._call_all(state, cut)
            except Exception as error:
                said = f"{cut!r} makes a hook raise {type(error).__name__}: {error}"
                raise AssertionError(f"{self.plugin!r} breaks its contract: {said}") from error

    def vetoes(self) -> None:
        for cut in CUTS:
            try:
                answers = self.hook.billhook_before_cut(state=self._state(), cut=cut)
            except PluginError as error:
                fail(self.plugin, str(error))
            except Exception:  # another law's finding
                return
            for answer in answers:
                reason = isinstance(answer, str) and bool(answer.strip())
                require(reason, self.plugin, f"billhook_before_cut returned {answer!r} for {cut}")

    def reads(self) -> None:
        for cut in CUTS[:2]:
            state = self._state(DropLayers(3, 4))
            watched = _Watched(state)
            linear_map = LinearMap(torch.eye(16, dtype=torch.float64))
            self._call_all(state, cut, linear_map, after=watched.require_same_for(self.plugin))
            law = "it wrote into the map"
            require(torch.equal(linear_map.weight, torch.eye(16, dtype=torch.float64)), self.plugin, law)

    def process(self) -> None:
        with process_unchanged(self.plugin):
            self._call_all(self._state(), CUTS[0])

    def same_model(self) -> None:
        model = tiny_model()
        before = Snapshot(view := self.registry.view(model))
        ours, plain = self._pruned(model, [self.plugin]), self._pruned(model, [])
        before.require_same(self.plugin, "the model that was handed in must stay as it was")
        require(view.model is model, self.plugin, "the model that was handed in must stay as it was")
        if ours.plan.cuts != plain.plan.cuts:
            return  # it vetoed one
        weights, wanted = ours.model.state_dict(), plain.model.state_dict()
        same = weights.keys() == wanted.keys() and all(torch.equal(weights[name], wanted[name]) for name in wanted)
        require(same, self.plugin, "with it the same cuts give another model")
        again = self._pruned(model, [self.plugin])
        law = "a second run with it gives other cuts: it must not depend on the first"
        require(again.plan.cuts == ours.plan.cuts, self.plugin, law)

    def _pruned(self, model: Any, hooks: list[object]) -> PruneResult:
        pruner = Pruner(
            selector="billhook:sleb",
            estimator="billhook:least-squares",
            merger="billhook:fold",
            hooks=hooks,
            registry=default_registry() if self._beside is None else self._beside,
        )
        return pruner.prune(model, calibration=tiny_tokens(rows=6, padding="both"), budget=Budget(layers=1))

    def quick(self) -> None:
        news = SearchProgress(
            step=1, candidates=3, candidates_left=2, best="x", best_score=1.0, removed=0, target=9, seconds_left=1.0
        )
        for call, name in (
            (lambda: self.hook.billhook_on_progress(stage="scoring", done=1, total=None), "billhook_on_progress"),
            (lambda: self.hook.billhook_on_search(progress=news), "billhook_on_search"),
        ):
            if name in self.implemented:
                seconds = statistics.median(_seconds(call) for _ in range(15))
                require(seconds <= QUICK, self.plugin, f"{name} took {1000 * seconds:.0f} ms")

    def _state(self, *gone: Cut) -> PruningState:
        state = tiny_state(tokens=tiny_tokens(rows=2, seq=6, padding="right"))
        for cut in gone:
            cut.remove_from(state.model)
            state.record(cut)
        return state

    def _call_all(
        self,
        state: PruningState,
        cut: Cut,
        linear_map: LinearMap | None = None,
        after: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Every lifecycle hook but the last, in the order of a run."""
        report = CutReport(cut=cut)
        calls: list[tuple[str, dict[str, object]]] = [
            ("billhook_after_calibration", {"state": state}),
            ("billhook_before_prune", {"state": state, "budget": Budget(layers=1)}),
            ("billhook_before_cut", {"state": state, "cut": cut}),
            ("billhook_after_estimate", {"state": state, "cut": cut, "linear_map": linear_map}),
            ("billhook_after_cut", {"state": state, "cut": cut, "report": report}),
            ("billhook_on_progress", {"stage": "scoring", "done": 1, "total": None}),
        ]
        for name, arguments in calls:
            getattr(self.hook, name)(**arguments)
            after(name)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


class _Watched:
    """A state, and what it was."""

    def __init__(self, state: PruningState) -> None:
        self._state = state
        self._views = {"dense": state.dense, "model": state.model}
        self._snapshots = [Snapshot(view) for view in self._views.values()]
        self._tokens = (state.tokens, state.tokens.ids.clone(), state.tokens.keep.clone())
        self._lists = (list(state.cuts), list(state.vetoed), dict(state.scores))

    def require_same_for(self, plugin: object) -> Callable[[str], None]:
        def check(name: str) -> None:
            state = self._state
            for snapshot in self._snapshots:
                snapshot.require_same(plugin, f"{name} must change no model")
            exchanged = [name for name, view in self._views.items() if getattr(state, name) is not view]
            require(not exchanged, plugin, f"{name} put something else in the place of the state's {exchanged}")
            tokens, ids, kept = self._tokens
            same = state.tokens is tokens and torch.equal(tokens.ids, ids) and torch.equal(tokens.keep, kept)
            require(same, plugin, f"{name} changed the calibration tokens")
            lists = (list(state.cuts), list(state.vetoed), dict(state.scores))
            require(lists == self._lists, plugin, f"{name} changed the state's lists of cuts")

        return check
