"""Checks and settings that several commands share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.activations.activation_cache import CacheBudget
from billhook.cli import opening, saving
from billhook.cli.settings import parse_settings
from billhook.errors import InvalidConfig, OutputExists
from billhook.roles.role import ROLES

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
"""What is read as JSON: numbers of more than 64 bits are refused, and infinity is no number."""


@given(role=st.sampled_from(sorted(ROLES)), option=st.from_regex("[a-z_]+", fullmatch=True), value=SCALARS)
def test_a_setting_is_read_as_json(role: str, option: str, value: object) -> None:
    assert parse_settings([f"{role}.{option}={json.dumps(value)}"]) == {role: {option: value}}


def test_a_setting_that_is_no_json_is_text() -> None:
    assert parse_settings(["estimator.toward=zero"]) == {"estimator": {"toward": "zero"}}
    assert parse_settings(["estimator.note=a=b.c"]) == {"estimator": {"note": "a=b.c"}}


def test_settings_of_one_role_are_collected() -> None:
    given = ["selector.windows=2", "estimator.strength=0.5", "selector.touching=false"]
    assert parse_settings(given) == {
        "selector": {"windows": 2, "touching": False},
        "estimator": {"strength": 0.5},
    }


@pytest.mark.parametrize("wrong", ["", "selector", "selector.windows", "windows=2", "selector.=2", ".windows=2"])
def test_other_settings_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidConfig, match=r"A setting is ROLE.OPTION=VALUE|There is no role ''"):
        parse_settings([wrong])


def test_cached_activations_get_the_same_room_on_both_sides() -> None:
    assert opening.cache_budget(None) == CacheBudget()
    assert opening.cache_budget(3) == CacheBudget(device=3 * 2**20, host=3 * 2**20)


def test_a_free_output_folder_is_accepted_however_deep(tmp_path: Path) -> None:
    saving.check_output(tmp_path / "not" / "yet" / "there", False, "smollm2")
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_not_overwritten_by_its_own_pruned_version(checkpoint: Path) -> None:
    with pytest.raises(OutputExists, match="is the model itself"):
        saving.check_output(checkpoint, True, str(checkpoint))
