"""The kinds of cut by the names that stand in plan files."""

from __future__ import annotations

from billhook.cut import Cut
from billhook.drop_branch import DropBranch
from billhook.drop_layers import DropLayers
from billhook.keep_units import KeepChannels, KeepHeads

CUT_KINDS: dict[str, type[Cut]] = {cls.kind: cls for cls in (DropLayers, DropBranch, KeepChannels, KeepHeads)}
"""Kinds of cut by name."""
