"""Identity: no repair."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from billhook import Estimator, Needs, Regression, hookimpl, typed


@attrs.frozen(field_transformer=typed)
class Identity(Estimator):
    """Leaves the donor as it is: the cut is made and nothing makes up for it (UIDL, ShortGPT). Needs no data."""

    needs: ClassVar[Needs] = Needs.NOTHING

    def estimate(self, regression: Regression) -> None:
        """None: the donor stays as it is."""
        return None


@hookimpl
def billhook_register_estimators(register: Callable[[str, Callable[..., Estimator]], None]) -> None:
    """``identity``."""
    register("identity", Identity)
