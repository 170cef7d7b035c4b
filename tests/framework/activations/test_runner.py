"""Runner: layers run one at a time compute what the full forward computes, for every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.families import by_name
from tests.framework.activations.naive import forward

from billhook import Adapter
from billhook.activations.runner import Runner
from billhook.errors import CalibrationError, UnsupportedArchitecture
from billhook.model.branch import Branch
from billhook.testing import tiny_tokens, tiny_view

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")


@pytest.mark.parametrize("padding", ["none", "left", "right"])
@by_name
def test_layer_by_layer_equals_the_full_forward(adapter: Adapter, padding: Any) -> None:
    view = tiny_view(adapter)
    (batch,) = tiny_tokens(3, 10, padding=padding).batches()
    expected, runner = forward(view, batch), Runner(view)
    opened = runner.open(batch)
    stream = opened.stream
    for number in view.numbers:
        stream = runner.run(view, number, opened, stream)
        assert stream[batch.keep].equal(expected.streams[number + 1][batch.keep])
    # rows of one token go through other kernels than rows of ten
    torch.testing.assert_close(runner.logits(stream[batch.keep]), expected.logits[batch.keep], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("branch", BRANCHES)
@by_name
def test_what_a_branch_wrote_is_recorded_with_its_scale(adapter: Adapter, branch: Branch) -> None:
    view = tiny_view(adapter)
    (batch,) = tiny_tokens(3, 10, padding="right").batches()
    expected, runner = forward(view, batch, branch), Runner(view)
    written = runner.run_recording(view, 1, branch, runner.open(batch), expected.streams[1])
    assert written.output.dtype == torch.float32
    torch.testing.assert_close(written.output[batch.keep], expected.written[1][batch.keep])
    assert written.leaving[batch.keep].equal(expected.streams[2][batch.keep])


@by_name
def test_both_branches_together_are_what_a_layer_adds(adapter: Adapter) -> None:
    view = tiny_view(adapter)
    (batch,) = tiny_tokens(2, 8).batches()
    runner = Runner(view)
    opened = runner.open(batch)
    added = [runner.run_recording(view, 0, branch, opened, opened.stream) for branch in BRANCHES]
    leaving = opened.stream + added[0].output + added[1].output
    torch.testing.assert_close(leaving, added[0].leaving, rtol=1e-5, atol=1e-4)  # float32 sums in another order


def test_layers_of_a_cut_model_run_with_their_original_numbers() -> None:
    view = tiny_view()
    cut = view.copy()
    cut.drop_layers([1])
    (batch,) = tiny_tokens(3, 10).batches()
    runner = Runner(view)
    opened = runner.open(batch)
    stream = opened.stream
    for number in cut.numbers:
        stream = runner.run(cut, number, opened, stream)
    assert stream.equal(forward(cut, batch).streams[-1])


def test_hooks_are_gone_after_recording() -> None:
    view = tiny_view()
    runner = Runner(view)
    (batch,) = tiny_tokens(1, 4).batches()
    opened = runner.open(batch)
    runner.run_recording(view, 0, "mlp", opened, opened.stream)
    assert not any(module._forward_hooks for module in view.model.modules())


def test_hooks_are_gone_after_an_error() -> None:
    view = tiny_view()
    runner = Runner(view)
    (batch,) = tiny_tokens(1, 4).batches()
    opened = runner.open(batch)
    with pytest.raises(RuntimeError):
        runner.run_recording(view, 0, "mlp", opened, torch.zeros(1, 4, 3))
    assert not any(module._forward_hooks for module in view.model.modules())


def test_the_dense_model_keeps_its_layers_and_gets_no_gradient() -> None:
    view = tiny_view()
    layers = list(view.layers)
    runner = Runner(view)
    (batch,) = tiny_tokens(1, 4).batches()
    opened = runner.open(batch)
    assert not runner.run(view, 0, opened, opened.stream).requires_grad
    assert list(view.layers) == layers


def test_more_tokens_than_positions_can_be_turned_to_logits_at_once() -> None:
    view = tiny_view("gpt2")  # learned positions: 64 of them
    logits = Runner(view).logits(torch.zeros(100, view.d_model))
    assert logits.shape == (100, view.model.config.vocab_size)


def test_a_model_that_does_not_call_all_its_layers_is_refused() -> None:
    view = tiny_view()
    view.model.config.num_hidden_layers = 2  # of four: transformers then runs the first two
    (batch,) = tiny_tokens(1, 4).batches()
    with pytest.raises(UnsupportedArchitecture, match="LlamaForCausalLM does not hand each layer the stream"):
        Runner(view).open(batch)


def test_rows_longer_than_the_model_takes_are_refused() -> None:
    (batch,) = tiny_tokens(1, 65).batches()
    with pytest.raises(CalibrationError, match="Rows of 65 tokens are too long"):
        Runner(tiny_view("gpt2")).open(batch)
