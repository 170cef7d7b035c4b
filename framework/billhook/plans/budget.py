"""Budget: how much to remove."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import attrs

from billhook.errors import InvalidConfig
from billhook.value_kinds import typed

if TYPE_CHECKING:
    from billhook.model.view import ModelView


@attrs.frozen(kw_only=True, field_transformer=typed)
class Budget:
    """How much to remove; exactly one of the three amounts.

    Attributes:
        layers: number of whole layers.
        parameters: share of parameters, in (0, 1).
        bytes: bytes of weights, at the model's own dtype.
        of: what ``parameters`` is a share of: ``"all"`` parameters, tied ones once, or the ``"backbone"``
            (all layers, without embeddings, head and final norm).

    Raises:
        InvalidConfig: none or several amounts are given, or one is outside its range.
    """

    layers: int | None = None
    parameters: float | None = None
    bytes: int | None = None
    of: Literal["all", "backbone"] = "all"

    def __new__(cls, *amounts: Any, **named: Any) -> Budget:
        """Refuses what looks like an amount and is none, before Python says that there is no such argument."""
        if amounts or "ratio" in named:
            share = named.get("ratio", amounts[0] if amounts else None)
            raise InvalidConfig(
                f"A Budget says what it counts: --ratio of the command line is Budget(parameters={share!r}), a share "
                f"of the parameters; --layers is Budget(layers=...)."
            )
        return super().__new__(cls)

    def __attrs_post_init__(self) -> None:
        given = [name for name in ("layers", "parameters", "bytes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidConfig(
                f"A Budget is one of layers, parameters or bytes; got {' and '.join(given) or 'none of them'}."
            )
        if self.layers is not None and self.layers < 1:
            raise InvalidConfig(f"The 'layers' of Budget must be at least 1; got {self.layers}.")
        if self.parameters is not None and not 0 < self.parameters < 1:
            raise InvalidConfig(f"The ratio of parameters to remove must lie between 0 and 1; got {self.parameters}.")
        if self.bytes is not None and self.bytes < 1:
            raise InvalidConfig(f"The 'bytes' of Budget must be at least 1; got {self.bytes}.")
        if self.of not in ("all", "backbone"):
            raise InvalidConfig(f"The 'of' of Budget must be 'all' or 'backbone'; got {self.of!r}.")

    def __str__(self) -> str:
        if self.layers is not None:
            return f"{self.layers} layers"
        if self.parameters is not None:
            return f"{self.parameters:.1%} of {'all' if self.of == 'all' else 'backbone'} parameters"
        return f"{self.bytes:,} bytes"

    def parameter_count(self, view: ModelView) -> int:
        """How many parameters must go at least (for a budget in layers: those of that many average layers)."""
        if self.layers is not None:
            return round(self.layers * view.layer_parameter_count / len(view.numbers))
        if self.parameters is not None:
            base = view.parameter_count if self.of == "all" else view.layer_parameter_count
            return _ceil(self.parameters * base)
        assert self.bytes is not None  # one of the three is set: see __attrs_post_init__
        return _ceil(self.bytes / view.bytes_per_parameter)

    def layer_count(self, view: ModelView) -> int:
        """The smallest number of whole layers that meets this budget in ``view``.

        Raises:
            InvalidConfig: more than the model can lose; one layer must stay.
        """
        per_layer = view.layer_parameter_count / len(view.numbers)
        count = self.layers or _ceil(self.parameter_count(view) / per_layer)
        if count >= len(view.numbers):
            raise InvalidConfig(
                f"A budget of {self} means dropping {count} layers, but the model has {len(view.numbers)} "
                f"and one must stay. Ask for less."
            )
        return count


def _ceil(amount: float) -> int:
    """Rounded up, but not for a float's rounding: 0.55 of 40 equal layers are 22 of them, not one parameter more."""
    return math.ceil(amount * (1 - 1e-12))
