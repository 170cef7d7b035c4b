"""What earlier versions wrote into plans and journals, as it is said now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billhook.log import logger

COSINE, IRLS = "billhook:cosine", "billhook:cosine-irls"
"""Before, both were ``cosine``, told apart by its option ``optimizer``."""

OF_GRADIENTS = ("optimizer", "learning_rate", "rescale")
"""Options of ``cosine`` that meant nothing to the closed form."""


def said_now(data: Mapping[str, Any]) -> dict[str, Any]:
    """A plan, or the first line of a journal, as this version would have written it.

    - ``repair.readers`` is gone: solving readers anew in closing passes did harm. Where it was asked for, a warning
      says that it is left out.
    - ``cosine`` with ``optimizer`` was several estimators; of the one by L-BFGS a warning says that it is gone.
    """
    now = dict(data)
    repair, estimator = now.get("repair"), now.get("estimator")
    if isinstance(repair, Mapping):
        now["repair"] = _without_readers(repair)
    if isinstance(estimator, Mapping):
        now["estimator"] = _renamed(estimator)
    return now


def told_before(run: Mapping[str, Any]) -> dict[str, Any]:
    """The first line of a journal as it was written before it told all options, the dtype and the versions."""
    then = {name: _told_before(value) for name, value in run.items() if name != "versions"}
    if isinstance(model := run.get("model"), Mapping):
        then["model"] = {name: value for name, value in model.items() if name != "dtype"}
    if isinstance(repair := run.get("repair"), Mapping):  # nothing is chosen by the guard
        then["repair"] = {name: value for name, value in repair.items() if name != "guard"}
    return then


def _told_before(value: Any) -> Any:
    """A strategy, at any depth, without the options that stand at their defaults."""
    if isinstance(value, list):
        return [_told_before(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    left = {name: entry for name, entry in value.items() if name != "defaults"}
    if isinstance(options := value.get("options"), Mapping):
        left["options"] = {name: said for name, said in options.items() if name not in value.get("defaults", ())}
    return {name: _told_before(entry) for name, entry in left.items()}


def _without_readers(repair: Mapping[str, Any]) -> dict[str, Any]:
    left = dict(repair)
    if left.pop("readers", False):
        logger.warning("The plan solves readers anew (repair.readers), which is done no more: it did harm.")
    return left


def _renamed(spec: Mapping[str, Any]) -> dict[str, Any]:
    options = spec.get("options")
    optimizer = options.get("optimizer") if spec.get("name") == COSINE and isinstance(options, Mapping) else None
    if isinstance(options, Mapping) and optimizer == "irls":
        left = {name: value for name, value in options.items() if name not in OF_GRADIENTS}
        return {**spec, "name": IRLS, "options": left}
    if optimizer == "lbfgs":
        logger.warning(
            "The plan's estimator minimises the cosine loss by L-BFGS, which did worst and is gone. To apply the plan, "
            "name another one: --estimator cosine, or Pruner(estimator='cosine')."
        )
    return dict(spec)
