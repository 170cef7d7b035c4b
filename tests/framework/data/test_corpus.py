"""Of text that is too much to be tokenised, what the rows need is read: the same each time, and nothing else."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from billhook import Blend, Calibration
from billhook.data import text_source
from billhook.data.corpus import Lines, Pieces, Records, drawn_texts
from billhook.data.text_layout import tokenize_whole
from billhook.data.text_source import documents, opened
from billhook.errors import CalibrationError
from billhook.evaluation.perplexity import held_out
from billhook.testing import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
"""A token a character."""

TEXTS = [f"document {n} says {'so and ' * (n % 5)}on. " for n in range(40)]


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts as much is little."""
    monkeypatch.setattr(text_source, "WHOLE", 200)


def as_lines(folder: Path, texts: list[str] = TEXTS, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def decoded(rows: torch.Tensor) -> str:
    return "".join(str(TOKENIZER.decode(row)) for row in rows)


@pytest.mark.usefixtures("little")
def test_all_that_is_drawn_is_every_document_once(tmp_path: Path) -> None:
    rows = Calibration(source=as_lines(tmp_path), samples=10_000, seqlen=8).tokenize(TOKENIZER).ids
    found = decoded(rows)
    whole = sum(len(text) + 2 for text in TEXTS)
    assert whole - 8 < rows.numel() <= whole
    missing = [text for text in TEXTS if text.strip() not in found]
    assert len(missing) <= 1  # what is left over at the end fills no row


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("packing", ["pack", "pad"])
def test_lists_lines_and_data_sets_draw_the_same(tmp_path: Path, packing: Any) -> None:
    sources = [
        as_lines(tmp_path),
        as_lines(tmp_path, name="b.json"),
        TEXTS,
        datasets.Dataset.from_dict({"text": TEXTS}),
    ]
    found = {
        Calibration(source=s, samples=9, seqlen=16, packing=packing).tokenize(TOKENIZER).fingerprint for s in sources
    }
    assert len(found) == 1


@pytest.mark.usefixtures("little")
def test_the_first_rows_of_many_are_the_rows_of_few_and_the_seed_chooses() -> None:
    def rows(samples: int, seed: int = 0) -> list[list[int]]:
        tokens: list[list[int]] = (
            Calibration(source=TEXTS, samples=samples, seqlen=16, seed=seed).tokenize(TOKENIZER).ids.tolist()
        )
        return tokens

    assert rows(12)[:5] == rows(5) == rows(5)
    assert rows(5) != rows(5, seed=1)


@pytest.mark.usefixtures("little")
def test_a_part_of_a_blend_gives_the_rows_that_it_gives_alone() -> None:
    blend = (
        Calibration(source=Blend([(TEXTS, 1), (["x" * 500], 1)]), samples=8, seqlen=16).tokenize(TOKENIZER).ids.tolist()
    )
    alone = Calibration(source=TEXTS, samples=4, seqlen=16).tokenize(TOKENIZER).ids.tolist()
    assert all(row in blend for row in alone)


@pytest.mark.usefixtures("little")
def test_padded_rows_are_documents(tmp_path: Path) -> None:
    tokens = Calibration(source=as_lines(tmp_path), samples=7, seqlen=12, packing="pad").tokenize(TOKENIZER)
    rows = [str(TOKENIZER.decode(ids[keep])) for ids, keep in zip(tokens.ids, tokens.keep, strict=True)]
    assert len(rows) == len(set(rows)) == 7
    assert all(any(text.startswith(row) for text in TEXTS) for row in rows)


def test_only_what_is_needed_is_read() -> None:
    asked: list[int] = []

    def document_of(number: int) -> str:
        asked.append(number)
        return TEXTS[number % len(TEXTS)]

    texts = drawn_texts(Records(range(10**7), document_of), str, size=64, seed=0)
    list(itertools.islice(texts, 5))
    assert len(asked) == 5


@given(st.lists(st.integers(0, 60), min_size=1, max_size=9), st.integers(0, 5))
def test_long_documents_give_a_piece_at_a_time_until_all_is_given(lengths: list[int], seed: int) -> None:
    texts = ["".join(chr(0x4E00 + 97 * n + i) for i in range(length)) for n, length in enumerate(lengths)]
    found = list(drawn_texts(Records(texts, str), str, size=7, seed=seed))
    pieces = [text[i : i + 7] for text in texts for i in range(0, len(text), 7)]
    assert sorted(found) == sorted(pieces)
    first = found[: sum(map(bool, lengths))]
    assert len({ord(piece[0]) // 97 for piece in first}) <= len(first)


@given(text=st.text(alphabet="aé的😀 \n", max_size=300), size=st.integers(4, 40))
def test_pieces_are_parts_of_the_text_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "a.txt"
    path.write_text(text)
    corpus = Pieces(path, size, str)
    assert corpus.count == -(-len(text.encode()) // size)
    place = 0
    for number in range(corpus.count):
        piece = corpus.document(number)
        place = text.index(piece, place) + len(piece)
    assert Pieces(path, 10_000, str).count <= 1


def test_one_long_text_is_drawn_from_all_over(tmp_path: Path, little: None) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line number {n}\n" for n in range(5000)))
    rows = Calibration(source=tmp_path / "a.txt", samples=40, seqlen=16).tokenize(TOKENIZER).ids
    numbers = [
        int(word) for row in rows for word in str(TOKENIZER.decode(row)).split() if word.isdigit() and len(word) == 4
    ]
    assert rows.shape == (40, 16)
    assert min(numbers) < 2000
    assert max(numbers) > 4000


@pytest.mark.parametrize("ending", ["\n", ""])
def test_lines_are_found_by_their_offsets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr("billhook.data.corpus.CHUNK", 7)
    path = tmp_path / "a.jsonl"
    path.write_text("eins\n\nzwei é\r\ndrei" + ending)
    corpus = Lines.of(path, lambda line, number: (number, line.strip()))
    assert [corpus.document(n) for n in range(corpus.count)] == [(1, "eins"), "", (3, "zwei é"), (4, "drei")]


@pytest.mark.usefixtures("little")
def test_a_bad_line_is_named_if_it_is_drawn(tmp_path: Path) -> None:
    path = as_lines(tmp_path, TEXTS)
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(CalibrationError, match=r"a\.jsonl, line 41, is not JSON"):
        Calibration(source=path, samples=10_000, seqlen=8).tokenize(TOKENIZER)


def test_a_stream_without_an_end_is_read_as_far_as_it_takes(little: None) -> None:
    def endless() -> Iterator[dict[str, str]]:
        for number in itertools.count():
            yield {"text": TEXTS[number % 40]}

    stream = datasets.IterableDataset.from_generator(endless)
    assert Calibration(source=stream, samples=6, seqlen=16).tokenize(TOKENIZER).ids.shape == (6, 16)


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("tokens", [32, 500, 10_000])
def test_perplexity_is_taken_on_the_end_of_the_text_whatever_its_length(tmp_path: Path, tokens: int) -> None:
    (tmp_path / "a.txt").write_text(text := "\n".join(TEXTS))
    for source, whole in (
        (as_lines(tmp_path), "\n\n".join(TEXTS)),
        (TEXTS, "\n\n".join(TEXTS)),
        (tmp_path / "a.txt", text),
    ):
        ids = tokenize_whole(whole, TOKENIZER)
        count = min(tokens, len(ids)) // 16
        assert held_out(source, TOKENIZER, seqlen=16, tokens=tokens).ids.flatten().equal(ids[len(ids) - count * 16 :])


def test_small_text_is_read_whole_as_ever(tmp_path: Path) -> None:
    found, _ = opened(as_lines(tmp_path), size=64, tokens=100)
    assert found == documents(TEXTS)[0]


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.raw"])
def test_memory_does_not_go_with_the_file(tmp_path: Path, name: str) -> None:
    lines = json.dumps({"text": "some words of no great interest. " * 60}) + "\n"
    with (tmp_path / name).open("w") as file:
        for _ in range(20):
            file.write(lines * 700)  # 28 MB in all
    tracemalloc.start()
    tokens = Calibration(source=tmp_path / name, samples=8, seqlen=64).tokenize(TOKENIZER)
    held = held_out(tmp_path / name, TOKENIZER, seqlen=64, tokens=1024)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert tokens.ids.shape == (8, 64)
    assert held.ids.shape == (16, 64)
    assert peak < 2**23


def test_arrays_of_texts_are_no_tables() -> None:
    assert opened(np.array(["one", "two"]), size=64, tokens=100)[0] == ["one", "two"]


def test_a_large_file_that_is_one_json_value_is_refused_with_the_way_out(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as written:
        written.write(b'[{"text": "a"},')
        written.truncate(2**30 + 1)  # with a hole: it takes no room
    with pytest.raises(CalibrationError, match=r"is one JSON value of 1\.0 GiB.* Write a record a line \(a \.jso"):
        Calibration(source=file, samples=4, seqlen=16).tokenize(tiny_tokenizer())
