"""The texts that come with billhook."""

from __future__ import annotations

import attrs
import pytest
import torch

from billhook import Calibration, Tokens
from billhook.data.shipped import KINDS, TEXTS, kinds_of, shipped, shipped_pool
from billhook.data.text_layout import TextLayout
from billhook.errors import CalibrationError
from billhook.testing import tiny_tokenizer


def layout(*, chats: bool = False) -> TextLayout:
    tokenizer = tiny_tokenizer()
    if not chats:
        tokenizer.chat_template = None
    return TextLayout(tokenizer=tokenizer, seqlen=64, packing="pack", chat_template=False)


def all_of(kind: str, layout: TextLayout) -> Tokens:
    pool = shipped_pool((kind,), layout, kind, 0)
    return pool.draw(pool.count or 0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_some_documents(kind: str) -> None:
    found = shipped(kind)
    assert len(found) >= 10
    texts = [d if isinstance(d, str) else "".join(m["content"] for m in d) for d in found]
    assert all(text == text.strip("\n") and text.strip() for text in texts)
    assert "%%" not in "".join(texts)
    assert len({*texts}) == len(texts)


def test_the_texts_fill_the_default_number_of_rows() -> None:
    """At four characters a token, which is little; SmolLM2's tokenizer takes 3.9 in these texts."""
    sizes = [
        len(d) if isinstance(d, str) else sum(len(m["content"]) for m in d) for kind in KINDS for d in shipped(kind)
    ]
    default = Calibration()
    assert sum(sizes) > 4 * default.samples * default.seqlen


@pytest.mark.parametrize("kind", ["dialogue", "instructions"])
def test_chats_take_turns_and_the_user_begins(kind: str) -> None:
    for chat in shipped(kind):
        assert not isinstance(chat, str)
        assert [message["role"] for message in chat] == ["user", "assistant"] * (len(chat) // 2)
        assert all(message["content"].strip() for message in chat)


def test_all_kinds_are_drawn_from_without_being_told() -> None:
    assert Calibration().source == TEXTS
    tokens = Calibration(samples=8, seqlen=64).tokenize(tiny_tokenizer())
    assert (tokens.source, tokens.ids.shape) == ("texts", (8, 64))


def test_one_kind_can_be_asked_for() -> None:
    pool = shipped_pool(("web", "code"), layout(), "two", 0)
    whole = pool.draw(pool.count or 0)
    web, code = (
        Calibration(source=f"texts:{kind}", samples=10**6, seqlen=64).tokenize(layout().tokenizer)
        for kind in ("web", "code")
    )
    rows = {tuple(row) for row in torch.cat([web.ids, code.ids]).tolist()}
    assert {tuple(row) for row in whole.ids.tolist()} == rows


def test_an_unknown_kind_is_an_error_that_lists_them() -> None:
    with pytest.raises(CalibrationError, match=r"no kind 'webb' of the texts.* Did you mean 'web'\? There are: encycl"):
        kinds_of("texts:webb")


def test_chats_go_through_the_chat_template_where_there_is_one() -> None:
    first = shipped("dialogue")[0]
    assert not isinstance(first, str)
    with_one, without = (all_of("dialogue", layout(chats=chats)) for chats in (True, False))
    tokenizer = tiny_tokenizer()
    templated = str(tokenizer.apply_chat_template(first, tokenize=False))
    expected = tokenizer(templated, add_special_tokens=False)["input_ids"]
    assert expected[:64] in with_one.ids.tolist()
    assert expected[:64] not in without.ids.tolist()


def test_a_kind_that_fills_no_row_is_left_out_unless_none_does() -> None:
    size = max(len(layout().tokenizer("\n\n".join(map(str, shipped("code")))).input_ids), 1)
    long = attrs.evolve(layout(), seqlen=size + 10)
    assert (shipped_pool(("code", "web", "encyclopedia"), long, "three", 0).count or 0) >= 1
    with pytest.raises(CalibrationError, match="too short"):
        shipped_pool(("code",), long, "one", 0)


@pytest.mark.parametrize("samples", [15, 30, 64])
def test_kinds_give_rows_by_their_weights_whatever_their_length(samples: int) -> None:
    whole = {kind: {tuple(row) for row in all_of(kind, layout()).ids.tolist()} for kind in KINDS}
    drawn = Calibration(samples=samples, seqlen=64).tokenize(layout().tokenizer).ids.tolist()
    found = [sum(tuple(row) in rows for row in drawn) for rows in whole.values()]
    assert sum(found) == samples
    total = sum(weight for _, weight in KINDS.values())
    for count, (_, weight) in zip(found, KINDS.values(), strict=True):
        assert abs(count - samples * weight / total) < 1
