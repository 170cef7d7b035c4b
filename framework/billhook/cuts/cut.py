"""Cut: a value that says what goes. Layer numbers are those of the original model, 0-based, spans half-open."""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import attrs

from billhook.errors import PluginError
from billhook.json_values import strict_converter
from billhook.model.branch import BRANCHES, Branch, Place

if TYPE_CHECKING:
    from torch import Tensor

    from billhook.cuts.sites import RepairSite
    from billhook.model.layer_version import LayerVersion
    from billhook.model.view import ModelView

AnyCut = TypeVar("AnyCut", bound="Cut")

_CONVERTER = strict_converter()

_KINDS: dict[str, type[Cut]] = {}


class Cut(abc.ABC):
    """Something to remove. A new kind of cut is one subclass: a frozen attrs class, in a file of its own.

    Defining it makes its :attr:`kind` known to plans and journals; nothing else has to hear of it. Equality, ``repr``
    and JSON come from its fields.

    Attributes:
        kind: its name in plan files.
        uniform: whether layers stay alike, so that a stock checkpoint can hold the result.
        narrows: the branch that it makes narrower; None for a kind that takes whole branches or layers.
        donors: the branches that may have to make up for it, whatever the model.

    What every kind has in common, whatever its fields: :attr:`layers` and :attr:`touched` say which parts of the model
    it concerns, in original numbers.

    Raises:
        PluginError: (on definition) another class has the same ``kind``.
    """

    kind: ClassVar[str]
    uniform: ClassVar[bool] = False
    narrows: ClassVar[Branch | None] = None
    donors: ClassVar[tuple[Branch, ...]] = BRANCHES

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            _note_kind(cls)

    @abc.abstractmethod
    def check(self, view: ModelView) -> None:
        """Raise :class:`InvalidCut` when ``view`` cannot lose this; change nothing."""

    @abc.abstractmethod
    def repair_site(self, view: ModelView) -> RepairSite | None:
        """Where the loss can be repaired, or None when nothing can make up for it."""

    @abc.abstractmethod
    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """By original number, the layers as they are without it; None for a layer that goes as a whole.

        New modules that share every tensor that stays. ``view`` is not changed, so a search can try a cut without
        making it. Only for cuts that pass :meth:`check`.
        """

    @property
    def branches(self) -> tuple[Place, ...]:
        """The branches that go as a whole, in the order of the stream; none unless overridden."""
        return ()

    @property
    def narrowed(self) -> Mapping[Place, tuple[int, ...]]:
        """The branches that get narrower, and which units each keeps, by original numbers; none unless overridden."""
        return {}

    @property
    def touched(self) -> tuple[Place, ...]:
        """Every branch that goes or gets narrower, as ``(layer, "attention" or "mlp")``, by layer, attention first."""
        places = {*self.branches, *self.narrowed}
        return tuple(sorted(places, key=lambda place: (place[0], BRANCHES.index(place[1]))))

    @property
    def layers(self) -> Sequence[int]:
        """The original numbers of the layers that go, or lose something, ascending."""
        return tuple(sorted({number for number, _ in self.touched}))

    def inner_columns(self, view: ModelView) -> Tensor | None:
        """Of what the donor's writer reads, the columns that are left, ``[columns]`` int64; None for all of them."""
        return None

    def parameter_count(self, view: ModelView) -> int:
        """How many parameters would go from ``view``. Only for cuts that pass :meth:`check`."""
        return parameters_lost(view, self.changes(view))

    def remove_from(self, view: ModelView) -> None:
        """Take the structure out of ``view``'s model, in place. Only for cuts that pass :meth:`check`.

        Raises:
            PluginError: it changes layers that it does not name in :attr:`layers`.
        """
        changes = self.changes(view)
        _refuse_untold(self, changes)
        view.change_layers(changes)

    def to_data(self) -> dict[str, Any]:
        """The fields as JSON values, without the kind."""
        return attrs.asdict(self)  # type: ignore[arg-type] # every Cut is an attrs class

    @classmethod
    def from_data(cls: type[AnyCut], fields: Mapping[str, Any]) -> AnyCut:
        """The inverse of :meth:`to_data`.

        Raises:
            cattrs.BaseValidationError: fields that the kind does not have, or values that they cannot have.
            InvalidCut: values that the kind refuses.
        """
        return _CONVERTER.structure(fields, cls)


def cut_kinds() -> dict[str, type[Cut]]:
    """The kinds of cut that have been defined so far, by name."""
    return dict(_KINDS)


def parameters_lost(view: ModelView, changes: Mapping[int, LayerVersion | None]) -> int:
    """How many parameters the layers of ``view`` have more than their new versions."""
    return sum(
        sum(parameter.numel() for parameter in view.layer(number).parameters())
        - (0 if version is None else sum(parameter.numel() for parameter in version.module.parameters()))
        for number, version in changes.items()
    )


def _refuse_untold(cut: Cut, changed: Collection[int]) -> None:
    """Raise :class:`PluginError` if a cut changes layers that it does not name, which hooks could not have vetoed."""
    untold = sorted(set(changed) - set(cut.layers))
    if untold:
        raise PluginError(
            f"{type(cut).__name__} changes the layers {untold}, but its 'layers' are {list(cut.layers)}. Hooks go by "
            f"them: a kind of cut names every branch that it touches, in 'branches', 'narrowed' or 'touched'."
        )


def _note_kind(cls: type[Cut]) -> None:
    known = _KINDS.get(cls.kind)
    # the same class may come twice: attrs makes a second one, with slots, of every class it decorates
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise PluginError(
            f"{cls.__module__}.{cls.__qualname__} calls its kind of cut {cls.kind!r}, and so does "
            f"{known.__module__}.{known.__qualname__}. Plans tell kinds apart by their names: choose another."
        )
    _KINDS[cls.kind] = cls
