"""FinalRepairs: who makes up for what, when nothing is repaired until all cuts are made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from billhook import Cut, CutReport, DropBranch, DropLayers, KeepChannels, PruningState, Repair
from billhook.cuts.placed import Placed
from billhook.repair.final_repairs import FinalRepairs
from billhook.repair.repairer import Repairer
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.refit import Refit

FINAL = Repair(when="final", held_out=0.25)
REPAIRER = Repairer(Ridge(), Refit())


def state_after(final: FinalRepairs, cuts: Sequence[Cut], repair: Repair = FINAL) -> PruningState:
    """With the cuts made, and put off."""
    state = PruningState(tiny_view(num_hidden_layers=6), tiny_tokens(8, 16), merger=Refit(), repair=repair)
    for cut in cuts:
        placed = Placed.of(cut, state.model)
        final.put_off(placed)
        state.model.adopt(placed.after)
        state.record(cut)
    return state


def donors(cuts: Sequence[Cut]) -> list[tuple[int | None, str | None]]:
    """Of each cut, once all is repaired."""
    final = FinalRepairs(REPAIRER, FINAL)
    state = state_after(final, cuts)
    final.make(state, None)
    state.close()
    found = [final.with_figures(CutReport(cut=cut)) for cut in cuts]
    return [(report.donor, report.branch) for report in found]


def test_each_cut_counts_on_the_nearest_writer_that_is_left() -> None:
    cuts = (KeepChannels(4, tuple(range(9))), DropLayers(2, 3), DropBranch(5, "mlp"))
    assert donors(cuts) == [(4, "mlp"), (1, "mlp"), (5, "attention")]


def test_what_counted_on_a_donor_that_goes_counts_on_the_next_one() -> None:
    assert donors((DropLayers(3, 4), DropLayers(2, 3), DropBranch(1, "mlp"))) == [(1, "attention")] * 3


def test_where_nothing_is_left_before_a_cut_a_warning_says_so(logged: list[str]) -> None:
    final = FinalRepairs(REPAIRER, FINAL)
    state_after(final, (DropLayers(0, 1),)).close()
    assert logged == ["layers 0:1 cannot be repaired: nothing that is left stands before it."]


def test_a_donor_is_solved_once_for_all_that_count_on_it() -> None:
    final = FinalRepairs(REPAIRER, FINAL)
    state = state_after(final, (DropLayers(2, 3), DropLayers(3, 4)))
    final.make(state, None)
    state.close()
    assert [(report.donor, report.branch) for report in final.reports] == [(1, "mlp")]


@pytest.mark.parametrize(
    ("repairer", "repair", "due"),
    [
        (REPAIRER, FINAL, True),
        (REPAIRER, Repair(), False),
        (REPAIRER, Repair(closing=1), True),
        (Repairer(Identity(), Refit()), FINAL, False),
    ],
)
def test_there_is_something_to_do_if_repairs_wait_or_a_closing_pass_follows(
    repairer: Repairer, repair: Repair, due: bool
) -> None:
    final = FinalRepairs(repairer, repair)
    state = state_after(FinalRepairs(repairer, repair), (DropLayers(2, 3),), repair)
    assert final.due(state) is due
    untouched = PruningState(tiny_view(), tiny_tokens(), merger=Refit())
    assert not final.due(untouched)


def test_of_a_search_on_few_tokens_all_are_used_in_the_end() -> None:
    final = FinalRepairs(REPAIRER, FINAL)
    state = state_after(final, (DropLayers(2, 3),))
    more = tiny_tokens(32, 16)
    final.make(state, lambda: PruningState(state.dense, more, merger=Refit(), repair=FINAL))
    assert final.reports[0].token_count == 32 * 16 * 3 // 4  # a quarter is held out
    assert state.shared_until == 1  # the writer of layer 1 is another one now
