"""GPT-2's own traps."""

from __future__ import annotations

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from billhook import Budget, Pruner
from billhook.errors import UnsupportedArchitecture
from billhook.model.writer import weight_rows
from billhook.testing import tiny_model, tiny_tokens, tiny_view


def test_attention_scaled_by_the_layers_number_is_refused() -> None:
    model = tiny_model("gpt2", scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(UnsupportedArchitecture, match=r"scale_attn_by_inverse_layer_idx=True: .*renumbered layers"):
        Pruner.following("replaceme-ls").prune(model, calibration=tiny_tokens(), budget=Budget(layers=1))


def test_cross_attention_is_refused() -> None:
    model = tiny_model("gpt2", add_cross_attention=True)
    with pytest.raises(UnsupportedArchitecture, match=r"add_cross_attention=True: .*only decoder-only models"):
        Pruner.following("replaceme-ls").prune(model, calibration=tiny_tokens(), budget=Budget(layers=1))


def test_the_writer_is_stored_transposed_and_read_the_right_way() -> None:
    writer = tiny_view("gpt2").writer(0, "mlp")
    assert isinstance(writer, Conv1D)
    x = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(writer(x) - writer.bias, x @ weight_rows(writer))
