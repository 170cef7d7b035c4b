"""Rows begin as the model is used: with what the tokenizer puts before a text, once, unless that is switched off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from billhook import Blend, Budget, Calibration, Plan, Pruner, apply, evaluate
from billhook.data.beginning import beginning_of, begun_rows
from billhook.data.text_layout import tokenize_whole
from billhook.errors import CalibrationError
from billhook.evaluation.perplexity import held_out
from billhook.testing import tiny_model, tiny_tokenizer
from billhook.testing.samples.models import CHAT_TEMPLATE

PLAIN = tiny_tokenizer()
TEXT = "the quick brown fox jumps over the lazy dog. " * 8
IDS = tokenize_whole(TEXT, PLAIN)
CHATS = [{"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because."}]}] * 9


def adding(single: str, template: str = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A tokenizer that adds special tokens, like ``<bos> $A``."""
    tokenizer = tiny_tokenizer()
    tokens = [("<bos>", 1), ("<eos>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("single", "expected"),
    [("$A", ()), ("<bos> $A", (1,)), ("$A <eos>", ()), ("<bos> $A <eos>", (1,)), ("<bos> <eos> $A", (1, 2))],
)
def test_what_a_tokenizer_puts_before_a_text_is_seen_from_what_it_does(single: str, expected: tuple[int, ...]) -> None:
    assert beginning_of(adding(single)) == expected


def test_a_tokenizer_that_knows_no_letter_is_asked_with_other_texts() -> None:
    tokenizer = adding("<bos> $A")
    core = tokenizer.backend_tokenizer
    core.model = type(core.model)({"<bos>": 1, "<eos>": 2, "<unk>": 3, "的": 4}, unk_token="<unk>")
    assert beginning_of(tokenizer) == (1,)


@given(seqlen=st.integers(2, 60), ending=st.sampled_from(["", " <eos>"]))
def test_every_packed_row_begins_with_it_and_goes_on_with_the_text(seqlen: int, ending: str) -> None:
    rows = Calibration(source=[TEXT], samples=len(IDS), seqlen=seqlen).tokenize(adding("<bos> $A" + ending)).ids
    fresh = seqlen - 1
    count = len(IDS) // fresh
    assert (rows[:, 0] == 1).all()
    assert sorted(rows[:, 1:].tolist()) == sorted(IDS[: count * fresh].view(count, fresh).tolist())


def test_switched_off_the_rows_are_pieces_of_what_the_tokenizer_makes_of_the_whole() -> None:
    tokenizer = adding("<bos> $A")
    rows = Calibration(source=[TEXT], samples=len(IDS), seqlen=20, begin=False).tokenize(tokenizer).ids
    whole = torch.cat([torch.tensor([1]), IDS])
    count = len(whole) // 20
    assert sorted(rows.tolist()) == sorted(whole[: count * 20].view(count, 20).tolist())


@pytest.mark.parametrize("single", ["$A", "$A <eos>"])
def test_where_the_tokenizer_adds_none_the_switch_changes_nothing(single: str) -> None:
    on, off = (Calibration(source=[TEXT], seqlen=20, begin=b).tokenize(adding(single)) for b in (True, False))
    assert on.fingerprint == off.fingerprint
    assert torch.equal(*(held_out([TEXT], adding(single), seqlen=20, begin=b).ids for b in (True, False)))


def test_padded_documents_begin_as_the_tokenizer_begins_them() -> None:
    rows = Calibration(source=["ab", "abcd"], packing="pad", seqlen=9).tokenize(adding("<bos> $A"))
    assert sorted(ids[keep].tolist() for ids, keep in zip(rows.ids, rows.keep, strict=True)) == sorted(
        [1, *tokenize_whole(text, PLAIN).tolist()] for text in ("ab", "abcd")
    )


def test_every_part_of_a_blend_begins_so_and_text_that_the_model_writes_is_not_begun_twice() -> None:
    tokenizer, model = adding("<bos> $A"), tiny_model()
    source = Blend([([TEXT], 1), ("builtin", 1), ("self", 1)])
    ids = Calibration(source=source, samples=9, seqlen=16).tokenize(tokenizer, model).ids
    assert (ids[:, 0] == 1).all()
    assert (ids[:, 1] != 1).all()


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, "{{ bos_token }}" + CHAT_TEMPLATE], ids=["without", "with"])
def test_rows_of_chats_begin_as_the_template_begins_a_chat(template: str) -> None:
    tokenizer = adding("<bos> $A", template)
    ids = Calibration(source=CHATS, chat_template=True, samples=9, seqlen=13).tokenize(tokenizer).ids
    begins = template != CHAT_TEMPLATE
    assert (ids[:, 0] == 1).tolist() == [begins] * len(ids)
    assert not bool(((ids[:, :-1] == 1) & (ids[:, 1:] == 1)).any())


