"""Branch: which of a layer's two additions to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Branch = Literal["attention", "mlp"]
"""One residual branch of a layer."""

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")
"""All of them, in the order in which a layer adds them; parallel ones count attention first."""

Place = tuple[int, Branch]
"""A branch of a model: original layer number, and which of the two."""

UNITS: Mapping[Branch, str] = {"attention": "key-value groups", "mlp": "channels"}
"""What the units of a branch are called: what it can be narrowed by."""
