"""Damage to JSON: by somebody who knows what is in it, and by somebody who does not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP = "[" * 100_000 + "]" * 100_000
RAW: tuple[str, ...] = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-0", "1e308", "9" * 5000, "-" + "9" * 5000, "0." + "1" * 5000),
    *("9223372036854775808", "18446744073709551616", '"\\ud83d"', '"\\u0000"', '"\\u001b[2J\\u202e"', DEEP),
    *('{"a":1,"a":2}', '"' + "x" * 100_000 + '"', '"' + "9" * 5000 + '"', '"0:999999999"', '"0:1000000"'),
)
"""JSON, or nearly, that stands for trouble."""

MARK = "@raw{}@"
"""Stands in a value for one of :data:`RAW` until it is text."""

SMALL: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**62, -(2**63), 0.5, 1e-300, -1.5, 1e300, "", " ", "a", "nan", "inf"),
    *("[bold]", "../../x", "\u2028", "é" * 50, "１２", "-1", "1e5", "0x10", [], {}, [[]], [["a", 1]], {"": 0}),
    *([0] * 1000, {"name": "billhook:fold", "options": []}, {"kind": "drop-layers", "start": 1, "stop": 2**31}),
    *({"kind": "keep-channels", "layer": 0, "kept": "0:1000000"}, {"kind": "drop-branch", "layer": 1, "branch": "mlp"}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every part of a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, part in list(value.items() if isinstance(value, dict) else enumerate(value))[:50]:
            yield from places(part, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """The part there."""
    for key in path:
        value = value[key]
    return value


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> str:
    """The text of ``document`` with up to three parts replaced, taken out, doubled, renamed, or exchanged."""
    value = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        value = draw(_changed(value))
    text = json.dumps(value)
    for number, raw in enumerate(RAW):
        text = text.replace(json.dumps(MARK.format(number)), raw)
    return text


@st.composite
def _changed(draw: st.DrawFn, value: Any) -> Any:
    path = draw(st.sampled_from(list(places(value))))
    marks = [MARK.format(number) for number in range(len(RAW))]
    # a copy: a later change must not reach the list that it was drawn from
    new = copy.deepcopy(draw(st.sampled_from([*SMALL, *marks]) | st.integers(-10, 200) | st.text(max_size=8)))
    if not path:
        return draw(st.sampled_from([value, value, value, new]))
    inside, key = at(value, path[:-1]), path[-1]
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "double", "rename", "take"]))
    if how == "replace":
        inside[key] = new
    elif how == "remove":
        del inside[key]
    elif how == "double" and isinstance(inside, list):
        inside[key:key] = copy.deepcopy([inside[key]] * draw(st.sampled_from([1, 2, 20])))
    elif how == "rename" and isinstance(inside, dict):
        inside[draw(st.sampled_from(["", "x", "1", "9" * 5000, "kept", "schema"]))] = inside.pop(key)
    else:
        other = draw(st.sampled_from(list(places(value))))
        inside[key] = copy.deepcopy(at(value, other)) if other[: len(path)] != path else new
    return value


@st.composite
def garbled(draw: st.DrawFn, text: str) -> bytes:
    """The bytes of ``text`` cut short, with some replaced or inserted."""
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["cut", "replace", "insert", "repeat"]))
        if how == "cut":
            del data[place:]
        elif how == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 200))] * draw(st.sampled_from([1, 50]))
        else:
            some = draw(st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"[", b",", b"\\ud800", b"\xff", b"\x00"]))
            data[place : place + (len(some) if how == "replace" else 0)] = some
    return bytes(data)


def damage(document: Any) -> st.SearchStrategy[bytes]:
    """Either kind, of a JSON document."""
    known = damaged(document).map(lambda text: text.encode("utf-8", "surrogatepass"))
    return known | known | garbled(json.dumps(document))
