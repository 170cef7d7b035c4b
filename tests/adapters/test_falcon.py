"""Falcon: tuples, parallel branches, and an addition in place."""

from __future__ import annotations

import torch

from billhook.activations.runner import Runner
from billhook.testing import tiny_tokens, tiny_view


def test_the_recorded_output_is_a_copy_of_what_falcon_adds_to_in_place() -> None:
    view = tiny_view("falcon")
    runner = Runner(view)
    opened = runner.open(tiny_tokens().batches()[0])
    mlp = runner.run_recording(view, 0, "mlp", opened, opened.stream)
    attention = runner.run_recording(view, 0, "attention", opened, opened.stream)
    # float32 sums of three terms in another order
    torch.testing.assert_close(opened.stream + mlp.output + attention.output, mlp.leaving, rtol=1e-5, atol=1e-5)


def test_a_layer_returns_a_tuple_and_so_does_its_stand_in() -> None:
    view = tiny_view("falcon")
    opened = Runner(view).open(tiny_tokens().batches()[0])
    args, kwargs = opened.calls[0]
    assert isinstance(view.layer(0)(opened.stream, *args, **kwargs), tuple)
    assert isinstance(view.adapter.as_layer_output(opened.stream), tuple)
