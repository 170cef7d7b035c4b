"""Cut: every kind is known by its name."""

from __future__ import annotations

from collections.abc import Iterator

from billhook.cut import Cut
from billhook.cut_kinds import CUT_KINDS


def kinds_of(cls: type[Cut]) -> Iterator[type[Cut]]:
    """Subclasses that have none of their own."""
    for sub in cls.__subclasses__():
        yield from kinds_of(sub) if sub.__subclasses__() else [sub]


def test_every_kind_of_cut_has_its_name_in_the_plan_files() -> None:
    # by name: attrs replaces a class by one with slots, and the first one stays around for a while
    assert {cls.__qualname__ for cls in CUT_KINDS.values()} == {cls.__qualname__ for cls in kinds_of(Cut)}
    assert all(kind == cls.kind for kind, cls in CUT_KINDS.items())


def test_only_whole_layers_leave_the_others_alike() -> None:
    assert [kind for kind, cls in CUT_KINDS.items() if cls.uniform] == ["drop-layers"]
