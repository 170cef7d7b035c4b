"""accuracy: hits equal those of a naive reading, one row at a time, and questions that cannot be asked are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from billhook import Budget, Pruner, accuracy
from billhook.errors import CalibrationError, InvalidConfig, NotFinite
from billhook.evaluation.task import read_task
from billhook.testing import tiny_model, tiny_models, tiny_tokenizer, tiny_tokens

MODEL = tiny_model()
TOKENIZER = tiny_tokenizer()
WORDS = st.text("aeionrst", min_size=1, max_size=8)
CHOICES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
QUERIES = st.builds(str.__add__, CHOICES, st.sampled_from(["", " ", "  "]))

Record = Mapping[str, Any]


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A question of either kind, its answers of very different lengths."""
    if draw(st.booleans()):
        choices = draw(st.lists(CHOICES, min_size=2, max_size=4))
        return {"query": draw(QUERIES), "choices": choices, "gold": draw(st.integers(0, len(choices) - 1))}
    return {"queries": draw(st.tuples(QUERIES, QUERIES)), "choices": [draw(CHOICES)], "gold": draw(st.integers(0, 1))}


@torch.no_grad()
def naive_score(model: PreTrainedModel, context: str, answer: str) -> float:
    """Token by token, all logits, log-softmax in float64: of what ``answer`` adds to the stripped context."""
    seen = TOKENIZER(context.rstrip())["input_ids"]
    ids: list[int] = TOKENIZER(f"{context} {answer}")["input_ids"]
    logits: Tensor = model(input_ids=torch.tensor([ids])).logits[0].double()
    return sum(float(logits[place - 1].log_softmax(-1)[ids[place]]) for place in range(len(seen), len(ids)))


def naive_margin(model: PreTrainedModel, record: Record) -> tuple[bool, float]:
    """Whether the record is answered rightly, and how far the best answer is from the next one."""
    if "queries" in record:
        scores = [naive_score(model, query, record["choices"][0]) for query in record["queries"]]
    else:
        scores = [naive_score(model, record["query"], choice) / len(choice) for choice in record["choices"]]
    first, second = sorted(scores, reverse=True)[:2]
    return scores[record["gold"]] == first, first - second


def assert_same_as_naive(model: PreTrainedModel, asked: Sequence[Record], **options: Any) -> None:
    found = accuracy(model, TOKENIZER, asked, **options)
    for hit, (expected, margin) in zip(found.hits, (naive_margin(model, record) for record in asked), strict=True):
        assert hit == expected or margin < 1e-4  # equal answers; float32 sums of tens of nats


@given(asked=st.lists(records(), min_size=1, max_size=6), batch_tokens=st.sampled_from([1, 60, 4096]))
def test_hits_are_those_of_a_naive_reading_however_rows_are_batched(asked: list[Record], batch_tokens: int) -> None:
    assert_same_as_naive(MODEL, asked, batch_tokens=batch_tokens)


@given(model=tiny_models(), asked=st.lists(records(), min_size=1, max_size=3))
def test_every_family_is_read_alike(model: PreTrainedModel, asked: list[Record]) -> None:
    assert_same_as_naive(model, asked)


FIXED: list[Record] = [
    *({"query": "the quick", "choices": ["fox", "dog and a cat", "sun", "hat"], "gold": gold} for gold in range(4)),
    *({"queries": ["a cat ", "the old dog"], "choices": ["ran away."], "gold": gold} for gold in range(2)),
]
"""Of each kind, exactly one is answered rightly."""


def test_a_pruned_model_is_asked_like_any_other() -> None:
    budget, data = Budget(parameters=0.2, of="backbone"), tiny_tokens(8, 12)
    pruned = (
        Pruner.following("replaceme-ls", selector="multi-pruner").prune(MODEL, calibration=data, budget=budget).model
    )
    assert type(pruned) is not type(MODEL)  # its layers differ
    assert_same_as_naive(pruned, FIXED)


@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_one_answer_in_each_kind_is_the_likeliest(batch_tokens: int) -> None:
    found = accuracy(MODEL, TOKENIZER, FIXED, batch_tokens=batch_tokens)
    assert (sum(found.hits[:4]), sum(found.hits[4:])) == (1, 1)
    assert (found.task, found.count) == ("6 records", 6)


