"""Calibration: which data, laid out how; deterministic, and recorded so that it can be done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerFast

from billhook import Calibration, Tokens
from billhook.data.calibration import tokenize_whole
from billhook.errors import CalibrationError, InvalidConfig
from billhook.testing import tiny_tokenizer, tiny_tokens
from billhook.testing.samples.models import CHAT_TEMPLATE

TOKENIZER = tiny_tokenizer()
"""One token a character, none added."""

TEXT = "the quick brown fox jumps over the lazy dog. " * 8
IDS = tokenize_whole(TEXT, TOKENIZER)


def rows_of(tokens: Tokens) -> list[list[int]]:
    return sorted(tokens.ids.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "'samples' of Calibration must be at least 1; got 0"),
        ({"seqlen": 1}, "'seqlen' of Calibration must be at least 2; got 1"),
        ({"packing": "fold"}, "'packing' of Calibration must be 'pack' or 'pad'; got 'fold'"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Calibration(**options)


def test_a_calibration_is_itself() -> None:
    calibration = Calibration(samples=3)
    assert Calibration.of(calibration) is calibration


def test_nothing_given_means_the_texts_that_come_with_billhook() -> None:
    assert Calibration.of(None) == Calibration()


def test_anything_else_is_a_source() -> None:
    assert Calibration.of("a.txt") == Calibration(source="a.txt")


@pytest.mark.parametrize("source", ["texts", "builtin"])
def test_text_that_is_at_hand_fills_the_rows_that_are_asked_for(source: str) -> None:
    tokens = Calibration(source=source, samples=5, seqlen=20).tokenize(TOKENIZER)
    assert tokens.ids.shape == (5, 20)
    assert bool(tokens.keep.all())
    assert tokens.source == source


@given(seqlen=st.integers(2, 60))
def test_packed_rows_are_the_text_cut_into_pieces(seqlen: int) -> None:
    tokens = Calibration(source=[TEXT], samples=len(IDS), seqlen=seqlen).tokenize(TOKENIZER)
    pieces = [IDS[i : i + seqlen].tolist() for i in range(0, len(IDS) - seqlen + 1, seqlen)]
    assert rows_of(tokens) == sorted(pieces)


def test_documents_are_packed_with_blank_lines_between() -> None:
    tokens = Calibration(source=["abc", "def"], seqlen=8).tokenize(TOKENIZER)
    assert tokens.ids[0].tolist() == tokenize_whole("abc\n\ndef", TOKENIZER).tolist()


def test_padded_rows_hold_one_document_each() -> None:
    tokens = Calibration(source=["ab", "abcdefgh"], seqlen=5, packing="pad").tokenize(TOKENIZER)
    found = [ids[keep].tolist() for ids, keep in zip(tokens.ids, tokens.keep, strict=True)]
    assert sorted(found) == sorted(tokenize_whole(text, TOKENIZER).tolist() for text in ("ab", "abcde"))


def test_padding_is_on_the_right() -> None:
    tokens = Calibration(source=["ab", "abcd"], seqlen=9, packing="pad").tokenize(TOKENIZER)
    assert sorted(tokens.keep.tolist()) == [[True, True, False, False], [True, True, True, True]]


def test_fewer_rows_than_asked_are_all_used_with_a_warning(logged: list[str]) -> None:
    tokens = Calibration(source=[TEXT], samples=100, seqlen=60).tokenize(TOKENIZER)
    assert len(tokens.ids) == len(IDS) // 60
    assert logged == [
        f"The text (1 documents) gives {len(IDS) // 60} rows of 60 tokens; 100 were asked for. All are used."
    ]


def test_enough_rows_give_no_warning(logged: list[str]) -> None:
    Calibration(source=[TEXT], samples=2, seqlen=60).tokenize(TOKENIZER)
    assert logged == []


def test_the_same_seed_takes_the_same_rows() -> None:
    one, other = (Calibration(samples=6, seqlen=16, seed=3).tokenize(TOKENIZER) for _ in range(2))
    assert one.fingerprint == other.fingerprint


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    calibration = Calibration(samples=6, seqlen=16)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = calibration.tokenize(TOKENIZER)
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert calibration.tokenize(TOKENIZER).fingerprint == one.fingerprint


@pytest.mark.parametrize("change", [{"seed": 1}, {"seqlen": 17}, {"samples": 7}, {"source": "builtin:evaluation"}])
def test_the_fingerprint_notices_a_changed_option(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"samples": 6, "seqlen": 16, "seed": 0}
    one, other = (Calibration(**given).tokenize(TOKENIZER) for given in (options, {**options, **change}))
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [(["abc" * 9, "def" * 9], ["def" * 9, "abc" * 9]), (["abc" * 9], ["abd" * 9]), (["why?" * 9], ["why!" * 9])],
)
def test_the_fingerprint_notices_another_text_and_another_order(one: list[str], other: list[str]) -> None:
    first, second = (Calibration(source=texts, samples=1, seqlen=27).tokenize(TOKENIZER) for texts in (one, other))
    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_notices_the_template_and_the_packing() -> None:
    changes: list[dict[str, Any]] = [{}, {"chat_template": True}, {"packing": "pad"}]
    found = {
        Calibration(source=CHAT * 3, **{"samples": 2, "seqlen": 16, **c}).tokenize(TOKENIZER).fingerprint
        for c in changes
    }
    assert len(found) == 3


def test_the_fingerprint_notices_another_tokenizer() -> None:
    one, other = (Calibration(samples=6, seqlen=16).tokenize(tiny_tokenizer(size)) for size in (64, 20))
    assert one.fingerprint != other.fingerprint


def as_txt(folder: Path) -> Path:
    (folder / "a.txt").write_text(TEXT)
    return folder / "a.txt"


def as_jsonl(folder: Path) -> Path:
    datasets.Dataset.from_dict({"text": [TEXT]}).to_json(folder / "a.jsonl")
    return folder / "a.jsonl"


@pytest.mark.parametrize(
    "make",
    [as_txt, as_jsonl, lambda _: [TEXT], lambda _: datasets.Dataset.from_dict({"text": [TEXT]})],
    ids=["txt", "jsonl", "list", "data set"],
)
def test_the_same_text_gives_the_same_tokens_whatever_it_comes_in(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    tokens = Calibration(source=make(tmp_path), samples=4, seqlen=30).tokenize(TOKENIZER)
    assert tokens.fingerprint == Calibration(source=[TEXT], samples=4, seqlen=30).tokenize(TOKENIZER).fingerprint


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: t.ids, lambda t: [t.ids], lambda t: {"input_ids": t.ids}])
def test_ready_tokens_need_no_tokenizer_and_stay_as_they_are(wrap: Callable[[Tokens], object]) -> None:
    given = tiny_tokens(3, 7)
    tokens = Calibration(source=wrap(given)).tokenize(None)
    assert tokens.fingerprint == given.fingerprint


def test_a_loader_and_a_generator_of_batches_are_ready_batches() -> None:
    ids = tiny_tokens(rows=4, seq=6).ids
    loader: DataLoader[torch.Tensor] = DataLoader(cast("Dataset[torch.Tensor]", list(ids)), batch_size=2)
    for source in (loader, (batch for batch in ids.split(2))):
        calibration = Calibration(source=source)
        assert torch.equal(calibration.tokenize(None).ids, ids)
        assert torch.equal(calibration.tokenize(None).ids, ids)  # and again: a generator is read once and kept


def test_ready_batches_keep_their_masks() -> None:
    given = tiny_tokens(3, 7, padding="left")
    batches = [{"input_ids": given.ids, "attention_mask": given.keep.long()}]
    assert Calibration(source=batches).tokenize(None).fingerprint == given.fingerprint


def test_what_a_tokenizer_returns_is_a_ready_batch() -> None:
    encoded = TOKENIZER(["ab", "abcd"], padding=True, return_tensors="pt")
    assert Calibration(source=encoded).tokenize(None).token_count == 6


CHAT = [{"messages": [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because."}]}]


def test_the_chat_template_is_applied() -> None:
    tokens = Calibration(source=CHAT, chat_template=True, packing="pad").tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "user: why?\nassistant: because.\n"


def test_plain_text_becomes_a_users_message() -> None:
    tokens = Calibration(source=["why?"], chat_template=True, packing="pad").tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "user: why?\n"


def test_without_a_template_a_chat_is_its_contents() -> None:
    tokens = Calibration(source=CHAT, packing="pad").tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "why?\nbecause."


def test_a_tokenizer_without_template_is_refused_only_when_one_is_asked_for() -> None:
    bare = tiny_tokenizer()
    bare.chat_template = None
    Calibration(source=CHAT, packing="pad").tokenize(bare)
    with pytest.raises(CalibrationError, match="no chat template: leave out chat_template=True"):
        Calibration(source=CHAT, packing="pad", chat_template=True).tokenize(bare)


def test_templated_chats_are_packed_without_anything_between() -> None:
    tokens = Calibration(source=CHAT * 2, chat_template=True, samples=1, seqlen=62).tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "user: why?\nassistant: because.\n" * 2


def adding_bos() -> PreTrainedTokenizerFast:
    """Like Llama 3: the tokenizer puts a beginning before texts, and so does the template."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    return tokenizer


