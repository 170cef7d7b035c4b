"""Consoles whose own colours are the only control sequences that reach the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from billhook.foreign_text import harmless


class SafeConsole(Console):
    """Prints any text as text: no markup, and control characters written out."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Everything printed passes here; what rich itself adds for the terminal is told apart as control."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text, lines=True), segment.style)
