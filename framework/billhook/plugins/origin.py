"""Origin: where a plugin comes from, what messages call it, and how one does without it."""

from __future__ import annotations

from typing import Literal

import attrs

from billhook.plugins.culprit import Culprit

DISABLE_VARIABLE = "BILLHOOK_DISABLE_PLUGINS"
"""Environment variable: entry-point names, distributions or ``dist:name``, separated by commas, not to load."""

THIS_PROGRAM = "this-program"
"""What stands for the distribution of objects that were handed over."""


@attrs.frozen(kw_only=True)
class Origin:
    """Where a plugin comes from.

    Attributes:
        name: what it is registered as: ``dist:name``, the class of an object with a number, or the path of a file.
        distribution: under which its offers are qualified.
        kind: how it came in.
    """

    name: str
    distribution: str
    kind: Literal["installed", "object", "file"] = "installed"

    @property
    def way_out(self) -> str:
        """What to do about a fault of it, as a sentence."""
        if self.kind == "installed":
            return f"Mend it, or block it with {DISABLE_VARIABLE}={self.name}."
        if self.kind == "file":
            return f"Mend the file, or leave out --plugin {self.name}."
        return "Mend it, or leave it out of hooks=[...]."

    @property
    def owner(self) -> str:
        """What :class:`Culprit` calls it: a distribution, a file; empty for an object."""
        return {"installed": self.distribution, "file": self.name}.get(self.kind, "")

    def culprit(self, hook: str, cut: object = None) -> Culprit:
        """Its ``hook`` as what raised."""
        told = "" if cut is None else str(cut)
        return Culprit(what=f"{hook} of the plugin {self.name}", owner=self.owner, cut=told)
