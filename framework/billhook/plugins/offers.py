"""Offers: what distributions offer under a name, and which of them somebody means who says it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from billhook.errors import AmbiguousStrategy, PluginError, UnknownStrategy
from billhook.plugins.origin import THIS_PROGRAM
from billhook.plugins.plugin_file import SUFFIX, is_reference
from billhook.plugins.plugin_info import PluginInfo
from billhook.roles.role import ROLES

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


def why_missing(what: str, name: str, plugins: Sequence[PluginInfo]) -> str:
    """Where a name would come from that nobody offers, and how to have it, as sentences; empty if nothing is known."""
    distribution = name.rpartition(":")[0]
    mine = [
        info for info in plugins if distribution in ("", info.distribution) and info.status in ("failed", "blocked")
    ]
    if distribution == THIS_PROGRAM:
        return "It was offered by an object of a program: hand that over with hooks=[...]."
    if is_reference(name):
        option = f"--{what} {name}" if what in ROLES else name
        return f"It is a class that nobody offers by name; whoever trusts it names it: {option}."
    if distribution.endswith(SUFFIX):
        return f"It is of a file: give that with --plugin {distribution}, in Python with Registry.with_files."
    if mine:
        return " ".join(f"The plugin {info.qualified} is {info.status}: {info.reason.rstrip('.')}." for info in mine)
    if distribution and all(info.distribution != distribution for info in plugins):
        return f"The distribution {distribution} is not installed, or brings no plugins."
    return ""
