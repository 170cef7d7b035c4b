"""evaluate: perplexity equals one computed plainly, on the last tokens of the text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from billhook import Budget, Pruner, evaluate
from billhook.data.calibration import tokenize_whole
from billhook.errors import CalibrationError, InvalidConfig, NotFinite
from billhook.evaluation.loss import loss_tokens, summed_loss
from billhook.evaluation.perplexity import held_out
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens

MODEL = tiny_model()
TOKENIZER = tiny_tokenizer()
TEXT = ["the quick brown fox jumps over the lazy dog. ", "pack my box with five dozen liquor jugs. "] * 4
IDS = tokenize_whole("\n\n".join(TEXT), TOKENIZER)


@torch.no_grad()
def plain_perplexity(model: PreTrainedModel, rows: torch.Tensor) -> float:
    """transformers' own forward, log-softmax in float64, all at once."""
    scores = model(input_ids=rows, use_cache=False).logits[:, :-1].double()
    losses = -scores.log_softmax(-1).gather(-1, rows[:, 1:, None])
    return math.exp(float(losses.mean()))


@given(seqlen=st.integers(2, 64), tokens=st.integers(64, 500))
def test_it_is_that_of_the_last_whole_rows(seqlen: int, tokens: int) -> None:
    count = min(tokens, len(IDS)) // seqlen
    found = evaluate(MODEL, TOKENIZER, TEXT, seqlen=seqlen, tokens=tokens)
    expected = plain_perplexity(MODEL, IDS[-count * seqlen :].view(count, seqlen))
    assert found.perplexity == pytest.approx(expected, rel=1e-5)  # float32 losses of about 5 nats
    assert (found.rows, found.seqlen, found.token_count) == (count, seqlen, count * (seqlen - 1))


@pytest.mark.parametrize("model_type", ["gpt2", "falcon", "opt", "granite", "gemma3_text"])
def test_any_family_can_be_evaluated(model_type: str) -> None:
    model = tiny_model(model_type)
    expected = plain_perplexity(model, IDS[-320:].view(10, 32))
    assert evaluate(model, TOKENIZER, TEXT, seqlen=32, tokens=320).perplexity == pytest.approx(expected, rel=1e-5)


def test_a_pruned_model_can_be_evaluated() -> None:
    pruned = (
        Pruner.following("replaceme-ls").prune(MODEL, calibration=tiny_tokens(8, 12), budget=Budget(layers=1)).model
    )
    expected = plain_perplexity(pruned, IDS[-320:].view(10, 32))
    assert evaluate(pruned, TOKENIZER, TEXT, seqlen=32, tokens=320).perplexity == pytest.approx(expected, rel=1e-5)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    model = tiny_model(dtype=torch.bfloat16)
    expected = plain_perplexity(model, IDS[-320:].view(10, 32))
    # rows go through one by one, and bfloat16 kernels round by shape: about one part in 2⁸ of a logit, averaged
    assert evaluate(model, TOKENIZER, TEXT, seqlen=32, tokens=320).perplexity == pytest.approx(expected, rel=1e-2)


def test_the_loss_is_summed_in_pieces_without_a_seam() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2 * loss_tokens(torch.device("cpu")) + 7, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (len(logits),), generator=generator)
    expected = -logits.log_softmax(-1)[torch.arange(len(labels)), labels].sum()
    assert summed_loss(logits, labels) == pytest.approx(float(expected), rel=1e-6)


def test_the_default_text_is_the_evaluation_part_of_the_builtin_one() -> None:
    found = evaluate(MODEL, TOKENIZER, seqlen=32, tokens=320)
    assert found.source == "builtin:evaluation"
    assert found == evaluate(MODEL, TOKENIZER, "builtin:evaluation", seqlen=32, tokens=320)


def test_a_file_is_evaluated_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(TEXT))
    by_file = evaluate(MODEL, TOKENIZER, str(path), seqlen=32)
    assert by_file.perplexity == evaluate(MODEL, TOKENIZER, TEXT, seqlen=32).perplexity
    assert by_file.source == str(path)


