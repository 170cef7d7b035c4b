"""Which tokens count when windows are measured; the distances are tested with the selector that uses them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from tests.strategies import token_batches

from billhook import PruningState, WindowDistances, measure_windows
from billhook.data.tokens import TokenBatch
from billhook.errors import InvalidConfig
from billhook.measures.windows import chosen
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold


@given(batch=token_batches())
def test_all_means_every_token_but_padding(batch: TokenBatch) -> None:
    assert chosen(batch.keep, "all", skip_sink=False).equal(batch.keep)


@given(batch=token_batches())
def test_last_means_the_last_real_token_of_each_row(batch: TokenBatch) -> None:
    found = chosen(batch.keep, "last", skip_sink=False)
    for row, keep in zip(found, batch.keep, strict=True):
        assert row.nonzero().flatten().tolist() == [int(keep.nonzero()[-1])]


@given(batch=token_batches())
def test_the_sink_is_the_first_real_token_of_each_row_whichever_side_is_padded(batch: TokenBatch) -> None:
    found = chosen(batch.keep, "all", skip_sink=True)
    for row, keep in zip(found, batch.keep, strict=True):
        assert row.nonzero().flatten().tolist() == keep.nonzero().flatten().tolist()[1:]


@given(batch=token_batches())
def test_a_row_of_one_token_has_none_left_without_its_sink(batch: TokenBatch) -> None:
    found = chosen(batch.keep, "last", skip_sink=True)
    assert found.sum(1).equal((batch.keep.sum(1) > 1).long())


def test_a_row_of_padding_alone_has_no_last_token() -> None:
    assert not chosen(torch.zeros(1, 3, dtype=torch.bool), "last", skip_sink=False).any()


def test_windows_of_a_length_come_in_layer_order_and_unmeasured_ones_are_left_out() -> None:
    values = torch.full((4, 4), torch.nan, dtype=torch.float64)
    values[0, 1], values[1, 2], values[0, 2] = 0.1, 0.2, 0.3
    distances = WindowDistances("cosine", values, 1)
    assert distances.layer_count == 3
    assert distances.of_length(1) == [(0, 0.1), (1, 0.2)]
    assert distances.of_length(2) == [(0, 0.3)]
    assert distances.of_length(3) == []
    assert distances.of_length(4) == []


@pytest.mark.parametrize("arguments", [{"metric": "euclid"}, {"tokens": "first"}])
def test_an_unknown_metric_or_choice_is_refused_with_the_known_ones(arguments: dict[str, str]) -> None:
    state = PruningState(tiny_view(), tiny_tokens(), merger=Fold())
    with pytest.raises(InvalidConfig, match="measured by cosine, angular, l2, over 'all' or 'last' tokens; got"):
        measure_windows(state, **arguments)  # type: ignore[arg-type] # wrong on purpose
    state.close()


def test_leaving_out_the_only_token_of_every_row_is_refused() -> None:
    state = PruningState(tiny_view(), tiny_tokens(3, 1), merger=Fold())
    with pytest.raises(InvalidConfig, match="No token is left to measure"):
        measure_windows(state, skip_sink=True)
    state.close()
