"""Self-generated text is what the model would write by plain sampling, and leaves the model alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook import Budget, Calibration, Pruner, SelfGenerated, apply, hookimpl
from billhook.data.self_generated import STAGE
from billhook.errors import CalibrationError, InvalidConfig
from billhook.testing import tiny_model, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MODEL = tiny_model()
BOS = cast(int, TOKENIZER.bos_token_id)


def written(options: SelfGenerated | None = None, *, rows: int = 3, seqlen: int = 12, seed: int = 0) -> Tensor:
    return (options or SelfGenerated()).write(MODEL, TOKENIZER, rows=rows, seqlen=seqlen, seed=seed).ids


def naively(model: PreTrainedModel, rows: int, seqlen: int, seed: int, temperature: Callable[[int], float]) -> Tensor:
    """Row by row without a cache: the first token up to which the probabilities exceed the draw."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(rows):
        draws, row = torch.rand(seqlen, generator=generator, dtype=torch.float64), [BOS]
        while len(row) < seqlen:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([row])).logits[0, -1].double()
            probabilities, draw = (logits / temperature(len(row) - 1)).softmax(-1).tolist(), float(draws[len(row)])
            row.append(next(token for token in range(64) if sum(probabilities[: token + 1]) > draw))
        found.append(row)
    return torch.tensor(found)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_rows_are_what_naive_sampling_gives(family: str) -> None:
    model = tiny_model(family, vocab_size=64)
    tokens = SelfGenerated(batch_rows=2).write(model, TOKENIZER, rows=3, seqlen=12, seed=5)
    assert torch.equal(tokens.ids, naively(model, 3, 12, 5, lambda _: 1.0))
    assert bool(tokens.keep.all())
    assert tokens.source == "self"


def test_the_temperature_may_change_while_a_row_begins() -> None:
    found = written(SelfGenerated(temperature=0.5, first_temperature=2.5, warming=4))
    schedule = [2.5, 2.0, 1.5, 1.0, 0.5]
    assert torch.equal(found, naively(MODEL, 3, 12, 0, lambda sampled: schedule[min(sampled, 4)]))


def test_without_temperature_the_likeliest_tokens_come() -> None:
    row = [BOS]
    while len(row) < 12:
        with torch.no_grad():
            row.append(int(MODEL(input_ids=torch.tensor([row])).logits[0, -1].argmax()))
    assert written(SelfGenerated(temperature=0)).tolist() == [row] * 3


def test_one_likeliest_token_is_the_likeliest_token() -> None:
    assert torch.equal(written(SelfGenerated(top_k=1)), written(SelfGenerated(temperature=0)))
    assert torch.equal(written(SelfGenerated(top_p=1e-6)), written(SelfGenerated(temperature=0)))


@given(logits=st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=6), temperature=st.floats(0.3, 3))
def test_tokens_come_with_their_probability(logits: list[float], temperature: float) -> None:
    draws = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    found = SelfGenerated(temperature=temperature).choose(torch.tensor(logits).repeat(4000, 1), 0, draws)
    share = torch.bincount(found, minlength=len(logits)) / 4000
    torch.testing.assert_close(share, (torch.tensor(logits) / temperature).softmax(0), atol=1e-3, rtol=0)


@given(k=st.integers(1, 6), p=st.floats(0.1, 1), draw=st.floats(0, 1, exclude_max=True))
def test_unlikely_tokens_are_left_out(k: int, p: float, draw: float) -> None:
    probabilities = torch.tensor([0.05, 0.3, 0.1, 0.25, 0.2, 0.1])
    draws = torch.tensor([draw], dtype=torch.float64)  # in float32 the largest would round to 1
    chosen = SelfGenerated(top_k=k, top_p=p).choose(probabilities.log()[None], 0, draws)
    above = [q for q in probabilities.tolist() if q > probabilities[int(chosen)]]
    assert len(above) < k
    assert sum(above) <= p + 1e-6


def test_the_same_seed_writes_the_same_and_another_another() -> None:
    assert torch.equal(written(), written())
    assert not torch.equal(written(), written(seed=1))


def test_rows_depend_neither_on_their_number_nor_on_the_batch() -> None:
    five = written(SelfGenerated(batch_rows=2), rows=5)
    assert torch.equal(five[:3], written(rows=3))
    assert len({tuple(row) for row in five.tolist()}) == 5


