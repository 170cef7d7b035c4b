"""The logger of the framework: whatever sink a message goes to, a terminal or a file, its text is harmless there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loguru import logger as _everybodys

from billhook.foreign_text import harmless

if TYPE_CHECKING:
    from loguru import Record


def _clean(record: Record) -> None:
    record["message"] = harmless(record["message"], lines=True)


logger = _everybodys.patch(_clean)
