"""What ``--uniform`` and ``--race`` mean for a selector. Imports torch, so commands import this when they run."""

from __future__ import annotations

from typing import Any, cast

import attrs

from billhook.errors import InvalidConfig
from billhook.roles.selector import Selector
from billhook.search.race import Race


def uniform(selector: Selector) -> Selector:
    """``selector`` with its option ``uniform`` set; as it is if it cuts whole layers only.

    Raises:
        InvalidConfig: it makes layers differ and has no such option.
    """
    if "uniform" in _options(selector):
        return cast(Selector, attrs.evolve(cast(Any, selector), uniform=True))
    kinds = [kind.kind for kind in selector.kinds() if not kind.uniform]
    if kinds:
        raise InvalidConfig(
            f"With --uniform all layers stay alike, but {selector!r} makes them differ ({', '.join(kinds)}) and has no "
            f"option 'uniform'. Use one that has it, such as multi-pruner, or --pad for a stock checkpoint with zeros."
        )
    return selector


def racing(selector: Selector) -> Selector:
    """``selector`` with a :class:`billhook.Race`, unless it has one already.

    Raises:
        InvalidConfig: it has no option for it.
    """
    if "race" not in _options(selector):
        raise InvalidConfig(
            f"With --race a search is quicker, but {selector!r} has no option 'race'. Leave it out, or use a selector "
            f"that has it, such as block-pruner."
        )
    given = cast(Any, selector)
    return selector if given.race is not None else cast(Selector, attrs.evolve(given, race=Race()))


def _options(selector: Selector) -> list[str]:
    """Names of its options; none for a class that is not an attrs one."""
    return [field.alias or field.name for field in getattr(type(selector), "__attrs_attrs__", ())]
