"""Data in the shapes that other tools hand around: taken with the right rows, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from billhook import Budget, Calibration, Pruner, Tokens, evaluate
from billhook.data.given import keep, ready_tokens
from billhook.errors import BillhookError, CalibrationError, InvalidConfig
from billhook.testing import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
IDS = torch.randint(4, 60, (6, 12), generator=torch.Generator().manual_seed(0))
RAGGED = [[5, 6, 7, 8], [9, 10], [], [11, 12, 13]]
TEXT = "the quick brown fox jumps over the lazy dog. " * 4
CHAT = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because."}]


def tokenised(**more: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"input_ids": IDS.tolist(), **more})


class MapStyle(Dataset[Any]):
    def __len__(self) -> int:
        return len(IDS)

    def __getitem__(self, number: int) -> Any:
        return {"input_ids": IDS[number]}


WHOLE: dict[str, Callable[[], object]] = {
    "tensor": lambda: IDS,
    "int32": lambda: IDS.int(),
    "array": lambda: IDS.numpy(),
    "uint16": lambda: IDS.numpy().astype(np.uint16),
    "array of rows": lambda: list(IDS.numpy()),
    "array of objects": lambda: np.array([None, *IDS.tolist()], dtype=object)[1:],
    "lists": lambda: IDS.tolist(),
    "nested lists": lambda: [IDS[:2].tolist(), IDS[2:].tolist()],
    "generator": lambda: (row for row in IDS.tolist()),
    "what a tokenizer returns": lambda: {"input_ids": IDS.tolist(), "attention_mask": torch.ones_like(IDS).tolist()},
    "data set": tokenised,
    "data set with text too": lambda: tokenised(text=["a"] * len(IDS)),
    "data set as torch": lambda: tokenised().with_format("torch"),
    "data set as numpy": lambda: tokenised().with_format("numpy"),
    "stream": lambda: tokenised().to_iterable_dataset(),
    "records": lambda: list(tokenised()),
    "pandas": lambda: tokenised().to_pandas(),
    "column of pandas": lambda: cast("Any", tokenised().to_pandas())["input_ids"],
    "arrow": lambda: tokenised().data.table,
    "torch data set": MapStyle,
    "TensorDataset": lambda: TensorDataset(IDS),
    "TensorDataset with labels": lambda: TensorDataset(IDS, IDS),
    "loader of tensors": lambda: DataLoader(TensorDataset(IDS), batch_size=4),
    "loader of masks": lambda: DataLoader(TensorDataset(IDS, torch.ones_like(IDS)), batch_size=4),
    "loader of records": lambda: DataLoader(cast("Any", tokenised().with_format("torch")), batch_size=4),
    "loader of lists": lambda: DataLoader(cast("Any", tokenised()), batch_size=4),
    "pairs of ids and labels": lambda: [(row[None], row[None]) for row in IDS],
}


@pytest.mark.parametrize("name", WHOLE)
def test_ready_rows_are_taken_as_they_are_whatever_holds_them(name: str) -> None:
    tokens = Calibration(source=WHOLE[name]()).tokenize(None)
    assert tokens.ids.equal(IDS)
    assert tokens.ids.dtype == torch.int64
    assert bool(tokens.keep.all())


@pytest.mark.parametrize(
    "source",
    [
        RAGGED,
        {"input_ids": RAGGED},
        {"input_ids": RAGGED, "attention_mask": [[1] * len(row) for row in RAGGED]},
        [{"input_ids": row} for row in RAGGED if row],
        [torch.tensor(row) for row in RAGGED if row],
        datasets.Dataset.from_dict({"input_ids": [row for row in RAGGED if row]}),
    ],
    ids=["lists", "mapping", "mapping with a mask", "records", "tensors", "data set"],
)
def test_rows_of_different_length_are_padded_and_masked(source: object) -> None:
    tokens = Calibration(source=source).tokenize(None)
    rows = [ids[keep].tolist() for ids, keep in zip(tokens.ids, tokens.keep, strict=True)]
    assert [row for row in rows if row] == [row for row in RAGGED if row]


def test_a_second_tensor_of_zeros_and_ones_is_the_mask() -> None:
    mask = torch.ones_like(IDS)
    mask[:, 9:] = 0
    for source in (TensorDataset(IDS, mask), [(IDS, mask)], DataLoader(TensorDataset(IDS, mask), batch_size=6)):
        assert Calibration(source=source).tokenize(None).keep.equal(mask.bool())


@pytest.mark.parametrize("source", [IDS[0], IDS[0].numpy(), IDS[0].tolist(), range(5, 17)], ids=type)
def test_ids_of_one_dimension_are_one_row_and_it_is_said(source: object, logged: list[str]) -> None:
    source = list(source) if isinstance(source, range) else source
    assert Calibration(source=source).tokenize(None).ids.shape == (1, 12)
    assert logged == ["The token ids have one dimension: they are taken as one row of 12."]


@pytest.mark.parametrize(
    "source", [[CHAT, CHAT], (CHAT, CHAT), [{"messages": CHAT}, CHAT]], ids=["list", "tuple", "mixed"]
)
def test_lists_of_messages_are_chats(source: object) -> None:
    tokens = Calibration(source=source, packing="pad", chat_template=True).tokenize(TOKENIZER)
    texts = [TOKENIZER.decode(ids[keep]) for ids, keep in zip(tokens.ids, tokens.keep, strict=True)]
    assert texts == ["user: why?\nassistant: because.\n"] * 2


def test_messages_alone_are_one_chat() -> None:
    tokens = Calibration(source=CHAT, packing="pad", chat_template=True).tokenize(TOKENIZER)
    assert [TOKENIZER.decode(row) for row in tokens.ids] == ["user: why?\nassistant: because.\n"]


def test_a_table_of_text_is_its_records_and_not_the_names_of_its_columns() -> None:
    table = datasets.Dataset.from_dict({"text": [TEXT], "label": [0]}).to_pandas()
    found = Calibration(source=table, samples=4, seqlen=20).tokenize(TOKENIZER)
    assert found.fingerprint == Calibration(source=[TEXT], samples=4, seqlen=20).tokenize(TOKENIZER).fingerprint


def test_chats_in_a_table_are_chats() -> None:
    table = datasets.Dataset.from_dict({"messages": [CHAT], "note": [None]}).to_pandas()
    tokens = Calibration(source=table, packing="pad", chat_template=True).tokenize(TOKENIZER)
    assert TOKENIZER.decode(tokens.ids[0]) == "user: why?\nassistant: because.\n"


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        raise ZeroDivisionError("nobody home")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.rand(2, 3), "must be integers; got float32"),
        (torch.rand(2, 3) > 0.5, "must be integers; got bool"),
        (torch.rand(2, 3) + 0j, "must be integers; got complex64"),
        ([[1.5, 2.0]], "must be integers; got float64"),
        ([[5, "a"]], "must be integers, in rows: got .5, 'a'."),
        ([[2**70, 5]], "must be integers, in rows"),
        (IDS[None], r"is \[batch, seq\] .*got \[1, 6, 12\]"),
        (torch.tensor(5), r"is \[batch, seq\] .*got \[\]"),
        ([[]], "no ids: all its rows are empty|is no document"),
        (torch.zeros(0, 5, dtype=torch.long), "not empty"),
        ({"input_ids": IDS, "attention_mask": IDS[:2]}, r"got \[6, 12\] and \[2, 12\]"),
        ({"input_ids": None}, "must be integers, in rows"),
        ([None, None], "type NoneType is no document"),
        (b"text", "a list of strings.* got bytes"),
        ({"a b " * 100}, "a list of strings.* got set"),
        (5, "a list of strings.* got int"),
        ({"a": TEXT}, "several sets in one"),
        ([{"messages": 5}], "'messages' of a record must be a list of messages; got type int"),
        ([{"messages": [1, 2]}], "message needs 'role' and 'content'; got type int"),
        ([{"messages": [{"role": "user", "content": {"a": 1}}]}], "must be text; got fields"),
        ([{"messages": [{"role": ["user"], "content": "a"}]}], "'role' of a chat message must be text"),
        ([{"prompt": {"a": 1}, "completion": "b"}], "must be text; got fields"),
    ],
)
def test_what_no_rows_can_be_made_of_is_refused_in_one_line(source: object, message: str) -> None:
    with pytest.raises(CalibrationError, match=message) as refused:
        Calibration(source=source, samples=2, seqlen=4).tokenize(TOKENIZER)
    assert "\n" not in str(refused.value)
    with pytest.raises(CalibrationError, match=message):
        evaluate(tiny_model(), TOKENIZER, source, seqlen=4)


def failing() -> Any:
    yield IDS[:1]
    raise ZeroDivisionError("nobody home")


@pytest.mark.parametrize(
    "make", [Broken, lambda: DataLoader(Broken()), failing], ids=["data set", "loader", "generator"]
)
def test_data_that_cannot_be_read_say_why(make: Callable[[], object]) -> None:
    with pytest.raises(CalibrationError, match="cannot be read: ZeroDivisionError: nobody home"):
        Calibration(source=make())


@pytest.mark.parametrize("wrong", [64, 2**40, -1])
@pytest.mark.parametrize("under_padding", [False, True])
def test_ids_that_the_model_does_not_have_are_named_before_any_work(wrong: int, under_padding: bool) -> None:
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    ids[3, 11] = wrong
    mask[3, 11] = not under_padding
    source = {"input_ids": ids, "attention_mask": mask}
    message = f"token id {wrong}, but this model has a vocabulary of 64"
    with pytest.raises(CalibrationError, match=message):
        Pruner().prune(tiny_model(), calibration=source, budget=Budget(parameters=0.1))
    with pytest.raises(CalibrationError, match=message):
        evaluate(tiny_model(), None, source)


@pytest.mark.parametrize("name", ["tensor", "array", "lists", "data set as torch", "loader of tensors", "records"])
def test_evaluate_takes_the_same(name: str) -> None:
    expected = evaluate(tiny_model(), None, Tokens.from_batches(IDS))
    found = evaluate(tiny_model(), None, WHOLE[name]())
    assert (found.perplexity, found.token_count, found.rows) == (expected.perplexity, 66, 6)


def test_padding_is_not_measured() -> None:
    """On the left or on the right: what is left of a row counts as if it stood alone."""
    model = tiny_model("gpt2")  # has learned positions
    whole = evaluate(model, None, IDS[:1, :7])
    for left in (0, 3, 5):
        ids, mask = torch.full((1, 12), 63), torch.zeros(1, 12, dtype=torch.long)
        ids[0, left : left + 7], mask[0, left : left + 7] = IDS[0, :7], 1
        found = evaluate(model, None, {"input_ids": ids, "attention_mask": mask})
        assert found.perplexity == pytest.approx(whole.perplexity)
        assert found.token_count == 6


def test_rows_that_predict_nothing_are_refused() -> None:
    with pytest.raises(CalibrationError, match="nothing to predict: every row has fewer than two tokens"):
        evaluate(tiny_model(), None, IDS[:, :1])


def test_a_name_is_no_tokenizer_and_no_model() -> None:
    with pytest.raises(InvalidConfig, match=r"must be a transformers tokenizer, .*; got str"):
        Calibration(source=[TEXT]).tokenize("gpt2")  # type: ignore[arg-type]
    with pytest.raises(BillhookError, match=r"must be a transformers model, .*; got str"):
        evaluate("smollm2", TOKENIZER)  # type: ignore[arg-type]


def test_text_is_no_ready_data() -> None:
    for source in ("builtin", [TEXT], np.array([TEXT, "b"]), [{"text": TEXT}], {"text": [TEXT]}, [CHAT], []):
        assert ready_tokens(keep(source)) is None
