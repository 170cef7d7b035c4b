"""Page: one file of the reference."""

from __future__ import annotations

import attrs
from docs.reference_builder.entry import Entry
from docs.reference_builder.prose import Links


@attrs.frozen(kw_only=True)
class Page:
    """Entries that belong together.

    Attributes:
        name: of the file, without its suffix.
        title: its heading, in Markdown.
        purpose: what the package is for, in one line; empty if the introduction says it.
        introduction: what stands before the entries, in Markdown.
        entries: in their order.
    """

    name: str
    title: str
    purpose: str
    introduction: str
    entries: tuple[Entry, ...]

    @property
    def file(self) -> str:
        """Its name in the folder of the reference."""
        return f"{self.name}.md"

    def links(self) -> dict[str, str]:
        """Where its names have their entries, from a page beside it."""
        return {entry.name: f"{self.file}#{entry.anchor}" for entry in self.entries}

    def text(self, links: Links) -> str:
        """The whole page; ``links`` lead to the entries of all pages."""
        inside = {name: link.removeprefix(self.file) for name, link in links.items()}
        parts = [f"# {self.title}", self.introduction, *(entry.markdown(inside) for entry in self.entries)]
        return "\n\n".join(parts) + "\n"
