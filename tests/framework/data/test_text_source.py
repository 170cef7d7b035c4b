"""Reading documents from files, lists and data sets, and the text that needs no download."""

from __future__ import annotations

import json
import os
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.data.text_source import (
    BUILTIN,
    BUILTIN_EVALUATION,
    EVALUATION_SHARE,
    Document,
    default_text,
    documents,
    wikitext,
)
from billhook.errors import CalibrationError

PARTS = {part: default_text(part) for part in ("calibration", "evaluation")}


def test_no_topic_is_in_both_parts() -> None:
    calibration = [name for name, text in topics.items() if text in PARTS["calibration"]]
    evaluation = [name for name, text in topics.items() if text in PARTS["evaluation"]]
    assert not set(calibration) & set(evaluation)
    assert set(calibration) | set(evaluation) == set(topics)


def test_the_parts_hold_everything_once() -> None:
    assert sum(map(len, PARTS.values())) == sum(map(len, topics.values())) + 2 * (len(topics) - 2)


def test_the_evaluation_part_has_its_share_of_the_topics() -> None:
    count = sum(text in PARTS["evaluation"] for text in topics.values())
    assert count == round(EVALUATION_SHARE * len(topics))


def test_there_is_enough_to_calibrate_on() -> None:
    # 128 rows of 512 tokens at about four characters a token, the default of Calibration
    assert len(PARTS["calibration"]) > 128 * 512 * 4


TEXTS = st.text(min_size=1).filter(str.strip)
CHAT = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because."}]


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(("source", "part"), [(BUILTIN, "calibration"), (BUILTIN_EVALUATION, "evaluation")])
def test_the_builtin_text_has_two_parts(source: str, part: str) -> None:
    assert documents(source) == ([default_text(part)], source)


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    path = written(tmp_path, "some.txt", "one\n\ntwo")
    assert documents(path) == (["one\n\ntwo"], "some.txt")


def test_a_file_may_be_named_by_a_string(tmp_path: Path) -> None:
    path = written(tmp_path, "no-suffix", "text")
    assert documents(str(path)) == (["text"], str(path))


@given(texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_any_texts_survive_jsonl(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    lines = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    assert documents(written(tmp_path_factory.mktemp("jsonl"), "a.jsonl", lines))[0] == texts


def test_line_separators_inside_json_strings_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    assert documents(written(tmp_path, "a.jsonl", json.dumps({"text": text}, ensure_ascii=False)))[0] == [text]


def test_blank_lines_of_jsonl_are_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '\n{"text": "one"}\r\n\r\n"two"\n')
    assert documents(path)[0] == ["one", "two"]


@pytest.mark.parametrize("content", [[{"text": "one"}, "two"], {"text": "one"}])
def test_json_holds_a_list_of_records_or_one(tmp_path: Path, content: Any) -> None:
    found, _ = documents(written(tmp_path, "a.json", json.dumps(content)))
    assert found == (["one", "two"] if isinstance(content, list) else ["one"])


def test_a_raw_file_is_joined_like_wikitext(tmp_path: Path) -> None:
    raw = " \n = Title = \n \n Text . \n"
    assert documents(written(tmp_path, "wiki.test.raw", raw))[0] == [wikitext(raw)]


def test_wikitext_equals_the_usual_join_of_its_data_set() -> None:
    # as datasets gives wikitext-2-raw-v1: "" for a blank line, else the line with its newline
    rows = ["", " = Title = \n", "", " Text . \n", " More . \n"]
    assert wikitext(" \n = Title = \n \n Text . \n More . ") == "\n\n".join(rows)


def test_a_list_of_strings_is_taken_as_it_is() -> None:
    assert documents(["one", "two"]) == (["one", "two"], "2 documents")


def test_a_data_set_is_taken_record_by_record() -> None:
    found, name = documents(datasets.Dataset.from_dict({"text": ["one", "two"], "label": [0, 1]}))
    assert found == ["one", "two"]
    assert name == "Dataset"


def test_a_generator_is_read_once() -> None:
    assert documents(text for text in ("one", "two"))[0] == ["one", "two"]


@pytest.mark.parametrize(
    ("record", "document"),
    [
        ("plain", "plain"),
        ({"text": "a"}, "a"),
        ({"content": "a"}, "a"),
        ({"document": "a", "title": "t"}, "a"),
        ({"content": "b", "text": "a"}, "a"),
        ({"messages": CHAT}, CHAT),
        ({"conversations": CHAT, "text": "a"}, CHAT),
        ({"conversations": [{"from": "human", "value": "hi"}]}, [{"role": "user", "content": "hi"}]),
        ({"conversations": [{"from": "gpt", "value": "hi"}]}, [{"role": "assistant", "content": "hi"}]),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            [{"role": "user", "content": "Add.\n1 2"}, {"role": "assistant", "content": "3"}],
        ),
        (
            {"instruction": "Greet.", "input": "", "response": "Hello."},
            [{"role": "user", "content": "Greet."}, {"role": "assistant", "content": "Hello."}],
        ),
        (  # as Alpaca's data set has it: rendered as text as well
            {"instruction": "Greet.", "input": "", "output": "Hello.", "text": "### Instruction: Greet."},
            [{"role": "user", "content": "Greet."}, {"role": "assistant", "content": "Hello."}],
        ),
        (
            {"instruction": "Sum up.", "context": "It rains.", "response": "Rain.", "category": "summary"},
            [{"role": "user", "content": "Sum up.\nIt rains."}, {"role": "assistant", "content": "Rain."}],
        ),
        ({"instruction": "Greet."}, [{"role": "user", "content": "Greet."}]),
        ({"prompt": "why?", "completion": "because."}, CHAT),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, CHAT),
        ({"prompt": "Write of trees.", "text": "Trees grow."}, "Trees grow."),
        ({"prompt": "why?"}, CHAT[:1]),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "why?"}, {"type": "image"}]}]},
            CHAT[:1],
        ),
        ({"messages": [{"role": "assistant", "content": None}]}, [{"role": "assistant", "content": ""}]),
    ],
)
def test_a_record_becomes_a_document(record: object, document: Document) -> None:
    assert documents([record])[0] == [document]


