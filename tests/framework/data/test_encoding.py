"""Text that a tokenizer or a template cannot take is refused in one line, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from billhook import Calibration, accuracy, evaluate
from billhook.data.encoding import encode
from billhook.errors import CalibrationError
from billhook.testing import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
HALF = "some text \ud83d and more. " * 9
QUESTION = {"query": "is it \ud83d", "choices": ["a", "b"], "gold": 0}


def test_each_text_has_its_own_tokens() -> None:
    assert encode(["ab", "a"], TOKENIZER) == [TOKENIZER("ab")["input_ids"], TOKENIZER("a")["input_ids"]]


@pytest.mark.parametrize(
    "use",
    [
        lambda: Calibration(source=[HALF], seqlen=8).tokenize(TOKENIZER),
        lambda: Calibration(source=[HALF], seqlen=8, packing="pad", chat_template=True).tokenize(TOKENIZER),
        lambda: evaluate(tiny_model(), TOKENIZER, [HALF], seqlen=8),
    ],
    ids=["packed", "template", "evaluate"],
)
def test_half_a_surrogate_pair_is_named_with_its_place(use: Callable[[], object]) -> None:
    with pytest.raises(CalibrationError, match=r"half of a surrogate pair.*at the end of '.{1,40}\\ud83d'") as refused:
        use()
    str(refused.value).encode()  # can be printed


def test_half_a_surrogate_pair_in_a_task_is_named_by_its_record() -> None:
    with pytest.raises(CalibrationError, match=r"Record 1 of the task: 'query' has half a character .*\\ud83d"):
        accuracy(tiny_model(), TOKENIZER, [QUESTION])


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{{ 1 // 0 }}", "by zero"), ("{{ 'a' + 1 }}", "can only concatenate"), ("{% for", "unexpected|expected")],
)
def test_a_template_that_fails_is_refused_like_one_that_refuses(template: str, reason: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(CalibrationError, match=f"refuses a chat of user: .*({reason})"):
        Calibration(source=["text"], chat_template=True).tokenize(tokenizer)
