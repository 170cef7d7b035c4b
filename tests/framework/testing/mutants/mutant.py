"""Mutant: something wrong that a suite of the test kit must catch, by the law that it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from billhook.testing import BrokenLaw

EVERY = 15
"""Of so many mutants one is tried in the normal run, all of them with ``-m mutants``."""


@attrs.frozen(eq=False)
class Mutant:
    """One wrong thing.

    Attributes:
        name: what is wrong with it, in words.
        make: builds it.
        law: the law that must catch it; several with ``|`` between them where either may be the first to.
        says: a piece of the message, a regular expression.
        told: what the suite is told about it.
    """

    name: str
    make: Callable[[], Any]
    law: str
    says: str
    told: Mapping[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.name


def sampled(mutants: list[Mutant]) -> list[Any]:
    """Parameters for a test of each: all but some are only tried when they are asked for."""
    return [
        pytest.param(mutant, id=mutant.name, marks=() if number % EVERY == 0 else pytest.mark.mutants)
        for number, mutant in enumerate(mutants)
    ]


def require_caught(mutant: Mutant, check: Callable[..., None]) -> None:
    """The suite raises, by the law that is named, and says what is wrong."""
    with pytest.raises(BrokenLaw, match=mutant.says) as caught:
        check(mutant.make(), **mutant.told)
    assert caught.value.law in mutant.law.split("|"), str(caught.value)
    assert "breaks its contract: " in str(caught.value)
    assert f"(law {caught.value.law!r}: " in str(caught.value)
