"""PluginInfo: one plugin, and what became of it."""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class PluginInfo:
    """One plugin: what it is called, where it comes from, what became of it.

    ``status`` is ``loaded``, ``blocked`` (by name), ``failed`` (its import raised) or ``invalid`` (it breaks a rule
    of the plugin system); ``reason`` says why, and is empty when loaded.
    """

    name: str
    distribution: str
    version: str
    status: Literal["loaded", "blocked", "failed", "invalid"]
    reason: str = ""
    hooks: tuple[str, ...] = ()

    @property
    def qualified(self) -> str:
        """``dist:name``."""
        return f"{self.distribution}:{self.name}"
