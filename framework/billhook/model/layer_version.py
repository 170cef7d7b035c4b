"""LayerVersion: a layer as it is after a cut."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from torch import nn

from billhook.model.branch import Branch


@attrs.frozen(eq=False)
class LayerVersion:
    """A module to stand in a layer's place, and which units it has left.

    Attributes:
        module: the new layer.
        units: by branch, the original numbers of the units still there, for the branches that changed; empty for a
            branch that is gone.
    """

    module: nn.Module
    units: Mapping[Branch, tuple[int, ...]]
