"""CandidateStreams: what a candidate leaves behind its last layer, with no layer run twice for the same input."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.framework.search.naive_search import mixed
from torch import Tensor

from billhook import (
    CacheBudget,
    Cut,
    DropBranch,
    DropLayers,
    KeepChannels,
    KeepHeads,
    LinearMap,
    ModelView,
    PruningState,
)
from billhook.cuts.candidate import Candidate
from billhook.model.shared import first_difference, parameters_by_layer
from billhook.search.candidate_streams import CANDIDATE, CandidateStreams
from billhook.testing import random_map, tiny_tokens, tiny_view, zeroed
from billhook_strategies.mergers.fold import Fold

LAYERS = 6
TOKENS = tiny_tokens(rows=2, seq=5, padding="right")
COUNT = TOKENS.ids.numel()
(BATCH,) = TOKENS.batches(COUNT)
CUTS = [DropBranch(4, "mlp"), DropLayers(1, 2), KeepChannels(2, (0, 5)), KeepHeads(4, (1,)), DropBranch(0, "mlp")]


@pytest.fixture
def state() -> Iterator[PruningState]:
    state = state_of()
    yield state
    state.close()


def state_of(cache: CacheBudget | None = None, family: str = "llama") -> PruningState:
    view = tiny_view(family, num_hidden_layers=LAYERS)
    return PruningState(view, TOKENS, merger=Fold(), cache=cache, tokens_per_batch=COUNT)


def streams_of(state: PruningState) -> CandidateStreams:
    return CandidateStreams(state, state.flow.batches)


def run(
    streams: CandidateStreams, state: PruningState, cuts: Sequence[Cut], meeting: Sequence[int] = ()
) -> dict[Cut, Tensor]:
    """The last stream of each, in the order in which they come."""
    candidates = [Candidate.of(cut, state.model) for cut in cuts]
    streams.start_step(candidates)
    return {candidate.cut: stream for candidate, stream, _ in streams.last_streams(0, candidates, meeting)}


def work(streams: CandidateStreams, state: PruningState, cuts: Sequence[Cut], meeting: Sequence[int] = ()) -> float:
    """Layers that had to be run."""
    before = state.flow.runner.layer_tokens
    run(streams, state, cuts, meeting)
    return (state.flow.runner.layer_tokens - before) / COUNT


def kept_at(streams: CandidateStreams, state: PruningState, position: int) -> list[Cut]:
    """The candidates whose stream at that position is in the cache."""
    return [cut for cut in CUTS if (CANDIDATE, streams, cut, 0, position) in state.cache]


def own_last(view: ModelView, *cuts: Cut) -> Tensor:
    """What leaves the last layer of the model without ``cuts``, read off a whole forward; no padding."""
    return last_of(ModelView(zeroed(view, *cuts), view.adapter))


@torch.no_grad()
def last_of(view: ModelView) -> Tensor:
    """What leaves its last layer in a whole forward; no padding."""
    seen: list[Tensor] = []
    handle = view.layers[-1].register_forward_hook(lambda layer, args, out: seen.append(view.adapter.stream(out)))
    view.model(input_ids=BATCH.ids, attention_mask=BATCH.attention_mask, use_cache=False)
    handle.remove()
    return seen[0][BATCH.keep]


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found[BATCH.keep], wanted, rtol=1e-4, atol=1e-4)  # float32, other kernels


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "falcon", "gemma3_text", "phi3", "opt"])
@pytest.mark.parametrize("meeting", [(), (0,), (3,), (5, 1, 3)])
def test_they_are_those_of_the_models_without_the_cuts(family: str, meeting: Sequence[int]) -> None:
    state = state_of(family=family)
    cuts = mixed(state.model)
    for cut, stream in run(streams_of(state), state, cuts, meeting).items():
        assert_close(stream, own_last(state.dense, cut))
    state.close()


@given(seed=st.integers(0, 2**20), room=st.integers(0, 6))
@settings(max_examples=8)
def test_whatever_is_cut_cached_and_met_they_stay_right(seed: int, room: int) -> None:
    """Several steps, each with other candidates and other meeting points; a cut, perhaps repaired, in between."""
    state, chance = state_of(CacheBudget(host=room * COUNT * 16 * 4)), random.Random(seed)
    streams = streams_of(state)
    for _ in range(3):
        cuts = chance.sample(mixed(state.model), 5)
        for cut, stream in run(streams, state, cuts, chance.sample(range(LAYERS + 1), 2)).items():
            smaller = state.model.copy()
            cut.remove_from(smaller)
            assert_close(stream, last_of(smaller))
        number = chance.choice(state.model.numbers[1:])
        gone = DropLayers(number, number + 1)
        state.merger.merge(state.model, gone, chance.choice([None, random_map(16)]))
        state.record(gone)
    state.close()


def test_they_come_in_layer_order(state: PruningState) -> None:
    found = run(streams_of(state), state, CUTS)
    assert [Candidate.of(cut, state.model).first for cut in found] == [0, 1, 2, 4, 4]


def test_the_stream_before_the_candidates_is_computed_once(state: PruningState) -> None:
    own = [6, 4, 4, 2, 2]  # from the first layer that changes on, less the layer that goes
    shared = 4  # up to the last candidate's first
    assert work(streams_of(state), state, CUTS) == shared + sum(own)


def test_the_next_step_resumes_at_the_meeting_point(state: PruningState) -> None:
    streams = streams_of(state)
    work(streams, state, CUTS, meeting=[4])
    # three went through layer 4 on their own, and two begin there: those need the shared stream again
    assert work(streams, state, CUTS[1:3], meeting=[4]) == 2 * 2
    assert work(streams, state, CUTS, meeting=()) == 4 + 2 * 2 + 6 + 2 * 2


def test_without_room_everything_is_computed_again() -> None:
    state = state_of(CacheBudget(host=0))
    streams = streams_of(state)
    assert work(streams, state, CUTS, meeting=[4]) == work(streams, state, CUTS, meeting=[4])
    state.close()


def test_the_furthest_of_several_meeting_points_is_resumed_at(state: PruningState) -> None:
    streams = streams_of(state)
    work(streams, state, CUTS[1:2], meeting=[3, 5, 2])
    assert [position for position in range(LAYERS + 1) if kept_at(streams, state, position)] == [2, 3, 5]
    assert work(streams, state, CUTS[1:2]) == 1


def test_the_first_meeting_points_get_the_room() -> None:
    state = state_of(CacheBudget(host=1 * COUNT * 16 * 4))
    streams = streams_of(state)
    work(streams, state, CUTS[1:2], meeting=[3, 5, 2])
    assert [position for position in range(LAYERS + 1) if kept_at(streams, state, position)] == [3]
    state.close()


def test_a_later_search_frees_the_room_of_an_earlier_one(state: PruningState) -> None:
    run(streams_of(state), state, CUTS, meeting=[5])
    assert state.cache.used["host"] > 0
    streams_of(state)
    assert state.cache.used["host"] == 0


def test_candidates_that_begin_at_the_meeting_point_or_later_leave_nothing_there(state: PruningState) -> None:
    streams = streams_of(state)
    run(streams, state, CUTS, meeting=[2])
    assert kept_at(streams, state, 2) == [DropLayers(1, 2), DropBranch(0, "mlp")]


def test_what_is_no_candidate_any_more_is_forgotten(state: PruningState) -> None:
    streams = streams_of(state)
    run(streams, state, CUTS, meeting=[LAYERS])
    streams.start_step([Candidate.of(CUTS[0], state.model)])
    assert kept_at(streams, state, LAYERS) == CUTS[:1]


def test_one_that_is_repaired_otherwise_is_run_anew(state: PruningState) -> None:
    streams = streams_of(state)
    run(streams, state, CUTS[:2], meeting=[LAYERS])
    same, other = (Candidate.of(cut, state.model) for cut in CUTS[:2])
    streams.start_step([same, attrs.evolve(other, repair=LinearMap(torch.eye(2)))])
    assert kept_at(streams, state, LAYERS) == CUTS[:1]


@pytest.mark.parametrize(("meeting", "kept"), [(2, True), (3, True), (4, False)])
def test_a_change_reaches_what_comes_after_it(meeting: int, kept: bool, state: PruningState) -> None:
    streams = streams_of(state)
    run(streams, state, [CUTS[1]], meeting=[meeting])
    DropLayers(3, 4).remove_from(state.model)
    streams.start_step([Candidate.of(CUTS[1], state.model)])
    assert (kept_at(streams, state, meeting) == [CUTS[1]]) == kept


def test_the_dense_last_stream_is_the_dense_models_whatever_was_cut(state: PruningState) -> None:
    DropLayers(2, 4).remove_from(state.model)
    streams, batch = streams_of(state), state.flow.runner.open(BATCH)
    before = state.flow.runner.layer_tokens
    for _ in range(2):
        assert_close(streams.dense_last(0, batch), own_last(state.dense))
    assert (state.flow.runner.layer_tokens - before) / COUNT == LAYERS  # the second time from the cache


def test_the_state_is_not_changed(state: PruningState) -> None:
    before = parameters_by_layer(state.model)
    run(streams_of(state), state, CUTS, meeting=[3])
    assert first_difference(before, parameters_by_layer(state.model), LAYERS) == LAYERS


# --- which layers differ -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut", [DropLayers(2, 4), DropBranch(2, "attention"), KeepChannels(2, (1,)), KeepHeads(2, (0,))]
)
def test_models_differ_from_the_layer_that_was_cut_on(cut: Cut) -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    smaller = view.copy()
    cut.remove_from(smaller)
    for one, other in ((view, smaller), (smaller, view)):
        assert first_difference(parameters_by_layer(one), parameters_by_layer(other), 99) == 2


def test_models_differ_from_the_layer_that_was_repaired_on() -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    smaller = view.copy()
    Fold().merge(smaller, DropLayers(3, 4), random_map(view.d_model))
    assert first_difference(parameters_by_layer(view), parameters_by_layer(smaller), 99) == 2


def test_a_copy_that_shares_its_weights_does_not_differ() -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    assert first_difference(parameters_by_layer(view), parameters_by_layer(view.copy()), 99) == 99


def test_equal_weights_in_other_parameters_count_as_different() -> None:
    """Their identity is asked, which costs nothing."""
    one, other = (tiny_view(num_hidden_layers=LAYERS) for _ in range(2))
    assert first_difference(parameters_by_layer(one), parameters_by_layer(other), 99) == 0