def test_rows_begin_with_the_start() -> None:
    found = written(SelfGenerated(start="<bos>user: "))
    assert [TOKENIZER.decode(row)[:11] for row in found] == ["<bos>user: "] * 3


def test_a_model_without_a_beginning_starts_after_an_end() -> None:
    bare = tiny_tokenizer()
    bare.bos_token = None
    model = tiny_model(bos_token_id=None)
    assert SelfGenerated().write(model, bare, rows=2, seqlen=4).ids[:, 0].tolist() == [bare.eos_token_id] * 2


def test_without_a_tokenizer_the_config_says_how_to_begin() -> None:
    assert torch.equal(SelfGenerated().write(MODEL, None, rows=3, seqlen=12).ids, written())


def test_ids_that_the_tokenizer_does_not_have_are_never_written() -> None:
    found = SelfGenerated(temperature=100).write(MODEL, tiny_tokenizer(10), rows=8, seqlen=16).ids
    assert set(found.flatten().tolist()) == set(range(10))


def test_an_end_stays_and_the_row_goes_on() -> None:
    eos = TOKENIZER.eos_token_id
    found = written(SelfGenerated(temperature=3), rows=20)
    row = next(row for row in found.tolist() if eos in row[:-1])
    assert len(row) == 12


def state_of(model: PreTrainedModel) -> tuple[Any, ...]:
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [(len(module._forward_hooks), sorted(vars(module))) for module in model.modules()]
    grads = [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    return weights, (modes, hooks, grads, model.config.to_dict(), model.generation_config.to_dict())


def test_the_model_stays_as_it_is_and_writes_without_dropout() -> None:
    model = tiny_model(attention_dropout=0.5)
    expected = SelfGenerated().write(model, TOKENIZER, rows=3, seqlen=12).ids
    model.train()
    model.model.layers[0].eval()
    weights, rest = state_of(model)
    assert torch.equal(SelfGenerated().write(model, TOKENIZER, rows=3, seqlen=12).ids, expected)
    after, rest_after = state_of(model)
    assert rest_after == rest
    assert all(torch.equal(after[name], weights[name]) for name in weights)


def test_the_generation_config_does_not_count() -> None:
    model = tiny_model()
    model.generation_config.update(top_k=1, repetition_penalty=3.0, max_new_tokens=2)
    assert torch.equal(SelfGenerated().write(model, TOKENIZER, rows=3, seqlen=12).ids, written())


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = written()
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert torch.equal(written(), one)


def test_a_failure_leaves_the_mode_as_it_was() -> None:
    model = tiny_model().train()
    nn.init.constant_(model.lm_head.weight, float("nan"))
    with pytest.raises(CalibrationError, match="answers its own text with NaN"):
        SelfGenerated().write(model, TOKENIZER, rows=1, seqlen=4)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "'temperature' of SelfGenerated must be a number from 0 on; got -1"),
        ({"temperature": float("nan")}, "'temperature' .* got nan"),
        ({"first_temperature": float("inf")}, "'first_temperature' .* got inf"),
        ({"warming": 0}, "'warming' of SelfGenerated must be at least 1; got 0"),
        ({"top_k": 0}, "'top_k' of SelfGenerated must be at least 1; got 0"),
        ({"batch_rows": 0}, "'batch_rows' of SelfGenerated must be at least 1; got 0"),
        ({"top_p": 0}, "'top_p' of SelfGenerated must be above 0 and at most 1; got 0"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        SelfGenerated(**options)


def test_a_start_needs_a_tokenizer_tokens_and_room() -> None:
    with pytest.raises(CalibrationError, match="'start' of self-generated text is text, and needs a tokenizer"):
        SelfGenerated(start="once").write(MODEL, None, rows=1, seqlen=8)
    with pytest.raises(CalibrationError, match=r"has no tokens: ''\. Leave it out"):
        SelfGenerated(start="").write(MODEL, TOKENIZER, rows=1, seqlen=8)
    with pytest.raises(CalibrationError, match="A start of 4 tokens leaves no room in rows of 4"):
        SelfGenerated(start="once").write(MODEL, TOKENIZER, rows=1, seqlen=4)


def test_a_model_that_knows_no_start_is_told_how_to_get_one() -> None:
    model = tiny_model(bos_token_id=None, eos_token_id=None)
    with pytest.raises(
        CalibrationError, match=r"no token that begins or ends a text\. .*SelfGenerated\(start='Once'\)"
    ):
        SelfGenerated().write(model, None, rows=1, seqlen=4)


def test_rows_longer_than_the_table_of_positions_are_refused() -> None:
    with pytest.raises(CalibrationError, match="too long: this gpt2 model has 16 positions"):
        SelfGenerated().write(tiny_model("gpt2", n_positions=16), None, rows=1, seqlen=17)


def test_a_calibration_that_the_model_writes_needs_the_model() -> None:
    with pytest.raises(CalibrationError, match=r"written by the model: give it, tokenize\(tokenizer, model\)"):
        Calibration(source="self").tokenize(TOKENIZER)


def test_a_template_and_self_generated_text_do_not_go_together() -> None:
    with pytest.raises(InvalidConfig, match="'chat_template' of Calibration is for text that is given"):
        Calibration(source="self", chat_template=True)


@pytest.mark.parametrize("source", ["self", SelfGenerated()])
def test_a_calibration_has_the_rows_that_are_asked_for(source: object) -> None:
    calibration = Calibration(source=source, samples=5, seqlen=9, seed=3)
    assert torch.equal(calibration.tokenize(TOKENIZER, MODEL).ids, written(rows=5, seqlen=9, seed=3))
    assert torch.equal(calibration.tokenize(None, lambda: MODEL).ids, written(rows=5, seqlen=9, seed=3))


class Listening:
    """Keeps the news of a run."""

    def __init__(self) -> None:
        self.news: list[tuple[int, int | None]] = []

    @hookimpl
    def billhook_on_progress(self, stage: str, done: int, total: int | None) -> None:
        if stage == STAGE:
            self.news.append((done, total))


def test_a_plan_says_how_the_model_wrote_and_the_model_writes_it_again() -> None:
    model, heard = tiny_model(num_hidden_layers=4), Listening()
    calibration = Calibration(source=SelfGenerated(temperature=0.7, top_k=9, batch_rows=4), samples=6, seqlen=10)
    result = Pruner.following("replaceme-ls", hooks=[heard]).prune(
        model, TOKENIZER, calibration=calibration, budget=Budget(layers=1)
    )
    (part,) = result.plan.calibration.parts
    assert (part.source, part.rows, part.options["temperature"], part.options["top_k"]) == ("self", 6, 0.7, 9)
    assert apply(type(result.plan).from_json(result.plan.to_json()), model, TOKENIZER).plan == result.plan
    assert heard.news[0] == (8, 60)
    assert heard.news[-1] == (60, 60)
    assert [done for done, _ in heard.news] == sorted(done for done, _ in heard.news)


def test_a_chat_begins_as_the_tokenizers_template_has_it() -> None:
    tokenizer = tiny_tokenizer()
    templated = str(tokenizer.apply_chat_template([{"role": "user", "content": "xyz"}], tokenize=False))
    begun = tokenizer(templated.partition("xyz")[0], add_special_tokens=False)["input_ids"]
    tokens = Calibration(source="self:chat", samples=2, seqlen=24).tokenize(tokenizer, tiny_model())
    assert tokens.ids[:, : len(begun)].tolist() == [begun, begun]
    assert tokens.parts[0].options["chat"] is True


def test_without_a_chat_template_no_chat_can_begin() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(CalibrationError, match=r"no chat template, so no chat can begin by it: leave out chat=True"):
        SelfGenerated(chat=True).write(tiny_model(), tokenizer, rows=1, seqlen=24)


def test_a_chat_template_that_leaves_out_the_user_begins_none() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "nothing"
    with pytest.raises(CalibrationError, match=r"does not say how a chat begins"):
        SelfGenerated(chat=True).write(tiny_model(), tokenizer, rows=1, seqlen=24)


def test_rows_begin_in_one_way_only() -> None:
    with pytest.raises(InvalidConfig, match=r"'chat' of SelfGenerated .* and so does its 'start'"):
        SelfGenerated(chat=True, start="x")
