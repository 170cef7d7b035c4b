"""Offers: what distributions offer under a name, and which of them somebody means who says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from billhook.errors import AmbiguousStrategy, PluginError, UnknownStrategy

Offer = TypeVar("Offer")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def note(table: dict[str, dict[str, Offer]], what: str, name: object, distribution: str, offer: Offer) -> None:
    """Enter an offer by name and distribution, unless its name is none or taken."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{distribution} offers the {what} {name!r}. Names are lower-case words joined by '-'.")
    if distribution in table.setdefault(name, {}):
        raise PluginError(f"{distribution} offers two {what}s named {name!r}.")
    table[name][distribution] = offer


def pick(what: str, name: str, table: Mapping[str, Mapping[str, Offer]]) -> Offer:
    """The one offer called ``name`` or ``dist:name``."""
    distribution, _, short = name.rpartition(":")
    offers = table.get(short, {})
    if distribution:
        offers = {d: offer for d, offer in offers.items() if d == distribution}
    if not offers:
        qualified = [f"{d}:{n}" for n, by_distribution in table.items() for d in by_distribution]
        raise UnknownStrategy(what, name, qualified if distribution else list(table))
    if len(offers) > 1:
        raise AmbiguousStrategy(what, name, list(offers))
    return next(iter(offers.values()))
