"""StreamedRegression: the rows of a repair problem, streamed, equal those that naive hooks on full forwards give."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.families import by_name
from tests.framework.activations.naive import forward
from torch import nn

from billhook import (
    Adapter,
    CacheBudget,
    DropLayers,
    LinearMap,
    ModelView,
    PruningState,
    Rows,
    Tokens,
)
from billhook.cuts.sites import RepairSite
from billhook.errors import SingularProblem
from billhook.regression.moments import Moments
from billhook.regression.regression import concatenate
from billhook.repair.streamed_regression import SAMPLE_ROWS, StreamedRegression
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert

SITE = RepairSite(layer=1, branch="mlp", target=3)
NAMES = ("x", "residual", "skip")
TOKENS = tiny_tokens(6, 10, padding="both")
VIEW = tiny_view()


@contextmanager
def regression(
    view: ModelView,
    tokens: Tokens = TOKENS,
    site: RepairSite = SITE,
    *,
    cache: CacheBudget | None = None,
    tokens_per_batch: int = 20,
    cuts: Sequence[tuple[DropLayers, LinearMap | None]] = (),
) -> Iterator[StreamedRegression]:
    state = PruningState(view, tokens, merger=Insert(), cache=cache, tokens_per_batch=tokens_per_batch)
    for cut, linear_map in cuts:
        state.merger.merge(state.model, cut, linear_map)
        state.record(cut)
    try:
        yield StreamedRegression(state, site, keep_rows=True)
    finally:
        state.close()


def naive(dense: ModelView, cut_so_far: ModelView, tokens: Tokens, site: RepairSite = SITE) -> Rows:
    """What the donor of the model cut so far writes, and what the dense stream lacks."""
    parts = []
    for batch in tokens.batches(20):
        wanted, present = forward(dense, batch), forward(cut_so_far, batch)
        x = present.written[site.layer].float()
        skip = present.streams[cut_so_far.numbers.index(site.layer) + 1].float() - x
        parts.append(Rows(*(t[batch.keep] for t in (x, wanted.streams[site.target].float() - skip, skip))))
    return concatenate(parts)


def all_rows(regression: StreamedRegression, size: int = 1000) -> Rows:
    return concatenate(list(regression.batches(size)))


def assert_close(found: Rows, expected: Rows) -> None:
    for name in NAMES:
        # float32 sums of a few numbers, taken in another order
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-4)


def assert_equal(found: Rows, expected: Rows) -> None:
    for name in NAMES:
        assert getattr(found, name).equal(getattr(expected, name))


@by_name
def test_rows_equal_those_of_naive_hooks(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    with regression(view) as under_test:
        assert_close(all_rows(under_test), naive(view, view, TOKENS))


@pytest.mark.parametrize("branch", ["attention", "mlp"])
@pytest.mark.parametrize(("layer", "target"), [(0, 1), (0, 4), (2, 3), (3, 4)])
def test_rows_are_right_at_any_site(branch: Any, layer: int, target: int) -> None:
    view, site = tiny_view(), RepairSite(layer=layer, branch=branch, target=target)
    with regression(view, site=site) as under_test:
        rows = all_rows(under_test)
    expected = []
    for batch in TOKENS.batches(20):
        seen = forward(view, batch, branch)
        x = seen.written[layer]
        skip = seen.streams[layer] if branch == "attention" else seen.streams[layer + 1] - x
        expected.append(Rows(*(t[batch.keep] for t in (x, seen.streams[target] - skip, skip))))
    assert_close(rows, concatenate(expected))


@by_name
def test_after_a_repaired_cut_inputs_come_from_the_cut_model_and_targets_from_the_dense_one(adapter: Adapter) -> None:
    dense = tiny_view(adapter, num_hidden_layers=5)
    linear_map = LinearMap(0.5 * torch.eye(dense.d_model) + 0.1)
    cut = dense.copy()
    Insert().merge(cut, DropLayers(1, 2), linear_map)
    site = RepairSite(layer=2, branch="mlp", target=4)
    with regression(dense, site=site, cuts=[(DropLayers(1, 2), linear_map)]) as under_test:
        assert_close(all_rows(under_test), naive(dense, cut, TOKENS, site))


def test_a_cut_after_the_site_does_not_change_its_rows() -> None:
    dense = tiny_view(num_hidden_layers=6)
    with regression(dense) as one, regression(dense, cuts=[(DropLayers(4, 5), None)]) as other:
        assert_equal(all_rows(one), all_rows(other))


@pytest.mark.parametrize("host", [0, 5000, 20000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_the_same_whatever_the_cache_can_hold(host: int, dtype: torch.dtype) -> None:
    view = tiny_view(dtype=dtype)
    with regression(view) as roomy, regression(view, cache=CacheBudget(host=host)) as narrow:
        expected = all_rows(roomy, 7)
        for _ in range(2):
            assert_equal(all_rows(narrow, 7), expected)


def test_rows_come_in_the_models_dtype_and_the_sample_in_float32() -> None:
    with regression(tiny_view(dtype=torch.bfloat16)) as under_test:
        assert all_rows(under_test).x.dtype == torch.bfloat16
        assert under_test.sample().x.dtype == torch.float32


def test_differences_are_taken_before_rounding_to_the_models_dtype() -> None:
    # moments see float32 differences of bfloat16 streams; rounding them once more would lose most of the residual
    view = tiny_view(dtype=torch.bfloat16)
    with regression(view) as under_test:
        expected = naive(view, view, TOKENS)
        torch.testing.assert_close(
            under_test.moments().rr, expected.residual.double().square().sum(0), rtol=1e-5, atol=0
        )


@given(size=st.integers(1, 60))
def test_every_batch_but_the_last_has_exactly_the_asked_size(size: int) -> None:
    with regression(VIEW) as under_test:
        sizes = [len(rows) for rows in under_test.batches(size)]
    assert sizes[:-1] == [size] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= size
    assert sum(sizes) == TOKENS.token_count


@given(size=st.integers(1, 60))
def test_the_size_of_batches_does_not_change_the_rows(size: int) -> None:
    with regression(VIEW) as under_test:
        assert_equal(all_rows(under_test, size), all_rows(under_test))


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_a_last_batch_of_padding_alone_loses_no_row(size: int) -> None:
    keep = TOKENS.keep.clone()
    keep[2:4] = keep[4:] = False  # batches of two rows: the middle and the last one are empty
    tokens = Tokens(ids=TOKENS.ids, keep=keep)
    with regression(VIEW, tokens) as under_test:
        assert sum(map(len, under_test.batches(size))) == tokens.token_count == under_test.moments().token_count


@given(tokens_per_batch=st.integers(1, 80))
def test_moments_do_not_depend_on_how_the_model_is_fed(tokens_per_batch: int) -> None:
    with regression(VIEW) as one, regression(VIEW, tokens_per_batch=tokens_per_batch) as other:
        assert_same_moments(one.moments(), other.moments())


@given(extra=st.integers(1, 6), left=st.booleans(), seed=st.integers(0, 1000))
def test_moments_do_not_depend_on_padding(extra: int, left: bool, seed: int) -> None:
    bare = tiny_tokens(3, 8)
    padding = (extra, 0) if left else (0, extra)
    filler = torch.randint(64, (3, extra), generator=torch.Generator().manual_seed(seed))
    padded = Tokens(
        ids=torch.cat([filler, bare.ids] if left else [bare.ids, filler], 1),
        keep=torch.nn.functional.pad(bare.keep, padding),
    )
    with regression(VIEW, bare) as one, regression(VIEW, padded) as other:
        assert_same_moments(one.moments(), other.moments())


def assert_same_moments(one: Moments, other: Moments) -> None:
    assert one.token_count == other.token_count
    for name in ("xx", "xr", "rr"):
        # activations are float32, and matrix products of other shapes round otherwise
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-4, atol=1e-3)


def test_moments_are_those_of_the_rows_and_are_collected_once() -> None:
    with regression(VIEW) as under_test:
        rows = all_rows(under_test)
        moments = under_test.moments()
        torch.testing.assert_close(moments.xr, rows.x.double().mT @ rows.residual.double())
        assert under_test.moments() is moments


def test_the_sample_is_spread_over_all_batches() -> None:
    tokens = tiny_tokens(12, 10)
    with regression(VIEW, tokens) as under_test:
        assert_equal(under_test.sample(), all_rows(under_test))  # fewer tokens than the sample may have


def test_a_large_sample_is_thinned_evenly() -> None:
    tokens = tiny_tokens(100, 30)
    with regression(VIEW, tokens, tokens_per_batch=300) as under_test:
        sample, rows = under_test.sample(), all_rows(under_test)
    assert SAMPLE_ROWS <= len(sample) <= SAMPLE_ROWS + 10
    picked = {tuple(x) for x in sample.x.tolist()}
    found = [number for number, x in enumerate(rows.x.tolist()) if tuple(x) in picked]
    assert found[0] == 0
    assert found[-1] == len(rows) - 1
    assert max(b - a for a, b in itertools.pairwise(found)) <= 2


def test_only_layers_up_to_the_target_are_run() -> None:
    view = tiny_view(num_hidden_layers=6)
    state = PruningState(view, TOKENS, merger=Fold())
    StreamedRegression(state, SITE, keep_rows=False).moments()
    assert state.flow.runner.layer_tokens == SITE.target * TOKENS.ids.numel()
    state.close()


def test_only_estimators_that_need_rows_have_them_cached_and_closing_gives_their_bytes_back() -> None:
    used = []
    for keep_rows in (False, True):
        state = PruningState(VIEW, TOKENS, merger=Fold())
        under_test = StreamedRegression(state, SITE, keep_rows=keep_rows)
        under_test.moments()
        used.append(state.cache.used["host"])
        under_test.close()
        used.append(state.cache.used["host"])
        state.close()
    streams, streams_after, with_rows, after_closing = used
    assert streams == streams_after == after_closing
    assert with_rows - streams == TOKENS.token_count * 3 * VIEW.d_model * 4


def test_a_cache_that_is_too_small_is_warned_about_once(logged: list[str]) -> None:
    with regression(VIEW, cache=CacheBudget(host=0)) as under_test:
        for _ in range(2):
            all_rows(under_test)
    assert len(logged) == 1
    assert "The activation cache is full at batch 0" in logged[0]


def test_activations_that_are_not_finite_are_named_by_layer() -> None:
    view = tiny_view(dtype=torch.float16)
    with torch.no_grad():
        view.writer(1, "mlp").weight.fill_(6e4)  # type: ignore[operator] # a tensor; overflows float16
    with regression(view) as under_test, pytest.raises(SingularProblem, match=r"activations of layer 1 .* not finite"):
        under_test.moments()


@pytest.mark.parametrize("host", [0, 10**8])
def test_tokens_with_massive_activations_are_counted_once(host: int) -> None:
    tokens = tiny_tokens(6, 12)
    sink = int(tokens.ids[0, 0])
    tokens.ids[1:][tokens.ids[1:] == sink] = (sink + 1) % 10
    tokens.ids[::2, 0] = sink  # one in each of three batches of two rows
    view = tiny_view()
    with torch.no_grad():
        embeddings = cast(nn.Embedding, view.model.get_input_embeddings())
        embeddings.weight[sink] *= 1e4
    count = int((tokens.ids == sink).sum())
    assert 3 <= count <= 6
    with regression(view, tokens, cache=CacheBudget(host=host), tokens_per_batch=24) as found:
        list(found.batches())
        assert found.massive_count() == count
    with regression(VIEW) as found:
        assert found.massive_count() == 0
