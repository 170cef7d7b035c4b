"""How long rows may be."""

from __future__ import annotations

import pytest

from billhook.errors import CalibrationError
from billhook.model.positions import refuse_long_rows
from billhook.testing import tiny_model, tiny_tokens


@pytest.mark.parametrize("model_type", ["gpt2", "opt"])
def test_rows_may_be_as_long_as_the_table_of_positions_and_no_longer(model_type: str) -> None:
    model = tiny_model(model_type)
    refuse_long_rows(model, 64)
    model(input_ids=tiny_tokens(1, 64).ids)  # the limit is the true one
    with pytest.raises(CalibrationError, match=rf"Rows of 65 tokens are too long: this {model_type} model has 64 pos"):
        refuse_long_rows(model, 65)


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "falcon"])
def test_computed_positions_have_no_end(model_type: str) -> None:
    model = tiny_model(model_type)
    refuse_long_rows(model, 100)
    model(input_ids=tiny_tokens(1, 100).ids)
