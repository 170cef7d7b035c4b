"""Evenly: as many units out of every branch, whichever selector says which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.strategies.selecting import state_of

from billhook import (
    Budget,
    Cut,
    KeepChannels,
    ModelView,
    Pruner,
    PruneResult,
    PruningState,
    Repair,
    Selector,
    hookimpl,
)
from billhook.errors import InvalidConfig
from billhook.measures import passes
from billhook.measures.unit_scores import measure_inner
from billhook.testing import tiny_model, tiny_tokens, tiny_view
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.curvature import Curvature
from billhook_strategies.selectors.evenly import evenly, sizes_of

OBS = Channels(uniform=True, score="obs", group=1)
BOTH = [OBS, Curvature(uniform=True, multiple=1)]


def prune(selector: Selector, ratio: float, **options: Any) -> PruneResult:
    options = {"estimator": "identity", **options}
    pruner = Pruner.following("replaceme-ls", selector=selector, **options)
    return pruner.prune(tiny_model(), calibration=tiny_tokens(rows=6), budget=Budget(parameters=ratio))


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("by", ["channels", "curvature"])
def test_all_layers_keep_one_width_and_no_more_goes_than_must(by: str, size: int) -> None:
    selector = Channels(uniform=True, group=size) if by == "channels" else Curvature(uniform=True, multiple=size)
    view = tiny_view(intermediate_size=48)
    with state_of(view) as state:
        cuts = [cut for cut in selector.select(state, Budget(parameters=0.1)) if isinstance(cut, KeepChannels)]
    (width,) = {len(cut.kept) for cut in cuts}
    assert [cut.layer for cut in cuts] == [*view.numbers]
    wanted = 0.1 * view.parameter_count
    gone = [len(cuts) * (3 * view.d_model + 2) * (48 - left) for left in (width, width + size)]  # and two biases
    assert (width % size, gone[0] >= wanted > gone[1]) == (0, True)


def test_by_obs_those_go_that_the_others_make_up_for_best() -> None:
    """The first to go, against the definition: the squared error of the best writer on the other channels."""
    view = tiny_view(num_hidden_layers=2, intermediate_size=12)
    with state_of(view, tokens=tiny_tokens(rows=6)) as state:
        inner = measure_inner(state, "mlp", whole=True)[1]
        (_, cut) = OBS.select(state, Budget(parameters=1e-4))
    assert isinstance(cut, KeepChannels)
    rows = view.writer(1, "mlp").weight.detach().double().T  # type: ignore[operator]
    ridge = 1e-2 * inner.second.diagonal().mean()
    gram = inner.second + ridge * torch.eye(12, dtype=torch.float64)

    def error(gone: int) -> float:
        keep = [c for c in range(12) if c != gone]
        full = torch.zeros_like(rows)
        full[keep] = torch.linalg.solve(gram[keep][:, keep], gram[keep] @ rows)
        return float(((full - rows).T @ gram @ (full - rows)).trace())

    assert set(range(12)) - set(cut.kept) == {min(range(12), key=error)}


@pytest.mark.parametrize("selector", BOTH, ids=repr)
def test_the_cuts_are_the_same_however_many_layers_a_pass_takes(
    selector: Selector, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prune(selector, 0.1).plan.cuts
    monkeypatch.setattr(passes, "GRAM_BYTES", 1)
    assert prune(selector, 0.1).plan.cuts == whole


@pytest.mark.parametrize("selector", BOTH, ids=repr)
def test_a_repair_of_each_cut_does_not_change_which_units_go(selector: Selector) -> None:
    """All are chosen before the first is cut."""
    assert prune(selector, 0.1, estimator="ridge", merger="refit").plan.cuts == prune(selector, 0.1).plan.cuts


def test_repaired_at_the_end_it_is_nearer_to_the_dense_model() -> None:
    data, repair = tiny_tokens(rows=40, seq=16), Repair(when="final", held_out=0.1)
    after = []
    for options in ({"estimator": "identity"}, {"estimator": "ridge", "merger": "refit", "repair": repair}):
        pruner = Pruner.following("replaceme-ls", **{"selector": OBS, "objective": "kl", **options})
        found = pruner.prune(tiny_model(), calibration=data, budget=Budget(parameters=0.2))
        after.append(found.metrics["objective_after"])
    assert after[1] < after[0]


@pytest.mark.parametrize("selector", BOTH, ids=repr)
def test_a_veto_would_leave_layers_unlike_and_ends_it(selector: Selector) -> None:
    class Guard:
        @hookimpl
        def billhook_before_cut(self, state: PruningState, cut: Cut) -> str | None:
            return "mine" if isinstance(cut, KeepChannels) and cut.layer == 1 else None

    with pytest.raises(InvalidConfig, match=r"narrower alike, but a hook vetoed mlp 1 to \d+ channels\. Do without"):
        prune(selector, 0.1, hooks=[Guard()])


@pytest.mark.parametrize("selector", BOTH, ids=repr)
def test_what_the_branches_do_not_have_is_refused_before_any_work(selector: Selector) -> None:
    with state_of(tiny_view()) as state:
        with pytest.raises(InvalidConfig, match=r"cannot be met: [\d,]+ more parameters are to go, and all"):
            next(selector.select(state, Budget(parameters=0.9)))
        assert state.flow.runner.layer_tokens == 0


def test_what_may_not_go_from_all_goes_from_none() -> None:
    def order(count: int) -> Any:
        return {place: range(count) for place in sizes}

    view: ModelView = tiny_view(num_hidden_layers=2)
    sizes = {(0, "mlp"): sizes_of(view, (0, "mlp"), [2, 4, 6]), (1, "mlp"): sizes_of(view, (1, "mlp"), [3, 6])}
    with state_of(view) as state:
        cuts = list(evenly(state, 1, sizes, order))  # type: ignore[arg-type] # mlp is a Branch
    assert cuts == [KeepChannels(number, tuple(range(6, 24))) for number in (0, 1)]
