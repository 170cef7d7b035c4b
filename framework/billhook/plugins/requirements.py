"""What a distribution says that it requires, and what of that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement


def unmet(distribution: metadata.Distribution) -> list[str]:
    """Requirements that the installed distributions do not meet, each with what there is instead, in order."""
    return [f"{requirement} ({found})" for requirement in _required(distribution) if (found := _lacking(requirement))]


def _required(distribution: metadata.Distribution) -> Iterator[Requirement]:
    """Those that hold here; extras are nobody's concern."""
    for line in distribution.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # an old way of writing them, which pip took and we cannot judge
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _lacking(requirement: Requirement) -> str:
    """``not installed``, or the version that is; empty if that will do."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "not installed"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"{version} is installed"