def test_empty_documents_are_left_out() -> None:
    assert documents(["", " \n", "one"])[0] == ["one"]


@pytest.mark.parametrize("source", [[], [""], [" \n\t"]])
def test_a_source_without_text_is_refused(source: list[str]) -> None:
    with pytest.raises(CalibrationError, match=r"The calibration text \(\d documents\) is empty"):
        documents(source)


def test_an_empty_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"\(empty.txt\) is empty"):
        documents(written(tmp_path, "empty.txt", ""))


@pytest.mark.parametrize("record", [{"label": 1}, {"text": None}, 7, None, {"text": 5}, {"output": "alone"}])
def test_a_record_without_text_is_shown_by_its_fields(record: object) -> None:
    expected = r"'text' \('content', 'document'\), 'messages' \('conversations'\), 'instruction' or 'prompt'"
    with pytest.raises(
        CalibrationError, match=rf"A record of (fields \['\w+'\]|type \w+) is no document: .*{expected}"
    ):
        documents([record])


@pytest.mark.parametrize("message", ["hi", {"content": "hi"}, {"role": "", "content": "hi"}])
def test_a_chat_message_without_a_role_is_refused(message: object) -> None:
    with pytest.raises(CalibrationError, match="A chat message needs 'role' and 'content'"):
        documents([{"messages": [message]}])


def test_a_line_that_is_not_json_is_named_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"text": "one"}\n\n{text}\n')
    with pytest.raises(CalibrationError, match=r"a\.jsonl, line 3, is not JSON"):
        documents(path)


@pytest.mark.parametrize("name", ["gone.txt", "./gone", "~/gone", "/gone/too"])
def test_a_file_that_is_not_there_is_named_and_no_hub_is_asked(name: str) -> None:
    with pytest.raises(CalibrationError, match=f"The text file {name} does not exist"):
        documents(name)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"The text file .*gone\.txt cannot be read"):
        documents(tmp_path / "gone.txt")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(CalibrationError, match=r"a\.txt cannot be read: .*utf-8"):
        documents(tmp_path / "a.txt")


def test_text_given_as_a_name_is_told_to_go_into_a_list() -> None:
    with pytest.raises(CalibrationError, match=r"give texts in a list: \[text\]"):
        documents("It was a bright cold day in April and the clocks were striking thirteen " * 20)


def test_an_unknown_data_set_is_named_with_the_reason() -> None:
    with pytest.raises(CalibrationError, match="Neither a file nor a data set is called 'no such set'"):
        documents("no such set")


def test_a_dictionary_of_data_sets_is_refused_rather_than_read_as_its_names() -> None:
    one = datasets.Dataset.from_dict({"text": ["one"]})
    with pytest.raises(CalibrationError, match=r"fields \['test', 'train'\] are several sets in one; choose one"):
        documents(datasets.DatasetDict({"train": one, "test": one}))


@pytest.mark.parametrize("source", [3, None, 2.5])
def test_what_is_no_source_at_all_is_refused(source: object) -> None:
    with pytest.raises(CalibrationError, match="a file, a data set, a list of strings or token batches; got"):
        documents(source)


def test_a_folder_is_read_as_the_data_set_that_it_holds(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["one", "two"]}).save_to_disk(tmp_path / "saved")
    assert documents(tmp_path / "saved")[0] == ["one", "two"]
    assert documents(str(tmp_path / "saved"))[0] == ["one", "two"]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_without_one_is_called_a_folder(tmp_path: Path, kind: type) -> None:
    with pytest.raises(CalibrationError, match=r"is a folder, and no data set can be read from it .*Name a file"):
        documents(kind(tmp_path))


@pytest.mark.parametrize("kind", [str, Path])
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, kind: type) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    for name in (tmp_path / "pipe.txt", "/dev/zero"):
        with pytest.raises(CalibrationError, match="is no file but a device or a pipe"):
            documents(kind(name))


BAD_LINES = {
    '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}": "line 2, cannot be read as JSON: it is nested too deeply",
    '{"text": "a", "number": ' + "9" * 5_000 + "}": "line 2, is not JSON: Exceeds the limit",
    '{"text": "a", "number": NaNa}': "line 2, is not JSON",
    '{"messages": 5}': "'messages' of a record must be a list of messages; got type int",
    '{"messages": "text"}': "'messages' of a record must be a list of messages; got type str",
    '{"messages": [[[1]]]}': "needs 'role' and 'content'",
    '{"messages": [{"role": "user", "content": [[{"text": {"a": 1}}]]}]}': "must be text",
    '{"text": 5}': "is no document",
    "5": "type int is no document",
    "[]": "type list is no document",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:40])
def test_a_record_that_is_none_is_one_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(CalibrationError, match=BAD_LINES[line]) as refused:
        documents(written(tmp_path, "a.jsonl", f'{{"text": "fine"}}\n{line}\n'))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_mark_before_the_file_is_no_part_of_its_first_record(tmp_path: Path) -> None:
    assert documents(written(tmp_path, "a.jsonl", '\ufeff{"text": "one"}'))[0] == ["one"]