@pytest.mark.parametrize("options", [{"packing": "pad"}, {"packing": "pack", "seqlen": 14}])
def test_special_tokens_come_from_the_template_or_the_tokenizer_never_from_both(options: dict[str, Any]) -> None:
    for template in (True, False):
        tokens = Calibration(source=CHAT, chat_template=template, samples=1, **options).tokenize(adding_bos())
        assert int((tokens.ids == 1).sum()) == 1


def test_what_a_template_refuses_is_said_in_its_words() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    chats = [{"messages": [{"role": "system", "content": "be kind"}, *CHAT[0]["messages"]]}]
    expected = "refuses a chat of system, user, assistant: System role not supported"
    with pytest.raises(CalibrationError, match=expected):
        Calibration(source=chats, chat_template=True).tokenize(tokenizer)


@pytest.mark.parametrize(
    "record",
    [
        CHAT[0],
        {"conversations": [{"from": "human", "value": "why?"}, {"from": "gpt", "value": "because."}]},
        {"instruction": "why?", "input": "", "output": "because."},
        {"prompt": "why?", "completion": "because."},
    ],
)
def test_chats_of_every_kind_in_a_file_go_through_the_template(tmp_path: Path, record: object) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps(record))
    tokens = Calibration(source=path, chat_template=True, packing="pad").tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "user: why?\nassistant: because.\n"


