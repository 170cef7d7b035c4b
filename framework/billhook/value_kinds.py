"""Values of the kind that their annotations say: one check for all classes of options."""

from __future__ import annotations

import functools
import inspect
import numbers
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

import attrs

from billhook.errors import InvalidConfig

ELSEWHERE: Mapping[str, bool] = {"billhook_kind": False}
"""Metadata of a field whose kind is checked by whoever uses it."""

NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "text", NoneType: "None"}
"""What the kinds are called in messages."""


def typed(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """A ``field_transformer`` for options: a value of another kind than its annotation says is refused at once.

    ``@attrs.frozen(kw_only=True, field_transformer=typed)``. Numbers of numpy count as numbers, True and False do not;
    a list may stand where a tuple is meant. What the annotation says about values of outside classes, and which words
    a ``Literal`` has, is left to the class.

    Raises:
        InvalidConfig: when an object is made; names class, option, kind and value.
    """
    return [
        field if field.metadata.get("billhook_kind") is False else field.evolve(validator=_with(field.validator))
        for field in fields
    ]


def _with(validator: Callable[..., Any] | None) -> Callable[..., Any]:
    return _refuse_other_kinds if validator is None else attrs.validators.and_(_refuse_other_kinds, validator)


def _refuse_other_kinds(instance: object, field: attrs.Attribute[Any], value: object) -> None:
    kind = _kinds(cast("Hashable", type(instance))).get(field.name, Any)
    refuse_other_kind(value, kind, f"The {field.alias or field.name!r} of {type(instance).__name__}")


def refuse_other_kind(value: object, kind: Any, what: str) -> None:
    """Raise :class:`InvalidConfig` unless ``value`` is what the annotation ``kind`` says; ``what`` names it."""
    if not fits(value, kind):
        raise InvalidConfig(f"{what} must be {described(kind)}; got {shown(value)}.")


def shown(value: object, limit: int = 100) -> str:
    """A value for a message: short, whatever it is; numbers of thousands of digits have no text in Python."""
    try:
        text = repr(value)
    except Exception:  # somebody else's
        text = f"a {type(value).__name__} that has no text"
    return text if len(text) <= limit else f"{text[:limit]}…"


@functools.cache
def _kinds(cls: Hashable) -> dict[str, Any]:
    """The annotations of the class as objects; those that name what is not loaded are left out."""
    kinds: dict[str, Any] = {}
    for base in reversed(cast("type", cls).__mro__):
        names = {**vars(sys.modules[base.__module__]), **vars(base)} if base.__module__ in sys.modules else {}
        for name, said in inspect.get_annotations(base).items():
            try:
                kinds[name] = eval(said, names) if isinstance(said, str) else said
            except (NameError, AttributeError, TypeError):
                kinds.pop(name, None)
    return kinds


def fits(value: object, kind: Any) -> bool:
    """Whether ``value`` is what an annotation says; True where it says something that is not known here."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is None or kind is NoneType:
        return value is None
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) or value in parts
    if origin is tuple:
        return isinstance(value, tuple | list) and _fit_in(value, parts)
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return isinstance(value, origin) and not isinstance(value, str)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    return isinstance(value, kind) if isinstance(kind, type) and kind is not Any else True


def _fit_in(values: Sequence[object], parts: tuple[Any, ...]) -> bool:
    if len(parts) == 2 and parts[1] is ...:
        return all(fits(value, parts[0]) for value in values)
    return len(values) == len(parts) and all(map(fits, values, parts))


def described(kind: Any) -> str:
    """A kind in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(described(part) for part in parts))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple:
        return "a tuple of " + (described(parts[0]) if parts[-1] is ... else ", ".join(map(described, parts)))
    if isinstance(origin, type):
        return f"a {origin.__name__.lower()}"
    return NAMES.get(kind) or (f"a {kind.__name__}" if isinstance(kind, type) else str(kind))
