"""A selector at work, watched: what it cuts, and what else it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import torch

from billhook.cuts.cut import Cut
from billhook.data.tokens import Tokens
from billhook.errors import BillhookError, InvalidCut
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.roles.objective import Objective
from billhook.roles.selector import Selector
from billhook.roles.state import PruningState
from billhook.testing.conformance.expect import Snapshot
from billhook.testing.conformance.global_state import GlobalState
from billhook.testing.samples.bare import Bare
from billhook.testing.samples.models import tiny_tokens, tiny_view
from billhook.testing.samples.planting import silence

LAYERS = 8
"""Of the models that selectors are tried on, unless another size is asked for."""


@attrs.frozen(eq=False)
class Ground:
    """A model and tokens to try a selector on."""

    view: ModelView
    tokens: Tokens

    @contextmanager
    def state(self, objective: Objective | None) -> Iterator[PruningState]:
        """A fresh state on it."""
        state = PruningState(self.view, self.tokens, merger=Bare(), objective=objective, tokens_per_batch=18)
        try:
            yield state
        finally:
            state.close()


def ground(
    family: str = "llama",
    *,
    layers: int = LAYERS,
    seed: int = 5,
    useless: tuple[int, ...] = (),
    under_padding: int | None = None,
) -> Ground:
    """A random model of so many layers, of which some may add nothing, and padded tokens."""
    view = tiny_view(family, num_hidden_layers=layers, seed=seed)
    for number in useless:
        for branch in ("attention", "mlp"):
            silence(view, number, branch)
    tokens = tiny_tokens(rows=5, seq=9, seed=6, padding="both")
    if under_padding is not None:
        ids = tokens.ids.clone()
        ids[~tokens.keep] = under_padding
        tokens = Tokens(ids=ids, keep=tokens.keep)
    return Ground(view, tokens)


@attrs.define(eq=False)
class Run:
    """What came of one run.

    Attributes:
        cuts: that were made.
        removed: parameters that were gone before each cut, and after the last.
        touched: layers that lost something.
        findings: by law, what is wrong.
        error: what the selector raised.
    """

    cuts: list[Cut] = attrs.field(factory=list)
    removed: list[int] = attrs.field(factory=lambda: [0])
    touched: set[int] = attrs.field(factory=set)
    findings: dict[str, list[str]] = attrs.field(factory=dict)
    error: Exception | None = None

    def note(self, law: str, finding: str) -> None:
        self.findings.setdefault(law, []).append(finding)


def run(
    selector: Selector,
    where: Ground,
    budget: Budget,
    objective: Objective | None,
    *,
    watched: bool = True,
    most: int | None = None,
) -> Run:
    """Select and cut in turns, as a Pruner does, looking for changes in between if ``watched``; ``most`` cuts."""
    found = Run()
    with where.state(objective) as state:
        try:
            cuts = selector.select(state, budget)
            while most is None or len(found.cuts) < most:
                before = _Before(state) if watched else None
                cut = next(cuts, None)
                if before is not None:
                    before.compare(selector, found)
                if cut is None or not _possible(selector, state, cut, found):
                    break
                found.touched |= {*cut.changes(state.model)}
                state.merger.merge(state.model, cut, None)
                state.record(cut)
                found.cuts.append(cut)
                found.removed.append(state.removed_parameters)
        except Exception as error:  # the laws judge it
            found.error = error
    return found


def _possible(selector: Selector, state: PruningState, cut: object, found: Run) -> bool:
    if not isinstance(cut, Cut):
        found.note("cuts", f"it yielded a {type(cut).__name__}, which is no Cut")
        return False
    if not isinstance(cut, selector.kinds()):
        kinds = ", ".join(kind.__name__ for kind in selector.kinds())
        found.note("cuts", f"it yielded a {type(cut).__name__}, and kinds() names only {kinds}")
        return False
    try:
        cut.check(state.model)
    except InvalidCut as error:
        found.note("cuts", f"it yielded a cut that cannot be made: {error}")
        return False
    except BillhookError as error:
        found.note("cuts", f"it yielded a cut that cannot be judged: {error}")
        return False
    return True


class _Before:
    """What a state was before a selector was asked."""

    def __init__(self, state: PruningState) -> None:
        self._state = state
        self._views = [Snapshot(state.dense), Snapshot(state.model)]
        self._ids, self._keep = state.tokens.ids.clone(), state.tokens.keep.clone()
        self._held = {name: getattr(state, name) for name in _HELD}
        self._lists = (list(state.cuts), list(state.vetoed))
        self._process = GlobalState()

    def compare(self, selector: Selector, found: Run) -> None:
        state = self._state
        if changed := self._process.changed():
            found.note("process", f"it changed {', '.join(changed)}, which the whole process shares")
        exchanged = [name for name, value in self._held.items() if getattr(state, name) is not value]
        if exchanged or (state.cuts, state.vetoed) != self._lists:
            what = ", ".join(exchanged) or "cuts and vetoes"
            found.note("untouched", f"it changed the state's {what}; trials must be left again")
        same = torch.equal(state.tokens.ids, self._ids) and torch.equal(state.tokens.keep, self._keep)
        if not same:
            found.note("untouched", "it wrote into the state's tokens")
        for snapshot in self._views:
            try:
                snapshot.require_same(selector, "a selector changes no model")
            except AssertionError as error:
                found.note("untouched", str(error).partition(" breaks its contract: ")[2])


_HELD = ("dense", "model", "tokens", "merger", "objective", "repair", "flow", "cache", "journal", "trials")
"""What a state holds for all."""
