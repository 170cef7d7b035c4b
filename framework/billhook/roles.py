"""The strategy roles, and how a strategy turns into data and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import attrs
import cattrs

from billhook.errors import BillhookError, InvalidConfig, did_you_mean, listing
from billhook.estimator import Estimator
from billhook.merger import Merger
from billhook.objective import Objective
from billhook.selector import Selector

Role = Literal["selector", "estimator", "merger", "objective"]
Strategy = Selector | Estimator | Merger | Objective


@attrs.frozen
class RoleInfo:
    """A role's abstract class, and the hook that offers implementations of it."""

    hook: str
    base: type[Any]


ROLES: dict[Role, RoleInfo] = {
    "selector": RoleInfo("billhook_register_selectors", Selector),
    "estimator": RoleInfo("billhook_register_estimators", Estimator),
    "merger": RoleInfo("billhook_register_mergers", Merger),
    "objective": RoleInfo("billhook_register_objectives", Objective),
}

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


def options_of(strategy: Strategy) -> dict[str, Any]:
    """The options of an attrs strategy that differ from their defaults, as JSON values; empty for other classes."""
    options: dict[str, Any] = {}
    for field in getattr(type(strategy), "__attrs_attrs__", ()):
        value = getattr(strategy, field.name)
        if field.init and value != field.default:
            options[field.alias or field.name] = _json_value(value)
    return options


def build(factory: Callable[..., Strategy], options: Mapping[str, Any], what: str) -> Strategy:
    """Call ``factory`` with options that may be JSON values; ``what`` names it in errors.

    Raises:
        InvalidConfig: an option is unknown or has a value of the wrong type.
    """
    try:
        if isinstance(factory, type) and attrs.has(factory):
            known = [field.alias or field.name for field in attrs.fields(factory) if field.init]
            if unknown := [name for name in options if name not in known]:
                raise InvalidConfig(
                    f"The {what} has no option {unknown[0]!r}.{did_you_mean(unknown[0], known)} "
                    f"Options: {listing(known)}."
                )
            return cast(Strategy, _CONVERTER.structure(dict(options), factory))
        return factory(**options)
    except BillhookError:
        raise
    except cattrs.BaseValidationError as error:
        deliberate = next((e for e in _leaves(error) if isinstance(e, BillhookError)), None)
        if deliberate is not None:
            raise deliberate from error
        raise InvalidConfig(f"The {what} got a wrong option: {'; '.join(cattrs.transform_error(error))}.") from error
    except (TypeError, ValueError) as error:
        raise InvalidConfig(f"The {what} got wrong options: {error}") from error


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _json_value(value: object) -> Any:
    plain = _CONVERTER.unstructure(value)
    return list(plain) if isinstance(plain, tuple) else plain
