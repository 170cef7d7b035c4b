"""What the class of a strategy must be like, so that it is refused where it is offered and not where it is used."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from billhook.roles.estimator import Needs
from billhook.roles.role import ROLES, Role

REGRESSORS = ("output", "inner")
"""What the maps of a merger are fitted on."""


def wrong_with(role: Role, cls: type[Any]) -> str | None:
    """Why ``cls`` cannot play ``role``, as a clause; empty if it can.

    It lacks a method, as classes written for another version do; a method of it cannot be called as billhook calls it;
    or what it declares is none of the choices.
    """
    base = ROLES[role].base
    article = "an" if role[0] in "aeiou" else "a"
    for name in sorted(base.__abstractmethods__):
        wanted = _call_of(getattr(base, name), name)
        if getattr(cls, name) is getattr(base, name) or name in getattr(cls, "__abstractmethods__", ()):
            others = [other for other in vars(cls) if not other.startswith("_") and callable(getattr(cls, other))]
            instead = f" (it has {', '.join(others)})" if others else ""
            return f"lacks the method {wanted} that {article} {role} has{instead}"
    for name, method in inspect.getmembers(base, inspect.isfunction):
        if name.startswith("_") or getattr(method, "__final__", False):
            continue
        if reason := _cannot_be_called(cls, name, method):
            return reason
    return _wrong_choice(role, cls)


def _call_of(method: Callable[..., Any], name: str) -> str:
    return f"{name}({', '.join(list(inspect.signature(method).parameters)[1:])})"


def _cannot_be_called(cls: type[Any], name: str, method: Callable[..., Any]) -> str:
    """Whether arguments would be missing or too many, as a clause."""
    theirs = inspect.getattr_static(cls, name)
    if theirs is method or not inspect.isfunction(theirs):
        return ""
    if inspect.iscoroutinefunction(theirs) or inspect.isasyncgenfunction(theirs):
        return f"has an async {name}, which nobody would await: write def in the place of async def"
    asked = list(inspect.signature(method).parameters)
    try:
        inspect.signature(theirs).bind(*asked)
    except TypeError as error:
        return (
            f"has a method {name}{inspect.signature(theirs)}, which billhook calls as {_call_of(method, name)} "
            f"({error}): give further parameters a default, or take them out"
        )
    return ""


def _wrong_choice(role: Role, cls: type[Any]) -> str:
    if role == "estimator" and not isinstance(cls.needs, Needs | property):
        return f"has needs = {cls.needs!r}, which is none of Needs.NOTHING, Needs.MOMENTS and Needs.ROWS"
    if role == "estimator" and not isinstance(cls.weighs_rows, bool | property):
        return f"has weighs_rows = {cls.weighs_rows!r}, which is neither True nor False"
    if role == "estimator" and not _are_regressors(cls.regressors):
        return (
            f"has regressors = {cls.regressors!r}, which is no tuple of {' and '.join(map(repr, REGRESSORS))}: write "
            f'("output",) for one'
        )
    if role == "merger" and not isinstance(cls.regressor, property) and cls.regressor not in REGRESSORS:
        return f"has regressor = {cls.regressor!r}, which is none of {' and '.join(map(repr, REGRESSORS))}"
    return ""


def _are_regressors(given: object) -> bool:
    if isinstance(given, property):
        return True
    return isinstance(given, tuple) and bool(given) and all(one in REGRESSORS for one in given)
