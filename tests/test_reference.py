"""The API reference agrees with the docstrings."""

from __future__ import annotations

from docs import build_reference


def test_the_api_reference_is_what_the_docstrings_give() -> None:
    assert not build_reference.out_of_date()
