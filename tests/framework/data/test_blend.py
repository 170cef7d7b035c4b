"""Blend: rows of several sources in proportion to their weights, each the rows that it gives alone."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import Blend, Budget, Calibration, Plan, Pruner, SelfGenerated, Tokens, apply
from billhook.data.blend import allocate, largest_remainder
from billhook.errors import CalibrationError, InvalidConfig
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens

TOKENIZER = tiny_tokenizer()
LETTERS = {letter: [letter * 400] for letter in "abc"}
"""Texts whose rows say where they are from."""

WEIGHTS = st.integers(1, 50) | st.floats(0.01, 50)


def rows_of(tokens: Tokens) -> list[tuple[int, ...]]:
    return sorted(tuple(ids[keep].tolist()) for ids, keep in zip(tokens.ids, tokens.keep, strict=True))


def blended(parts: Any, **options: Any) -> Tokens:
    return Calibration(source=Blend(parts), **{"samples": 12, "seqlen": 8, **options}).tokenize(TOKENIZER)


def letters_in(tokens: Tokens) -> Counter[str]:
    return Counter(TOKENIZER.decode(row)[0] for row in tokens.ids)


@given(weights=st.lists(WEIGHTS, min_size=1, max_size=6), total=st.integers(0, 300))
def test_shares_are_proportional_to_within_one_row(weights: list[float], total: int) -> None:
    shares = largest_remainder(total, weights)
    whole = sum(map(Fraction, weights))
    assert sum(shares) == total
    assert all(abs(share - total * Fraction(w) / whole) < 1 for share, w in zip(shares, weights, strict=True))


def test_ties_go_to_the_earlier_part() -> None:
    assert largest_remainder(4, [1, 1, 1]) == [2, 1, 1]
    assert largest_remainder(4, [0.1, 0.1, 0.1]) == [2, 1, 1]


@given(
    parts=st.lists(st.tuples(WEIGHTS, st.none() | st.integers(0, 40)), min_size=1, max_size=5),
    samples=st.integers(1, 100),
)
def test_no_part_gives_more_than_it_has_and_the_others_make_up_for_it(
    parts: list[tuple[float, int | None]], samples: int
) -> None:
    weights, counts = [weight for weight, _ in parts], [count for _, count in parts]
    given = allocate(samples, weights, counts)
    assert all(count is None or rows <= count for rows, count in zip(given, counts, strict=True))
    assert sum(given) == (samples if None in counts else min(samples, sum(count or 0 for count in counts)))
    if all(count is None or count >= samples for count in counts):
        assert given == largest_remainder(samples, weights)


@given(weights=st.lists(st.integers(1, 9), min_size=2, max_size=3), seed=st.integers(0, 5))
def test_a_blend_has_the_rows_that_its_parts_give_alone(weights: list[int], seed: int) -> None:
    texts = [[f"{n} {i} quick brown fox " for i in range(90)] for n in range(len(weights))]
    tokens = blended(list(zip(texts, weights, strict=True)), seed=seed)
    shares = largest_remainder(12, weights)
    alone = [
        Calibration(source=text, samples=share, seqlen=8, seed=seed).tokenize(TOKENIZER)
        for text, share in zip(texts, shares, strict=True)
        if share
    ]
    assert rows_of(tokens) == sorted(row for part in alone for row in rows_of(part))


def test_parts_are_taken_by_weight() -> None:
    tokens = blended([(LETTERS["a"], 1), (LETTERS["b"], 2), (LETTERS["c"], 3)])
    assert letters_in(tokens) == {"a": 2, "b": 4, "c": 6}


def test_parts_are_shuffled() -> None:
    found = [TOKENIZER.decode(row)[0] for row in blended([(LETTERS["a"], 1), (LETTERS["b"], 1)]).ids]
    assert found != sorted(found)


def test_another_part_changes_nothing_in_this_one() -> None:
    text = [f"{i} the lazy dog " for i in range(60)]
    one, other = (blended([(text, 1), (LETTERS[letter], 1)]) for letter in "ab")
    assert set(rows_of(one)) & set(rows_of(other)) == set(
        rows_of(Calibration(source=text, samples=6, seqlen=8).tokenize(TOKENIZER))
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"samples": 11},
        {"parts": [(LETTERS["a"], 1), (LETTERS["b"], 2)]},
        {"parts": [(LETTERS["a"], 1), (LETTERS["c"], 1)]},
        {"parts": [(LETTERS["b"], 1), (LETTERS["a"], 1)]},
    ],
)
def test_the_fingerprint_notices_weights_parts_order_and_options(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"parts": [(LETTERS["a"], 1), (LETTERS["b"], 1)]}
    assert blended(**given).fingerprint == blended(**given).fingerprint
    assert blended(**given).fingerprint != blended(**{**given, **change}).fingerprint


def test_a_short_part_is_made_up_for_with_a_warning(logged: list[str]) -> None:
    tokens = blended([(["a" * 16], 1), (LETTERS["b"], 1)])
    assert letters_in(tokens) == {"a": 2, "b": 10}
    assert logged == [
        "The part 1 documents has 2 rows of 8 tokens; its weight asks for 6. The others make up for it if they can."
    ]


def test_parts_that_are_short_together_say_so(logged: list[str]) -> None:
    assert len(blended([(["a" * 16], 1), (["b" * 24], 1)]).ids) == 5
    assert logged[-1] == (
        "The text (1 documents, 1 documents) gives 5 rows of 8 tokens; 12 were asked for. All are used."
    )


def test_a_part_too_light_for_a_row_is_named(logged: list[str]) -> None:
    assert letters_in(blended([(LETTERS["a"], 0.001), (LETTERS["b"], 1)])) == {"b": 12}
    assert logged == ["The part 1 documents is too light to give one of 12 rows."]


def test_enough_of_everything_gives_no_warning(logged: list[str]) -> None:
    blended([(LETTERS["a"], 1), (LETTERS["b"], 2)])
    assert logged == []


def test_rows_of_different_length_are_padded_on_the_right() -> None:
    tokens = blended([(tiny_tokens(4, 5), 1), (LETTERS["a"], 2)], samples=6)
    assert tokens.ids.shape == (6, 8)
    assert sorted(tokens.keep.sum(1).tolist()) == [5, 5, 8, 8, 8, 8]


def test_a_generator_of_texts_is_read_once_and_kept() -> None:
    calibration = Calibration(source=Blend([((text for text in LETTERS["a"]), 1)]), samples=2, seqlen=8)
    assert calibration.tokenize(TOKENIZER).fingerprint == calibration.tokenize(TOKENIZER).fingerprint


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "needs at least one source"),
        ("a.txt", "takes sources with their weights: .*; got 'a.txt'"),
        (["a.txt"], "is a pair of a source and its weight; got 'a.txt'"),
        ({"a.txt": 0}, "must be a number above 0; got 0 for 'a.txt'"),
        ({"a.txt": float("nan")}, "must be a number above 0; got nan"),
        ({"a.txt": "much"}, "must be a number above 0; got 'much'"),
        ([("a.txt", 1), ("a.txt", 2)], "names a.txt twice, .* add up the weights"),
        ([("self", 1), (SelfGenerated(), 2)], "twice"),
        ([(Blend({"a.txt": 1}), 1)], "holds no other one"),
    ],
)
def test_blends_that_mean_nothing_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Blend(parts)


def test_a_part_without_a_full_row_is_named() -> None:
    with pytest.raises(CalibrationError, match=r"text \(1 documents\) is too short: 2 tokens do not fill one row of 8"):
        blended([(LETTERS["a"], 1), (["bb"], 1)])


def a_file(folder: Path, name: str) -> str:
    (folder / name).write_text(f"{name} has a quick brown fox and a lazy dog in it. " * 9)
    return str(folder / name)


def test_a_plan_names_parts_weights_and_rows_and_makes_them_again(tmp_path: Path) -> None:
    one, other = a_file(tmp_path, "one.txt"), a_file(tmp_path, "other.txt")
    source = Blend({one: 1, other: 2, SelfGenerated(temperature=0.5): 1})
    model = tiny_model(num_hidden_layers=4)
    result = Pruner.following("replaceme-ls").prune(
        model, TOKENIZER, calibration=Calibration(source=source, samples=8, seqlen=16), budget=Budget(layers=1)
    )
    record = result.plan.calibration
    assert [(part.source, part.weight, part.rows) for part in record.parts] == [
        (one, 1, 2),
        (other, 2, 4),
        ("self", 1, 2),
    ]
    assert record.parts[2].options["temperature"] == 0.5
    assert record.source == f"{one} (2 rows), {other} (4 rows), self (2 rows)"
    again = Plan.from_json(result.plan.to_json())
    assert again == result.plan
    assert apply(again, model, TOKENIZER).plan == result.plan


def test_text_is_read_before_a_model_is_asked_for() -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    with pytest.raises(CalibrationError, match=r"gone\.txt does not exist"):
        Calibration(source=Blend({"self": 1, "gone.txt": 1})).tokenize(TOKENIZER, load)


def test_the_template_is_for_the_text_of_a_blend() -> None:
    chats = [{"instruction": "why?", "output": answer} for answer in ("because.", "why not?")]
    calibration = Calibration(
        source=Blend([(chats, 1), ("self", 1)]), samples=4, seqlen=16, packing="pad", chat_template=True
    )
    tokens = calibration.tokenize(TOKENIZER, tiny_model())
    assert sum(str(TOKENIZER.decode(row)).startswith("user: why?\nassis") for row in tokens.ids) == 2
    assert tokens.ids[:, 0].tolist().count(TOKENIZER.bos_token_id) == 2
