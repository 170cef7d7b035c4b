"""Values to JSON and back, strictly: what does not fit is refused with its reason, never bent."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

import attrs
import cattrs

from billhook.errors import BillhookError, InvalidConfig, did_you_mean, listing
from billhook.foreign_text import shortened

Made = TypeVar("Made")


def strict_converter() -> cattrs.Converter:
    """Refuses unknown keys, and values that fit only by losing something: 2.7 for an int, ``"no"`` for a bool."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(int, lambda value, _: _whole(value))
    converter.register_structure_hook(bool, lambda value, _: _truth(value))
    converter.register_structure_hook(float, lambda value, _: _number(value))
    converter.register_structure_hook(str, lambda value, _: _text(value))
    converter.register_structure_hook_func(_is_number_or_word, _number_or_word)
    return converter


def _is_number_or_word(kind: object) -> bool:
    """Whether it is ``float | Literal["auto"]`` or the like."""
    return get_origin(kind) in (Union, UnionType) and {get_origin(part) or part for part in get_args(kind)} == {
        float,
        Literal,
    }


def _number_or_word(value: Any, kind: object) -> float | str:
    words = [word for part in get_args(kind) if part is not float for word in get_args(part)]
    if isinstance(value, str):
        if value not in words:
            raise ValueError(f"{value!r} is neither a number nor {' or '.join(map(repr, words))}")
        return value
    return _number(value)


_LITERAL = re.compile(r"(.*) not in literal typing\.Literal\[(.*)\]", re.DOTALL)
"""What cattrs says of a word that is none of the choices."""


def explain(error: cattrs.BaseValidationError) -> str:
    """What is wrong, and where, in one line; the texts of our own errors as they are."""
    return "; ".join(text.removesuffix(" @ $") for text in cattrs.transform_error(error, format_exception=_reason))


def _whole(value: Any) -> int:
    # by length first: Python takes its time over thousands of digits, or refuses them
    short = not isinstance(value, str) or (len(value) <= 20 and value.isascii())
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not short:
        raise ValueError(f"{_brief(value)} is not a whole number")
    number = int(value)
    if isinstance(value, float) and (value != number or abs(value) > 2**53):
        raise ValueError(f"{value!r} is not a whole number")
    return number


def _number(value: Any) -> float:
    """Of a number, or of a text that is one: ``"inf"`` is how plans write what JSON has no word for."""
    short = not isinstance(value, str) or (len(value) <= 40 and value.isascii())
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not short:
        raise ValueError(f"{_brief(value)} is no number")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{_brief(value)} is no text")
    return value


def _brief(value: object) -> str:
    """For messages. What is deep or long is told by its type: its repr could fill the memory, or recurse too far."""
    if isinstance(value, str | int | float):
        return shortened(repr(value), 80)
    return f"a {type(value).__name__}"


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _reason(error: BaseException, kind: type | None) -> str:
    if isinstance(error, BillhookError):
        return str(error).removesuffix(".")
    if literal := _LITERAL.fullmatch(str(error)):
        return f"{literal[1]!r} is none of {literal[2].replace(chr(39), '')}"
    if isinstance(error, AttributeError):  # cattrs asks whatever is given for its keys
        return "an object with fields was expected"
    text = cattrs.v.format_exception(error, kind)
    return str(error) if text.startswith("unknown error") else text.replace(" for type", "")


_PLAIN = strict_converter()


def build(
    factory: Callable[..., Made], options: Mapping[str, Any], what: str, converter: cattrs.Converter = _PLAIN
) -> Made:
    """Call ``factory`` with options that may be JSON values.

    Args:
        factory: an attrs class, or another callable.
        options: by name; lists stand for tuples, dictionaries for nested values.
        what: names the result in errors.
        converter: for values of kinds that plain JSON has no word for.

    Raises:
        InvalidConfig: an option is unknown or has a value of the wrong type.
    """
    try:
        if isinstance(factory, type) and attrs.has(factory):
            return cast(Made, converter.structure(_by_field(options, factory, what), factory))
        if isinstance(factory, functools.partial) and isinstance(factory.func, type) and attrs.has(factory.func):
            _by_field(options, factory.func, what)
        return factory(**options)
    except BillhookError:
        raise
    except cattrs.BaseValidationError as error:
        deliberate = next((e for e in _leaves(error) if isinstance(e, BillhookError)), None)
        if deliberate is not None:
            raise deliberate from error
        raise InvalidConfig(f"The {what} got a wrong option: {explain(error)}.") from error
    except (TypeError, ValueError) as error:
        raise InvalidConfig(f"The {what} got wrong options: {error}") from error


def _by_field(options: Mapping[str, Any], cls: type[Any], what: str) -> dict[str, Any]:
    """The options by the names of their attributes, which have an underscore where they are private."""
    known = {field.alias or field.name: field.name for field in attrs.fields(cls) if field.init}
    if unknown := [name for name in options if name not in known]:
        raise InvalidConfig(
            f"The {what} has no option {unknown[0]!r}.{did_you_mean(unknown[0], known)} Options: {listing(known)}."
        )
    return {known[name]: value for name, value in options.items()}


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
