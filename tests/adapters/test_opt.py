"""OPT's own traps."""

from __future__ import annotations

import pytest

from billhook import Budget, Pruner
from billhook.errors import UnsupportedArchitecture
from billhook.testing import tiny_model, tiny_tokens


def test_a_norm_after_the_residual_addition_is_refused() -> None:
    model = tiny_model("opt", do_layer_norm_before=False)
    with pytest.raises(UnsupportedArchitecture, match=r"do_layer_norm_before=False: .*OPT-350m"):
        Pruner.following("replaceme-ls").prune(model, calibration=tiny_tokens(), budget=Budget(layers=1))