def test_text_that_does_not_fill_one_row_is_too_short() -> None:
    with pytest.raises(CalibrationError, match="too short: 3 tokens do not fill one row of 4"):
        Calibration(source=["abc"], seqlen=4).tokenize(TOKENIZER)


def test_text_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(CalibrationError, match="needs a tokenizer: give one, or ready token batches"):
        Calibration().tokenize(None)


def test_empty_text_is_refused() -> None:
    with pytest.raises(CalibrationError, match="is empty"):
        Calibration(source=[" "]).tokenize(TOKENIZER)


@pytest.mark.parametrize("packing", ["pack", "pad"])
def test_a_record_says_how_to_make_the_same_tokens_again(tmp_path: Path, packing: Any) -> None:
    given = Calibration(source=as_txt(tmp_path), samples=3, seqlen=20, seed=5, packing=packing)
    tokens = given.tokenize(TOKENIZER)
    record = given.record(tokens)
    again = Calibration.from_record(record).tokenize(TOKENIZER)
    assert again.fingerprint == record.fingerprint == tokens.fingerprint


def test_a_record_holds_what_was_used() -> None:
    given = Calibration(samples=3, seqlen=20, seed=5)
    record = given.record(given.tokenize(TOKENIZER))
    assert (record.source, record.samples, record.seqlen, record.seed) == ("texts", 3, 20, 5)
    assert record.token_count == 60


def test_a_source_that_cannot_be_written_down_is_described() -> None:
    given = Calibration(source=[TEXT], samples=2, seqlen=20)
    assert given.record(given.tokenize(TOKENIZER)).source == "1 documents"


def test_long_texts_are_tokenised_whole_and_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 10
    assert len(tokenize_whole(TEXT, tokenizer)) == len(TEXT)
    assert caplog.records == []


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"The text file .*gone\.txt cannot be read"):
        Calibration(source=tmp_path / "gone.txt").tokenize(TOKENIZER)
