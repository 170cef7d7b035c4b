"""Identity: no repair, and nothing is collected for it."""

from __future__ import annotations

import torch
from tests.strategies.mergers.test_fold import logits, view_of

from billhook import Budget, Needs, Pruner
from billhook.testing import linearised, planted_problem, tiny_model, tiny_tokens
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.selectors.fixed_windows import FixedWindows


def test_it_needs_no_data_and_gives_no_map() -> None:
    assert Identity().needs is Needs.NOTHING
    assert Identity().estimate(planted_problem().regression) is None  # type: ignore[func-returns-value] # the claim itself


def test_a_run_with_it_merely_drops_the_layers() -> None:
    model, tokens = tiny_model("gemma2", num_hidden_layers=6), tiny_tokens()
    pruner = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((0, 1), (3, 5))), estimator=Identity())
    result = pruner.prune(model, calibration=tokens, budget=Budget(layers=3))
    view = view_of(model)
    view.drop_layers([0])
    wanted = logits(linearised(view, result.plan.cuts[1], None), tokens)
    # float32 through three layers
    torch.testing.assert_close(logits(result.model, tokens), wanted, rtol=1e-4, atol=1e-4)
