"""Falcon: tuples, parallel branches, and an addition in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from billhook import Budget, Pruner
from billhook.activations.runner import Runner
from billhook.testing import tiny_model, tiny_tokens, tiny_view


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


OLDER: dict[str, Any] = {"new_decoder_architecture": False, "num_kv_heads": None}
"""As falcon-7b and falcon-rw have it: the config counts key-value heads that no module has."""


def test_the_older_architecture_is_saved_when_layers_differ(tmp_path: Path) -> None:
    """Its one key-value head stands in no config: only what a cut has changed is set when a checkpoint is read."""
    model = tiny_model("falcon", multi_query=True, bias=False, **OLDER)
    result = Pruner(selector="block-pruner", estimator="identity", objective="perplexity").prune(
        model, calibration=tiny_tokens(rows=8), budget=Budget(parameters=0.05)
    )
    result.save(tmp_path / "out")
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.config.model_type == "billhook"
    attentions = [layer.self_attention for layer in loaded.transformer.h]
    assert {attention.num_kv_heads for attention in attentions if hasattr(attention, "num_kv_heads")} == {1}


def test_alibi_is_saved_although_no_static_cache_works_with_it(tmp_path: Path, logged: list[str]) -> None:
    """The dense model of transformers fails with one as well, though its class says that it can be compiled."""
    model = tiny_model("falcon", multi_query=False, parallel_attn=False, alibi=True, **OLDER)
    result = Pruner(selector="cosine", estimator="identity").prune(
        model, calibration=tiny_tokens(rows=8), budget=Budget(layers=1)
    )
    result.save(tmp_path / "out")
    assert any("cannot generate with a static cache (RuntimeError: " in line for line in logged)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.num_hidden_layers == 3
