"""JSON that somebody else wrote is read strictly, and never without end."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from billhook.json_text import DEEPEST, BadJson, content_of, parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not even JSON"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[1e999]", "1e999 is no number"),
        ("9" * 5000, "99999999999999999999… has more than 64 bits"),
        (str(2**63), "has more than 64 bits"),
        ('{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands twice in one object"),
        (r'["\ud83d"]', "half a character"),
        (r'{"\ud83d": 1}', "half a character"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"nested more than {DEEPEST} deep"),
        ("[" * 10**6, "nested more than|not even JSON"),
    ],
)
def test_what_nobody_here_would_write_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadJson, match=reason):
        parsed(text)


def test_everything_else_is_read() -> None:
    assert parsed('{"a": [1, -9223372036854775808, 2.5, null, true, "\\ud83d\\ude00"]}') == {
        "a": [1, -(2**63), 2.5, None, True, "😀"]
    }
    assert parsed("[" * DEEPEST + "]" * DEEPEST)
    assert parsed("[Infinity]", finite=False) == [math.inf]


def test_only_regular_files_of_some_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # to which nobody writes: opening it would wait for ever
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadJson, match="it is no regular file"):
            content_of(path)
    with pytest.raises(BadJson, match="No such file"):
        content_of(tmp_path / "absent")
    with pytest.raises(BadJson, match="there is no such file"):
        content_of(Path("a\0b"))
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(BadJson, match="it has more than 10 bytes"):
        content_of(tmp_path / "large", most=10)
    (tmp_path / "latin").write_bytes("é".encode("latin-1"))
    with pytest.raises(BadJson, match="it is not UTF-8"):
        content_of(tmp_path / "latin")
