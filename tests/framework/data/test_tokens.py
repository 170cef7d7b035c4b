"""Tokens: rows with a mask, from whatever shape ready batches have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import token_batches

from billhook import Tokens
from billhook.data.tokens import TokenBatch
from billhook.errors import CalibrationError
from billhook.testing import tiny_tokens

IDS = torch.arange(1, 13).view(3, 4)
ALL = torch.ones(3, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("ids", "keep", "message"),
    [
        (IDS[0], ALL[0], r"got \[4\] and \[4\]"),
        (IDS, ALL[:, :2], r"got \[3, 4\] and \[3, 2\]"),
        (IDS[:0], ALL[:0], "not empty"),
        (IDS.float(), ALL, "Token ids must be integers"),
        (IDS, ALL.long(), "keep bool"),
        (IDS, ~ALL, "All tokens are padding"),
    ],
)
def test_what_is_no_set_of_rows_is_refused(ids: torch.Tensor, keep: torch.Tensor, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Tokens(ids=ids, keep=keep)


def test_a_tensor_of_ids_is_taken_without_padding() -> None:
    tokens = Tokens.from_batches(IDS)
    assert tokens.ids.equal(IDS)
    assert tokens.token_count == 12


def test_one_row_may_come_without_a_batch_dimension() -> None:
    assert Tokens.from_batches([IDS[0], IDS[1]]).ids.equal(IDS[:2])


def test_mappings_as_tokenizers_give_them_are_taken_with_their_mask() -> None:
    mask = torch.tensor([[1, 1, 1, 0]])
    tokens = Tokens.from_batches([{"input_ids": IDS[:1], "attention_mask": mask}, {"input_ids": IDS[1:]}])
    assert tokens.keep.equal(torch.cat([mask.bool(), ALL[1:]]))


@given(batches=st.lists(token_batches(), min_size=1, max_size=4))
def test_rows_of_different_length_are_padded_on_the_right(batches: list[TokenBatch]) -> None:
    tokens = Tokens.from_batches(batches)
    rows = [(ids, keep) for batch in batches for ids, keep in zip(batch.ids, batch.keep, strict=True)]
    assert len(tokens.ids) == len(rows)
    for ids, keep, (given_ids, given_keep) in zip(tokens.ids, tokens.keep, rows, strict=True):
        assert ids[: len(given_ids)].equal(given_ids)
        assert keep[: len(given_ids)].equal(given_keep)
        assert not keep[len(given_ids) :].any()


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "No token batches were given"),
        ([{"labels": IDS}], "a mapping with input_ids; got dict"),
        (["text"], "got str"),
        ([{"input_ids": IDS, "attention_mask": ALL[:1]}], r"got \[3, 4\] and \[1, 4\]"),
        ([torch.zeros(1, 2, 3, dtype=torch.long)], r"got \[1, 2, 3\]"),
    ],
)
def test_a_batch_that_is_none_is_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        Tokens.from_batches(batches)


@given(rows=st.integers(1, 9), seq=st.integers(1, 9), size=st.integers(1, 40))
def test_batches_hold_all_rows_in_order_and_about_as_many_tokens_as_asked(rows: int, seq: int, size: int) -> None:
    tokens = tiny_tokens(rows, seq)
    batches = tokens.batches(size)
    assert torch.cat([batch.ids for batch in batches]).equal(tokens.ids)
    assert all(batch.ids.numel() <= max(size, seq) for batch in batches)
    assert all(batch.ids.numel() + seq > size for batch in batches[:-1])


def test_iterating_gives_the_default_batches() -> None:
    tokens = tiny_tokens(5, 3)
    assert [batch.ids.tolist() for batch in tokens] == [batch.ids.tolist() for batch in tokens.batches()]


def test_an_unpadded_batch_needs_no_mask() -> None:
    assert TokenBatch(IDS, ALL).attention_mask is None


def test_a_padded_batch_gives_the_mask_transformers_wants() -> None:
    keep = ALL.clone()
    keep[0, 3] = False
    mask = TokenBatch(IDS, keep).attention_mask
    assert mask is not None
    assert mask.equal(keep.long())


def test_padding_is_not_counted() -> None:
    keep = ALL.clone()
    keep[:, 3] = False
    assert TokenBatch(IDS, keep).token_count == Tokens(ids=IDS, keep=keep).token_count == 9


def test_the_fingerprint_says_the_same_for_the_same_data() -> None:
    assert Tokens(ids=IDS, keep=ALL).fingerprint == Tokens(ids=IDS.clone().int(), keep=ALL.clone()).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda t: Tokens(ids=t.ids.flip(0), keep=t.keep),
        lambda t: Tokens(ids=t.ids.view(4, 3), keep=t.keep.view(4, 3)),
        lambda t: Tokens(ids=t.ids, keep=t.keep & (t.ids != 12)),
        lambda t: Tokens(ids=torch.where(t.ids == 5, 6, t.ids), keep=t.keep),
        lambda t: Tokens(ids=t.ids[:2], keep=t.keep[:2]),
    ],
    ids=["row order", "row length", "mask", "one id", "fewer rows"],
)
def test_the_fingerprint_notices(change: Callable[[Tokens], Tokens]) -> None:
    tokens = Tokens(ids=IDS, keep=ALL)
    assert change(tokens).fingerprint != tokens.fingerprint


def test_the_source_does_not_enter_the_fingerprint() -> None:
    named = Tokens(ids=IDS, keep=ALL, source="elsewhere")
    assert named.fingerprint == Tokens(ids=IDS, keep=ALL).fingerprint
