"""SearchProgress: numbers that go where they should, from the first news to the last."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from tests.framework.search.search_news import Listening

from billhook import Budget, Pruner, PruneResult, Race, SearchProgress, Selector
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.multi_pruner import MultiPruner
from billhook_strategies.selectors.sleb import Sleb

TOKENS = tiny_tokens(rows=6, seq=6, padding="right")
SELECTORS: list[Selector] = [
    BlockPruner(),
    BlockPruner(race=Race()),
    Sleb(),
    MultiPruner(shares=(3, 2, 1), channel_group=6),
]


def run(selector: Selector, journal: Path | None = None) -> tuple[list[SearchProgress], PruneResult]:
    listening = Listening()
    pruner = Pruner.following(
        "replaceme-ls",
        selector=selector,
        estimator="identity",
        hooks=[listening],
        tokens_per_batch=6,
        objective="kl",
        journal=journal,
    )
    budget = Budget(parameters=0.25)
    result = pruner.prune(tiny_model(num_hidden_layers=4), calibration=TOKENS, budget=budget)
    return listening.news, result


@pytest.fixture(scope="module", params=SELECTORS, ids=repr)
def told(request: pytest.FixtureRequest) -> tuple[list[SearchProgress], PruneResult]:
    return run(request.param)


Told = tuple[list[SearchProgress], PruneResult]


def by_step(news: list[SearchProgress]) -> list[list[SearchProgress]]:
    """The news of each search and step."""
    return [list(group) for _, group in itertools.groupby(news, key=lambda progress: (progress.target, progress.step))]


def test_steps_are_counted_from_one_for_each_search(told: Told) -> None:
    for _, search in itertools.groupby(told[0], key=lambda progress: progress.target):
        steps = [step for step, _ in itertools.groupby(progress.step for progress in search)]
        assert steps == list(range(1, len(steps) + 1))


def test_there_is_a_step_for_each_cut(told: Told) -> None:
    assert len(by_step(told[0])) == len(told[1].reports)


def test_candidates_only_get_fewer_within_a_step(told: Told) -> None:
    for step in by_step(told[0]):
        assert len({progress.candidates for progress in step}) == 1
        left = [progress.candidates_left for progress in step]
        assert left == sorted(left, reverse=True)
        assert left[0] == step[0].candidates
        assert left[-1] >= 1


def test_what_is_removed_only_grows_and_stays_below_the_target(told: Told) -> None:
    removed = [progress.removed for progress in told[0]]
    assert removed == sorted(removed)
    assert all(progress.removed < progress.target for progress in told[0])
    assert removed[0] == 0


def test_what_is_removed_is_what_the_cuts_so_far_have_taken(told: Told) -> None:
    metrics = told[1].metrics
    dense, gone = metrics["parameters_before"], metrics["parameters_before"] - metrics["parameters_after"]
    assert told[0][-1].target == math.ceil(0.25 * dense)
    assert gone >= told[0][-1].target > told[0][-1].removed


def test_the_best_one_is_named_with_its_score_as_soon_as_one_was_scored(told: Told) -> None:
    assert all(progress.best for progress in told[0])
    assert all(math.isfinite(progress.best_score) for progress in told[0])


def test_the_last_best_one_of_a_step_is_what_is_cut_at_its_score(told: Told) -> None:
    for step, report in zip(by_step(told[0]), told[1].reports, strict=True):
        assert step[-1].best == str(report.cut)
        assert step[-1].best_score == report.score


def test_the_time_left_is_known_from_the_first_news_on(told: Told) -> None:
    assert all(math.isfinite(progress.seconds_left) and progress.seconds_left >= 0 for progress in told[0])


def test_at_the_beginning_of_a_search_there_is_time_left(told: Told) -> None:
    for _, search in itertools.groupby(told[0], key=lambda progress: progress.target):
        assert next(search).seconds_left > 0


def test_there_are_news_for_every_candidate_on_every_batch_of_the_first_step() -> None:
    news, _ = run(Sleb())
    (first, *_) = by_step(news)
    assert len(first) >= first[0].candidates  # on one batch at least
    assert len(first) <= first[0].candidates * len(TOKENS.batches(6))


def test_after_a_resumed_step_the_time_left_is_estimated_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    run(BlockPruner(), path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    news, _ = run(BlockPruner(), path)
    assert news[0].step == 2
    assert all(math.isfinite(progress.seconds_left) for progress in news)
    assert news[0].seconds_left > 0