@given(st.lists(st.sampled_from([1, 5, 6]), max_size=40), st.integers(2, 7))
def test_a_text_that_has_the_beginning_at_the_place_of_a_row_keeps_it_single(text: list[int], seqlen: int) -> None:
    rows = begun_rows(torch.tensor(text, dtype=torch.long), (1,), seqlen)
    assert all(row[0] == 1 for row in rows)
    left = list(text)
    for row in rows.tolist():
        taken = row if left[:1] == [1] else row[1:]
        assert left[: len(taken)] == taken
        left = left[len(taken) :]
    assert len(left) < seqlen


def test_rows_that_hold_nothing_but_the_beginning_are_refused() -> None:
    tokenizer = adding("<bos> <eos> $A")
    message = r"puts 2 tokens before a text, .*no room in rows of 2.*begin=False"
    with pytest.raises(CalibrationError, match=message):
        Calibration(source=[TEXT], seqlen=2).tokenize(tokenizer)
    with pytest.raises(CalibrationError, match=message):
        held_out([TEXT], tokenizer, seqlen=2)


@given(seqlen=st.integers(2, 64), tokens=st.integers(64, 300))
def test_perplexity_is_taken_on_rows_that_begin_so(seqlen: int, tokens: int) -> None:
    rows = held_out([TEXT], adding("<bos> $A"), seqlen=seqlen, tokens=tokens).ids
    fresh = seqlen - 1
    count = min(tokens // seqlen, len(IDS) // fresh)
    assert (rows[:, 0] == 1).all()
    assert torch.equal(rows[:, 1:], IDS[len(IDS) - count * fresh :].view(count, fresh))


def test_the_first_word_of_a_row_is_predicted_too() -> None:
    found = evaluate(tiny_model(), adding("<bos> $A"), [TEXT], seqlen=32, tokens=320)
    assert (found.rows, found.token_count) == (10, 310)
    assert found != evaluate(tiny_model(), adding("<bos> $A"), [TEXT], seqlen=32, tokens=320, begin=False)


@pytest.mark.parametrize("begin", [True, False])
def test_a_plan_remembers_how_its_rows_began(tmp_path: Path, begin: bool) -> None:
    model, tokenizer = tiny_model(), adding("<bos> $A")
    (tmp_path / "a.txt").write_text(TEXT)
    data = Calibration(source=str(tmp_path / "a.txt"), samples=8, seqlen=16, begin=begin)
    result = Pruner.following("replaceme-ls").prune(model, tokenizer, calibration=data, budget=Budget(layers=1))
    result.plan.save(tmp_path / "plan.json")
    plan = Plan.load(tmp_path / "plan.json")
    assert plan.calibration.begin is begin
    assert apply(plan, model, tokenizer).plan == plan


def test_plans_of_versions_without_the_option_get_their_rows_again() -> None:
    """Whatever the data are given by: the record says nothing of beginnings, and rows had none."""
    model, tokenizer = tiny_model(), adding("<bos> $A")
    options: dict[str, Any] = {"samples": 8, "seqlen": 16}
    pruner = Pruner.following("replaceme-ls")
    result = pruner.prune(
        model, tokenizer, calibration=Calibration(source=[TEXT], begin=False, **options), budget=Budget(layers=1)
    )
    text = result.plan.to_json()
    assert '"begin"' not in text
    plan = Plan.from_json(text)
    given_now = Calibration(source=[TEXT], **options)
    assert given_now.begin
    assert apply(plan, model, tokenizer, calibration=given_now).plan == plan
    begun = attrs.evolve(plan, calibration=attrs.evolve(plan.calibration, begin=True))
    with pytest.raises(CalibrationError, match="not the tokens the plan was made with"):
        apply(begun, model, tokenizer, calibration=given_now)
