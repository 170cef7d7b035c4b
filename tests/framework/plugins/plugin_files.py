"""Distributions as pip leaves them on disk, for tests of how plugins are found and loaded."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from textwrap import dedent

_NUMBERS = itertools.count()

ESTIMATOR = """
    import attrs
    from billhook import Estimator, hookimpl

    @attrs.frozen(kw_only=True)
    class Theirs(Estimator):
        strength: float = 1.0

        def estimate(self, regression):
            return None

    @hookimpl
    def billhook_register_estimators(register):
        register({name!r}, Theirs)
"""
"""A module with an estimator; format with its name."""


def offering(name: str) -> str:
    """A plugin module that offers an estimator called ``name``."""
    return dedent(ESTIMATOR).format(name=name)


def install(
    folder: Path,
    distribution: str,
    modules: Mapping[str, str],
    *,
    version: str = "1.0",
    attribute: str = "",
    requires: Sequence[str] = (),
) -> list[metadata.EntryPoint]:
    """Write modules and the metadata of a distribution whose entry points name them; ``folder`` must be on the path.

    Args:
        folder: a site-packages folder.
        distribution: its name.
        modules: source code by entry-point name; the modules get names of their own, never used before.
        version: of the distribution.
        requires: what its metadata say that it needs.
        attribute: ``:name`` of what the entry points load from their modules; the modules themselves if empty.
    """
    lines = ["[billhook]"]
    for name, source in modules.items():
        module = f"plugin_of_a_test_{next(_NUMBERS)}"
        (folder / f"{module}.py").write_text(dedent(source))
        lines.append(f"{name} = {module}{attribute}")
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}")
    (info / "entry_points.txt").write_text("\n".join(lines))
    importlib.invalidate_caches()
    (found,) = (dist for dist in metadata.distributions(path=[str(folder)]) if dist.name == distribution)
    return [entry for entry in found.entry_points if entry.group == "billhook"]
