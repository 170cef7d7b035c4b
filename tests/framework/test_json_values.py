"""How a strategy turns into data and back, whatever kind of class it is."""

from __future__ import annotations

import functools
import json
import math
from typing import Any, Literal

import attrs
import pytest

from billhook import Estimator, LinearMap, Regression
from billhook.errors import BillhookError, InvalidConfig
from billhook.json_values import build
from billhook.plugins.registry import Registry

REGISTRY = Registry()


@attrs.frozen
class Inner:
    """A nested value."""

    depth: int = 1


@attrs.frozen(kw_only=True)
class Rich(Estimator):
    """An estimator with options of all kinds."""

    needed: int
    factor: float = 1.0
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    spans: tuple[tuple[int, int], ...] = ()
    inner: Inner = Inner()
    names: list[str] = attrs.field(factory=list)
    _hidden: int = 3
    derived: int = attrs.field(init=False, default=attrs.Factory(lambda self: 2 * self.needed, takes_self=True))

    def __attrs_post_init__(self) -> None:
        if self.factor < 0:
            raise InvalidConfig("The 'factor' of Rich must not be negative.")

    def estimate(self, regression: Regression) -> LinearMap | None:
        """Nothing."""
        return None


rich: Any = Rich
"""The class, for calls by the public name of its private option, which not every type checker knows."""


class Plain(Estimator):
    """An estimator that is no attrs class."""

    def __init__(self, factor: float = 1.0) -> None:
        if factor == 13:
            raise ValueError("unlucky")
        self.factor = factor

    def estimate(self, regression: Regression) -> LinearMap | None:
        """Nothing."""
        return None


DEFAULTS = {"factor": 1.0, "kind": "a", "flag": False, "spans": [], "inner": {"depth": 1}, "names": [], "hidden": 3}


def test_options_at_their_defaults_are_told_as_well_and_named() -> None:
    spec = REGISTRY.spec("estimator", Rich(needed=1))
    assert spec.options == {"needed": 1, **DEFAULTS}
    assert set(spec.defaults) == set(DEFAULTS)


def test_options_become_json_values() -> None:
    strategy = rich(needed=1, spans=((1, 2), (3, 4)), inner=Inner(depth=2), names=["x"], hidden=4)
    assert REGISTRY.options_of(strategy) == {
        **DEFAULTS,
        "needed": 1,
        "spans": [[1, 2], [3, 4]],
        "inner": {"depth": 2},
        "names": ["x"],
        "hidden": 4,
    }


@pytest.mark.parametrize("factor", [math.inf, -math.inf])
def test_numbers_that_json_has_no_word_for_come_back(factor: float) -> None:
    options = REGISTRY.options_of(rich(needed=1, names=[str(factor)], factor=abs(factor)))
    assert json.loads(json.dumps(options, allow_nan=False)) == options
    assert build(Rich, options, "thing").factor == math.inf


def test_an_option_that_no_json_can_hold_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="The option 'names' of Rich is a object, which no plan can hold"):
        REGISTRY.options_of(rich(needed=1, names=[object()]))


def test_options_of_a_class_that_nobody_offers_are_told_in_words_if_need_be() -> None:
    assert REGISTRY.spec("estimator", rich(needed=1, names={1j})).options["names"] == "{1j}"


@pytest.mark.parametrize(
    "strategy",
    [Rich(needed=1), rich(needed=2, factor=0.5, kind="b", flag=True, spans=((1, 2),), inner=Inner(depth=5), hidden=9)],
)
def test_what_was_turned_into_data_is_built_again(strategy: Rich) -> None:
    assert build(Rich, REGISTRY.options_of(strategy), "thing") == strategy


def test_any_callable_is_called_with_the_options() -> None:
    built = build(Plain, {"factor": 2.0}, "thing")
    assert isinstance(built, Plain)
    assert built.factor == 2.0


def test_a_preset_is_called_with_options_on_top() -> None:
    built = build(functools.partial(Rich, needed=1, kind="b"), {"flag": True}, "thing")
    assert built == Rich(needed=1, kind="b", flag=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"The thing got a wrong option: required field missing @ \$\.needed\."),
        ({"needed": 1, "fctor": 2}, r"The thing has no option 'fctor'. Did you mean 'factor'\? Options: factor, flag,"),
        ({"needed": 1, "derived": 2}, "has no option 'derived'"),
        ({"needed": "x"}, r"invalid value, expected int @ \$\.needed"),
        ({"needed": 1.5}, r"invalid value, expected int @ \$\.needed"),
        ({"needed": True}, r"invalid value, expected int @ \$\.needed"),
        ({"needed": 1, "flag": "no"}, r"expected bool @ \$\.flag"),
        ({"needed": 1, "kind": "c"}, r"'c' is none of .* @ \$\.kind"),
        ({"needed": 1, "inner": {"width": 2}}, r"extra fields found \(width\) @ \$\.inner"),
        ({"needed": 1, "inner": 5}, r"@ \$\.inner"),
        ({"needed": 1, "factor": -1}, r"^The 'factor' of Rich must not be negative\.$"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        build(Rich, options, "thing")


def test_a_whole_number_may_come_as_a_float_or_a_string() -> None:
    assert build(Rich, {"needed": 2.0}, "thing") == build(Rich, {"needed": "2"}, "thing") == Rich(needed=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fctor": 1}, "thing got wrong options: .*unexpected keyword argument 'fctor'"), ({"factor": 13}, "unlucky")],
)
def test_errors_of_other_factories_become_ours(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BillhookError, match=message):
        build(Plain, options, "thing")


def test_an_unknown_option_of_a_preset_is_suggested_too() -> None:
    with pytest.raises(InvalidConfig, match=r"has no option 'fctor'. Did you mean 'factor'\?"):
        build(functools.partial(Rich, needed=1), {"fctor": 1}, "thing")
