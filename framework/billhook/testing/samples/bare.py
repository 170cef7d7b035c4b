"""Bare: a merger for tests of everything but repairs."""

from __future__ import annotations

import attrs

from billhook.cuts.sites import RepairSite
from billhook.errors import CannotMerge
from billhook.model.view import ModelView
from billhook.regression.linear_map import LinearMap
from billhook.roles.merger import Merger


@attrs.frozen
class Bare(Merger):
    """Makes cuts and repairs nothing."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Refuses every site."""
        raise CannotMerge("Nothing is repaired here.")

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Refuses every map."""
        raise CannotMerge("Nothing is repaired here.")
