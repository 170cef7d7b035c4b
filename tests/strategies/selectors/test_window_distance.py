"""WindowDistance: all distances against plain formulas, and the choice against its rules."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.strategies.observing import own_streams
from torch import Tensor

from billhook import Budget, DropLayers, ModelView, PruningState, Tokens, WindowDistances, default_registry
from billhook import measure_windows as measure
from billhook.errors import InvalidConfig
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.selectors.window_distance import WindowDistance

Padding = Literal["none", "left", "right", "both"]

TOLERANCE = 2e-5
"""float32 streams of order 1; 1 − cos loses the digits that the cosine has above the distance."""


@contextmanager
def state_of(view: ModelView, tokens: Tokens, tokens_per_batch: int = 24) -> Iterator[PruningState]:
    state = PruningState(view, tokens, merger=Fold(), tokens_per_batch=tokens_per_batch)
    try:
        yield state
    finally:
        state.close()


def naive(metric: str, before: Tensor, after: Tensor) -> float:
    """Token by token, as the papers write it."""
    distances = []
    for a, b in zip(before, after, strict=True):
        cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
        length = math.sqrt(float((a - b) @ (a - b)))
        angle = math.acos(max(-1.0, min(1.0, cosine))) / math.pi
        distances.append({"cosine": 1 - cosine, "angular": angle, "l2": length}[metric])
    return sum(distances) / len(distances)


def picked(keep: Tensor, tokens: str, skip_sink: bool) -> Tensor:
    """Row by row: which of the kept tokens count, as a mask over them in their order."""
    flags: list[bool] = []
    for row in keep:
        count = int(row.sum())
        chosen = [number == count - 1 or tokens == "all" for number in range(count)]
        flags += [c and not (skip_sink and number == 0) for number, c in enumerate(chosen)]
    return torch.tensor(flags)


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "falcon", "gemma3_text", "opt"])
@given(
    metric=st.sampled_from(["cosine", "angular", "l2"]),
    which=st.sampled_from(["all", "last"]),
    skip_sink=st.booleans(),
    padding=st.sampled_from(["none", "left", "right", "both"]),
    seed=st.integers(0, 99),
)
def test_every_window_has_the_distance_of_the_plain_formula(
    model_type: str, metric: Any, which: Any, skip_sink: bool, padding: Padding, seed: int
) -> None:
    view, tokens = _view(model_type), tiny_tokens(rows=5, seq=8, seed=seed, padding=padding)
    with state_of(view, tokens) as state:
        found = measure(state, metric=metric, tokens=which, skip_sink=skip_sink)
    streams = own_streams(view, tokens)[:, picked(tokens.keep, which, skip_sink)]
    assert found.token_count == streams.shape[1]
    for start, stop in itertools.combinations(range(5), 2):
        wanted = naive(metric, streams[start], streams[stop])
        assert found[start, stop] == pytest.approx(wanted, rel=1e-4, abs=TOLERANCE)


@functools.cache
def _view(model_type: str) -> ModelView:
    """The same model for all examples: it is never changed."""
    return tiny_view(model_type)


def test_distances_are_nan_below_the_diagonal_and_past_the_last_layer_needed() -> None:
    with state_of(tiny_view(), tiny_tokens()) as state:
        found = measure(state, until=3)
    expected_nan = torch.tensor([[not (i < j <= 3) for j in range(5)] for i in range(5)])
    assert torch.equal(found.values.isnan(), expected_nan)
    assert [start for start, _ in found.of_length(2)] == [0, 1]


def test_layers_past_the_last_one_needed_are_not_run() -> None:
    with state_of(tiny_view(), tiny_tokens()) as state:
        measure(state, until=3)
        assert state.flow.runner.layer_tokens == 3 * state.tokens.ids.numel()


def test_the_split_into_batches_does_not_matter() -> None:
    tokens = tiny_tokens(rows=6, padding="both")
    found = []
    for size in (1, 24, 1000):
        with state_of(tiny_view(), tokens, size) as state:
            found.append(measure(state).values.nan_to_num())
    # float32 streams from matrix products of other sizes
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-6)


def test_rows_of_one_token_cannot_lose_it() -> None:
    with (
        state_of(tiny_view(), tiny_tokens(seq=1)) as state,
        pytest.raises(InvalidConfig, match="No token is left to measure"),
    ):
        measure(state, skip_sink=True)


@pytest.mark.parametrize(("name", "value"), [("metric", "manhattan"), ("tokens", "first")])
def test_an_unknown_way_of_measuring_is_refused(name: str, value: Any) -> None:
    with (
        state_of(tiny_view(), tiny_tokens()) as state,
        pytest.raises(InvalidConfig, match=f"cosine, angular, l2, over 'all' or 'last' tokens; got .*{value}"),
    ):
        measure(state, **{name: value})


LAYERS = 9

selectors = st.builds(
    WindowDistance,
    metric=st.sampled_from(["cosine", "angular", "l2"]),
    windows=st.integers(1, 4),
    touching=st.booleans(),
    merge_touching=st.booleans(),
    protect_first=st.integers(0, 3),
    protect_last=st.integers(0, 3),
)


def _select(selector: WindowDistance, layers: int) -> tuple[list[DropLayers], WindowDistances]:
    cuts = list(selector.select(_deep_state(), Budget(layers=layers)))
    distances = measure(_deep_state(), metric=selector.metric)
    assert all(isinstance(cut, DropLayers) for cut in cuts)
    return [cut for cut in cuts if isinstance(cut, DropLayers)], distances


@functools.cache
def _deep_state() -> PruningState:
    """The same state for all examples: selectors change nothing."""
    return PruningState(tiny_view(num_hidden_layers=LAYERS, seed=3), tiny_tokens(rows=2, seq=5), merger=Fold())


def _room(selector: WindowDistance) -> int:
    return LAYERS - selector.protect_first - selector.protect_last


def _needed(selector: WindowDistance, layers: int) -> int:
    return layers + (0 if selector.touching else min(selector.windows, layers) - 1)


@given(selector=selectors, layers=st.integers(1, LAYERS - 1))
def test_windows_meet_the_budget_and_leave_the_protected_layers(selector: WindowDistance, layers: int) -> None:
    assume(_needed(selector, layers) <= _room(selector))
    cuts, _ = _select(selector, layers)
    gone = [number for cut in cuts for number in cut.layers]
    assert gone == sorted(set(gone)), "in layer order, without overlap"
    assert len(gone) == layers
    assert min(gone) >= selector.protect_first
    assert max(gone) < LAYERS - selector.protect_last


@given(selector=selectors, layers=st.integers(1, LAYERS - 1))
def test_what_does_not_fit_is_refused_before_anything_is_measured(selector: WindowDistance, layers: int) -> None:
    assume(_needed(selector, layers) > _room(selector))
    state = _deep_state()
    state.cache.close()
    run = state.flow.runner.layer_tokens
    with pytest.raises(InvalidConfig, match=r"do not fit into the \d layers that are not protected"):
        next(selector.select(state, Budget(layers=layers)))
    assert state.flow.runner.layer_tokens == run


@pytest.mark.parametrize(
    ("merge", "wanted"), [(True, [DropLayers(1, 8)]), (False, [DropLayers(1, 5), DropLayers(5, 8)])]
)
def test_touching_windows_become_one_cut_or_stay_two(merge: bool, wanted: list[DropLayers]) -> None:
    cuts, _ = _select(WindowDistance(windows=2, merge_touching=merge), LAYERS - 2)  # no layer is left between them
    assert {len(cut) for cut in cuts} == {len(cut) for cut in wanted}
    assert (cuts[0].start, cuts[-1].stop, len(cuts)) == (1, 8, len(wanted))


@given(selector=selectors, layers=st.integers(2, LAYERS - 1))
def test_windows_are_as_many_as_asked_unless_they_merge_and_keep_apart_if_they_must(
    selector: WindowDistance, layers: int
) -> None:
    assume(_needed(selector, layers) <= _room(selector))
    cuts, _ = _select(selector, layers)
    gaps = [after.start - before.stop for before, after in itertools.pairwise(cuts)]
    assert min(gaps, default=1) >= (1 if selector.merge_touching or not selector.touching else 0)
    if not (selector.merge_touching and selector.touching):
        assert len(cuts) == min(selector.windows, layers)


@given(metric=st.sampled_from(["cosine", "angular", "l2"]), layers=st.integers(1, LAYERS - 2))
def test_one_window_is_the_nearest_of_its_length(metric: Any, layers: int) -> None:
    cuts, distances = _select(WindowDistance(metric=metric), layers)
    starts = range(1, LAYERS - layers)
    nearest = min(starts, key=lambda start: distances[start, start + layers])
    assert cuts == [DropLayers(nearest, nearest + layers)]


@given(layers=st.integers(3, 7), touching=st.booleans())
def test_several_windows_are_chosen_greedily_among_those_that_leave_room(layers: int, touching: bool) -> None:
    selector = WindowDistance(windows=3, merge_touching=False, touching=touching)
    assume(_needed(selector, layers) <= _room(selector))
    cuts, distances = _select(selector, layers)
    lengths = [layers // 3 + (number < layers % 3) for number in range(3)]
    assert cuts == [DropLayers(*span) for span in sorted(_greedy(distances, lengths, 0 if touching else 1))]


def _greedy(distances: WindowDistances, lengths: list[int], gap: int) -> list[tuple[int, int]]:
    """By trying every layout: the nearest first window of any, then the nearest second beside it, and so on."""
    starts = range(1, LAYERS - 1)
    layouts = [
        [(start, start + length) for start, length in zip(choice, lengths, strict=True)]
        for choice in itertools.product(starts, repeat=len(lengths))
    ]
    layouts = [layout for layout in layouts if _apart(layout, gap)]
    return min(layouts, key=lambda layout: [(distances[span], span[0]) for span in layout])


def _apart(layout: list[tuple[int, int]], gap: int) -> bool:
    spans = sorted(layout)
    return spans[-1][1] <= LAYERS - 1 and all(a[1] + gap <= b[0] for a, b in itertools.pairwise(spans))


def test_ties_go_to_the_lower_layer() -> None:
    view = tiny_view(num_hidden_layers=6)
    with torch.no_grad():
        for number in view.numbers:
            for parameter in (*view.writer(number, "mlp").parameters(), *view.writer(number, "attention").parameters()):
                parameter.zero_()  # no layer changes the stream: all windows are equally near
    with state_of(view, tiny_tokens()) as state:
        cuts = list(WindowDistance(metric="l2", windows=2, touching=False).select(state, Budget(layers=2)))
    assert cuts == [DropLayers(1, 2), DropLayers(3, 4)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": 0}, "'windows' of WindowDistance must be at least 1; got 0"),
        ({"protect_first": -1}, "cannot be fewer than 0"),
        ({"metric": "manhattan"}, "'metric' of WindowDistance must be 'cosine', 'angular' or 'l2'; got 'manhattan'"),
        ({"tokens": "first"}, "'tokens' of WindowDistance must be 'all' or 'last'; got 'first'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        WindowDistance(**options)


def test_short_names_are_the_usual_settings() -> None:
    registry = default_registry()
    assert registry.create("selector", "angular") == WindowDistance(metric="angular")
    assert registry.create("selector", "uidl") == WindowDistance(metric="angular", tokens="last")
    assert registry.create("selector", "l2", {"windows": 2}) == WindowDistance(metric="l2", windows=2)
