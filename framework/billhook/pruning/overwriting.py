"""Whoever writes into the model that was handed in: named, and the run ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, cast

import attrs
from transformers import PreTrainedModel

from billhook.errors import PluginError
from billhook.log import logger
from billhook.plugins.culprit import OURS, Culprit, blame, owner_of
from billhook.plugins.registry import Registry
from billhook.plugins.watch import watching
from billhook.pruning.attribution import Whereabouts
from billhook.pruning.method import Method
from billhook.pruning.untouched import Untouched
from billhook.roles.role import ROLES, Role

OFTEN = ("billhook_on_progress", "billhook_on_search")
"""Hooks that are called too often for more than a glance."""


class Overwriting:
    """Asks, whenever a hook or a strategy has had its turn, whether the model is as it was.

    Result and model share weights until the result is settled, so a write into one is a write into both: the user's
    model would be another one after the run, and the result not what its plan says.
    """

    def __init__(self, model: PreTrainedModel, method: Method, registry: Registry, where: Whereabouts) -> None:
        self._untouched = Untouched(model)
        self._method, self._registry, self._where = method, registry, where
        self._told = False

    @contextmanager
    def by_hooks(self) -> Iterator[None]:
        """Looks after every hook inside, and in the end for what was left behind in the model.

        Raises:
            PluginError: one wrote into the model. Whatever else is raised, a note on it says if the model was written
                to.
        """
        try:
            with watching(self._look):
                yield
        except Exception as error:
            if not self._told and (changed := self._untouched.thorough()) is not None:
                error.add_note(_text(changed, "something"))
            raise
        finally:
            left = self._untouched.put_back()
        if left:
            logger.warning("Something changed the {} of the model handed in; they are put back.", ", ".join(left))

    def refuse(self, *roles: Role) -> None:
        """The strategies of these roles have had their turn.

        Raises:
            PluginError: the model is not as it was; names those of them that are no part of billhook.
        """
        changed = self._untouched.thorough()
        if changed is None:
            return
        strangers = [found for role in roles for found in self._strangers(role)]
        self._raise(changed, strangers)

    def _look(self, culprit: Callable[[], Culprit], hook: str) -> None:
        changed = self._untouched.quick() if hook in OFTEN else self._untouched.thorough()
        if changed is not None:
            self._raise(changed, [culprit()])

    def _raise(self, changed: str, culprits: Sequence[Culprit]) -> NoReturn:
        self._told = True
        error = PluginError(_text(changed, " or ".join(culprit.what for culprit in culprits) or "something"))
        if culprits:
            blame(error, culprits[0])
        raise error

    def _strangers(self, role: Role) -> Iterator[Culprit]:
        """What of the strategy is no part of billhook: itself, or those that it is made of."""
        cut = "" if self._where.cut is None else str(self._where.cut)
        for strategy in parts_of(getattr(self._method, role)):
            cls = type(strategy)
            if not isinstance(strategy, ROLES[role].base) or cls.__module__.partition(".")[0] in OURS:
                continue
            name = self._registry.offered_as(role, cls)
            owner = owner_of(cls) if name is None else self._registry.owner_of(name)
            called = f"({cls.__module__}.{cls.__qualname__})" if name is None else name
            yield Culprit(what=f"the {role} {called}", owner=owner, cut=cut, phase=self._where.phase)


def parts_of(value: object) -> Iterator[object]:
    """An attrs object and all that its fields hold, as the stages of a sequence of selectors."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from parts_of(each)
    elif value is not None and attrs.has(type(value)):
        yield value
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", type(value))):
            yield from parts_of(getattr(value, field.name))


def _text(changed: str, who: str) -> str:
    return (
        f"The model that was handed in was written to by {who}: {changed} is not as it was. Load the model again, and "
        f"let that work on copies."
    )
