"""Every deliberate error is a BillhookError, and names are suggested and listed the same way everywhere."""

from __future__ import annotations

import inspect

import pytest

from billhook import errors
from billhook.errors import AmbiguousStrategy, BillhookError, UnknownStrategy, did_you_mean, listing

OURS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", [cls for cls in OURS if cls is not BillhookError])
def test_every_error_is_ours_and_also_a_builtin_one(cls: type[Exception]) -> None:
    assert issubclass(cls, BillhookError)
    # the builtin is what code that does not know billhook catches
    assert any(base.__module__ == "builtins" for base in set(cls.__mro__) - {Exception, BaseException, object})


def test_a_near_name_is_suggested() -> None:
    assert did_you_mean("rigde", ["ridge", "cosine"]) == " Did you mean 'ridge'?"


def test_nothing_is_suggested_when_no_name_is_near() -> None:
    assert did_you_mean("zzz", ["ridge", "cosine"]) == ""


def test_a_listing_is_in_order() -> None:
    assert listing({"b", "a", "c"}) == "a, b, c"


def test_a_listing_of_nothing_says_so() -> None:
    assert listing([]) == "none"


def test_an_unknown_strategy_is_named_with_the_nearest_and_all_known_ones() -> None:
    error = UnknownStrategy("estimator", "rigde", ["ridge", "cosine"])
    assert str(error) == "No estimator is named 'rigde'. Did you mean 'ridge'? Known: cosine, ridge."


def test_an_ambiguous_name_shows_both_ways_to_write_it() -> None:
    error = AmbiguousStrategy("merger", "fold", ["their-package", "billhook"])
    assert str(error) == (
        "The merger name 'fold' is offered by billhook, their-package. Write billhook:fold or their-package:fold."
    )
