"""A cut as JSON values, with its kind."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook import DropBranch, DropLayers, KeepChannels, KeepHeads
from billhook.cuts.kinds import cut_from_data, cut_to_data


@given(start=st.integers(0, 50), length=st.integers(1, 50))
def test_a_cut_survives_its_data_form(start: int, length: int) -> None:
    cut = DropLayers(start, start + length)
    assert cut_from_data(json.loads(json.dumps(cut_to_data(cut)))) == cut


def test_kept_units_are_written_as_runs() -> None:
    cut = KeepChannels(3, (0, 1, 2, 3, 4, 7, 9, 10, 11))
    assert cut_to_data(cut) == {"kind": "keep-channels", "layer": 3, "kept": "0:5 7 9:12"}


@pytest.mark.parametrize("kept", ["0:5 7 9:12", [0, 1, 2, 3, 4, 7, 9, 10, 11]])
def test_kept_units_are_read_from_runs_and_from_a_plain_list(kept: object) -> None:
    cut = cut_from_data({"kind": "keep-heads", "layer": 3, "kept": kept})
    assert cut == KeepHeads(3, (0, 1, 2, 3, 4, 7, 9, 10, 11))


def test_a_branch_is_written_by_its_name() -> None:
    data = {"kind": "drop-branch", "layer": 3, "branch": "mlp"}
    assert cut_to_data(DropBranch(3, "mlp")) == data
    assert cut_from_data(data) == DropBranch(3, "mlp")
