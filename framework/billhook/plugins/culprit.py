"""Culprit: whose code an exception comes from, when it is not billhook's."""

from __future__ import annotations

import functools
from importlib import metadata

import attrs

OURS = ("billhook", "billhook_strategies", "billhook_adapters")
"""Top-level packages of billhook itself."""

_MARK = "__billhook_culprit__"
_TRACKERS = ("issues", "issue tracker", "bug tracker", "bugs", "bug reports", "tracker", "repository", "source", "code")
_PAGES = ("homepage", "home", "documentation")


@attrs.frozen(kw_only=True)
class Culprit:
    """A plugin's code that raised, and where in a run.

    Attributes:
        what: such as ``billhook_after_cut of the plugin their-package:theirs``.
        owner: the distribution it comes from; a file's path; empty for an object of the program itself.
        cut: that the run was at, as it prints; empty if at none.
        phase: what the run was doing, such as ``repairing``; empty if that is not known.
    """

    what: str
    owner: str = ""
    cut: str = ""
    phase: str = ""

    def __str__(self) -> str:
        place = f", at the cut {self.cut}" if self.cut else ""
        return f"in {self.what}{place}{f', while {self.phase}' if self.phase else ''}"

    @property
    def note(self) -> str:
        """One line for under a traceback: who raised, and whom to tell."""
        return f"Raised {self}. {self._whom_to_tell()}"

    def _whom_to_tell(self) -> str:
        if not self.owner:
            return "It was handed over by this program and is no part of billhook: mend it there."
        if self.owner.endswith(".py"):
            return f"It is of the file {self.owner}, not of billhook: mend it there."
        version, address = _about(self.owner)
        return f"It is of the distribution {self.owner}{version}, not of billhook: report it to {address}."


def blame(error: BaseException, culprit: Culprit) -> None:
    """Note on ``error`` whose it is, in the place of what was noted before."""
    before = culprit_of(error)
    if before is not None:
        error.__notes__.remove(before.note)
    setattr(error, _MARK, culprit)
    error.add_note(culprit.note)


def culprit_of(error: BaseException) -> Culprit | None:
    """What :func:`blame` noted on it."""
    found = getattr(error, _MARK, None)
    return found if isinstance(found, Culprit) else None


def owner_of(cls: type) -> str:
    """The distribution that a class comes from; empty if none does."""
    return next(iter(_distributions().get(cls.__module__.partition(".")[0], ())), "")


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


def _about(distribution: str) -> tuple[str, str]:
    """Its version with a space before it, and where its author wants to hear of faults."""
    try:
        known = metadata.distribution(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return "", "its author"
    urls = {}
    for line in known.metadata.get_all("Project-URL") or ():
        label, _, url = line.partition(",")
        urls[label.strip().lower()] = url.strip()
    found = next((urls[label] for label in (*_TRACKERS, *_PAGES) if label in urls), None)
    told = found or next(
        (known.metadata[key] for key in ("Home-page", "Author-email", "Author") if known.metadata[key]), ""
    )
    return f" {known.version}", told or "its author"