def test_families_that_give_all_logits_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = accuracy(MODEL, TOKENIZER, FIXED)
    model = tiny_model()
    whole = model.forward

    def forward(*, input_ids: Tensor, attention_mask: Tensor | None, use_cache: bool) -> Any:
        return whole(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    monkeypatch.setattr(model, "forward", forward)
    assert accuracy(model, TOKENIZER, FIXED) == expected


def test_bfloat16_logits_are_summed_in_float32() -> None:
    model = tiny_model(dtype=torch.bfloat16)
    # a row in each batch, as in the naive reading: bfloat16 kernels round by shape
    assert_same_as_naive(model, FIXED, batch_tokens=1)


@torch.no_grad()
def test_a_token_that_spans_the_seam_is_scored_where_nothing_comes_after_it() -> None:
    words = {"a": 5, "b": 6, "c": 7, " ": 8, " c": 9, "b c": 10}
    joining = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(words, [(" ", "c"), ("b", " c")])))
    assert joining(["ab", "ab c", "ab a"])["input_ids"] == [[5, 6], [5, 10], [5, 6, 8, 5]]
    joined, apart = (MODEL(torch.tensor([ids])).logits[0].log_softmax(-1) for ids in ([5, 10], [5, 6, 8, 5]))
    expected = bool(joined[0, 10] > apart[1, 8] + apart[2, 5])
    asked = [{"query": "ab", "choices": ["c", "a"], "gold": gold} for gold in range(2)]
    assert accuracy(MODEL, joining, asked).hits == (expected, not expected)


def test_an_empty_query_is_asked_after_the_tokenizers_own_first_token() -> None:
    asked = [{"query": "", "choices": ["a", "the"], "gold": 0}]
    with pytest.raises(CalibrationError, match="its query is empty, and this tokenizer puts none at the beginning"):
        accuracy(MODEL, TOKENIZER, asked)
    beginning = tiny_tokenizer()
    core: Any = beginning.backend_tokenizer
    core.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    assert accuracy(MODEL, beginning, asked).count == 1


def test_a_limit_asks_the_first_questions() -> None:
    task = read_task(FIXED, name="made up")
    found = accuracy(MODEL, TOKENIZER, task, limit=3)
    assert found.hits == accuracy(MODEL, TOKENIZER, FIXED).hits[:3]
    assert found == accuracy(MODEL, TOKENIZER, task.first(3))


def test_progress_counts_answers() -> None:
    seen: list[tuple[str, int, int | None]] = []
    task = read_task(FIXED[:1], name="made up")
    accuracy(MODEL, TOKENIZER, task, batch_tokens=60, progress=lambda *step: seen.append(step))
    assert seen == [("made up", 2, 4), ("made up", 4, 4)]  # 23 tokens with the longest answer, 13 with the others


def test_dropout_is_off_and_every_module_is_left_in_its_mode() -> None:
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train()
    found = accuracy(model, TOKENIZER, FIXED)
    assert model.training
    assert found == accuracy(model.eval(), TOKENIZER, FIXED)


def test_a_model_of_nan_is_no_model_that_answers_wrongly() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)  # type: ignore[operator] # typed as a module or tensor
    with pytest.raises(NotFinite, match=r"The logits are not finite: .* Run it in bfloat16 or float32"):
        accuracy(model, TOKENIZER, FIXED)


def test_questions_longer_than_the_model_takes_are_refused_by_number() -> None:
    long = {"query": "a" * 80, "choices": ["b", "c"], "gold": 0}
    said = r"2 of the questions of 8 records are too long: this gpt2 model has 64 positions.*\(from 1: 7, 8\)"
    with pytest.raises(CalibrationError, match=said):
        accuracy(tiny_model("gpt2"), TOKENIZER, [*FIXED, long, long])
    assert accuracy(MODEL, TOKENIZER, [long]).count == 1  # rotary positions have no end


@pytest.mark.parametrize("option", ["limit", "batch_tokens"])
def test_amounts_below_one_are_refused(option: str) -> None:
    options: dict[str, Any] = {option: 0}
    with pytest.raises(InvalidConfig, match=f"'{option}' of an? .* must be at least 1; got 0"):
        accuracy(MODEL, TOKENIZER, FIXED, **options)