def test_rows_that_are_held_out_beforehand_are_measured_as_they_are() -> None:
    rows = held_out(TEXT, TOKENIZER, seqlen=32, tokens=200)
    assert rows.ids.equal(IDS[-192:].view(6, 32))
    assert evaluate(MODEL, TOKENIZER, rows) == evaluate(MODEL, TOKENIZER, TEXT, seqlen=32, tokens=200)


def test_chats_are_read_as_their_contents() -> None:
    chat = [{"messages": [{"role": "user", "content": TEXT[0]}, {"role": "assistant", "content": TEXT[1]}]}]
    plain = evaluate(MODEL, TOKENIZER, [f"{TEXT[0]}\n{TEXT[1]}"], seqlen=16)
    assert evaluate(MODEL, TOKENIZER, chat, seqlen=16).perplexity == plain.perplexity


def test_dropout_is_off_and_every_module_is_left_in_its_mode() -> None:
    model = tiny_model("gpt2", resid_pdrop=0.5, embd_pdrop=0.5).train()
    model.get_submodule("transformer.h.1").eval()
    modes = [module.training for module in model.modules()]
    found = evaluate(model, TOKENIZER, TEXT, seqlen=32)
    assert [module.training for module in model.modules()] == modes
    assert found == evaluate(model.eval(), TOKENIZER, TEXT, seqlen=32)


def test_progress_counts_rows() -> None:
    seen: list[tuple[str, int, int | None]] = []
    evaluate(MODEL, TOKENIZER, TEXT, seqlen=64, tokens=192, progress=lambda *step: seen.append(step))
    assert seen == [("scoring", 1, 3), ("scoring", 2, 3), ("scoring", 3, 3)]


@pytest.mark.parametrize(("seqlen", "tokens", "count"), [(len(IDS) + 1, 65536, len(IDS)), (64, 63, 63)])
def test_a_text_that_does_not_fill_a_row_is_too_short(seqlen: int, tokens: int, count: int) -> None:
    with pytest.raises(CalibrationError, match=f"too short: {count} tokens do not fill one row of {seqlen}"):
        evaluate(MODEL, TOKENIZER, TEXT, seqlen=seqlen, tokens=tokens)


@pytest.mark.parametrize("seqlen", [1, 0, -3])
def test_rows_that_predict_nothing_are_refused(seqlen: int) -> None:
    with pytest.raises(InvalidConfig, match=f"'seqlen' of an evaluation must be at least 2; got {seqlen}"):
        evaluate(MODEL, TOKENIZER, TEXT, seqlen=seqlen)


def test_an_absurd_loss_is_infinite_rather_than_an_error() -> None:
    model = tiny_model()
    with torch.no_grad():
        head: Any = model.get_output_embeddings()
        head.weight.mul_(1e6)
    assert evaluate(model, TOKENIZER, TEXT, seqlen=32).perplexity == math.inf


def test_the_figures_are_flat_json_values() -> None:
    found = evaluate(MODEL, TOKENIZER, TEXT, seqlen=32)
    assert attrs.asdict(found)["perplexity"] == found.perplexity
    assert attrs.asdict(found)["parameters"] == MODEL.num_parameters()
    assert all(isinstance(value, str | int | float) for value in attrs.asdict(found).values())


def test_rows_longer_than_the_model_takes_are_refused() -> None:
    with pytest.raises(CalibrationError, match="Rows of 65 tokens are too long: this gpt2 model has 64 positions"):
        evaluate(tiny_model("gpt2"), TOKENIZER, TEXT, seqlen=65)


def test_a_model_whose_logits_are_not_finite_has_no_perplexity() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)  # type: ignore[operator] # typed as a module or tensor
    with pytest.raises(NotFinite, match=r"The logits are not finite: .* --dtype bfloat16"):
        evaluate(model, TOKENIZER, TEXT, seqlen=32)
