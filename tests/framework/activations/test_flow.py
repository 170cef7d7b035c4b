"""Flow: streams at every position of the dense model, each layer run no more often than memory forces it to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.activations.naive import forward

from billhook import ActivationCache, CacheBudget, ModelView
from billhook.activations.flow import STREAM, Flow
from billhook.data.tokens import TokenBatch
from billhook.testing import tiny_tokens, tiny_view

LAYERS = 5
VIEW = tiny_view(num_hidden_layers=LAYERS)
BATCHES = tiny_tokens(4, 8, padding="right").batches(16)  # two rows each
STREAM_BYTES = 2 * 8 * VIEW.d_model * 4
NOTHING = CacheBudget(host=0)


def flow(budget: CacheBudget | None = None, view: ModelView = VIEW) -> Flow:
    return Flow(view, BATCHES, ActivationCache(budget))


def layers_run(flow: Flow) -> int:
    """Layers that were run so far; all batches have as many tokens."""
    return flow.runner.layer_tokens // BATCHES[0].ids.numel()


def assert_right(stream: torch.Tensor, batch: TokenBatch, position: int) -> None:
    expected = forward(VIEW, batch).streams[position]
    assert stream[batch.keep].equal(expected[batch.keep])


def test_the_positions_count_from_the_first_layer_to_behind_the_last() -> None:
    assert flow().last == LAYERS


@pytest.mark.parametrize("budget", [None, NOTHING, CacheBudget(host=3 * STREAM_BYTES)], ids=["all", "none", "some"])
def test_every_position_is_that_of_a_full_forward(budget: CacheBudget | None) -> None:
    under_test = flow(budget)
    for _ in range(2):
        for index, batch in enumerate(BATCHES):
            walk = under_test.walk(index)
            for position in range(LAYERS + 1):
                assert_right(walk.to(position), batch, position)


@given(data=st.data())
def test_any_way_forward_leads_to_the_same_stream(data: st.DataObject) -> None:
    stops = sorted(data.draw(st.lists(st.integers(0, LAYERS), min_size=1, max_size=4)))
    under_test = flow(CacheBudget(host=data.draw(st.integers(0, 8)) * STREAM_BYTES))
    for _ in range(2):
        walk = under_test.walk(1)
        for stop in stops:
            assert_right(walk.to(stop), BATCHES[1], stop)


def test_a_cached_position_costs_no_layer() -> None:
    under_test = flow()
    under_test.walk(0).to(3)
    assert layers_run(under_test) == 3
    under_test.walk(0).to(3)
    assert layers_run(under_test) == 3


def test_a_walk_resumes_from_the_furthest_cached_position() -> None:
    under_test = flow()
    under_test.walk(0).to(3)
    under_test.walk(0).to(LAYERS)
    assert layers_run(under_test) == LAYERS


def test_each_batch_has_its_own_streams() -> None:
    under_test = flow()
    under_test.walk(0).to(LAYERS)
    under_test.walk(1).to(LAYERS)
    assert layers_run(under_test) == 2 * LAYERS


def test_without_a_cache_every_walk_runs_its_layers_again() -> None:
    under_test = flow(NOTHING)
    for _ in range(3):
        under_test.walk(0).to(4)
    assert layers_run(under_test) == 12


@given(room=st.integers(0, LAYERS))
def test_with_room_for_some_streams_only_the_rest_is_run_again(room: int) -> None:
    under_test = flow(CacheBudget(host=room * STREAM_BYTES))
    under_test.walk(0).to(LAYERS)
    under_test.walk(0).to(LAYERS)
    assert layers_run(under_test) == LAYERS + (LAYERS - room)


def test_a_walk_does_not_go_back() -> None:
    walk = flow().walk(0)
    walk.to(2)
    with pytest.raises(ValueError, match="forward only; it stands at 2 and was sent to 1"):
        walk.to(1)


def test_a_walk_goes_on_from_a_stream_computed_elsewhere_and_keeps_it() -> None:
    under_test = flow()
    walk = under_test.walk(0)
    walk.stand_at(2, forward(VIEW, BATCHES[0]).streams[2])
    assert_right(walk.to(4), BATCHES[0], 4)
    assert layers_run(under_test) == 2
    assert (STREAM, 0, 2) in under_test.cache
