"""What earlier versions wrote into plans and journals, as it is said now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loguru import logger

RENAMED = {("billhook:cosine", "optimizer", "irls"): "billhook:cosine-irls"}
"""By name of a strategy, option and value: the strategy that this is now, without the option."""


def said_now(data: Mapping[str, Any]) -> dict[str, Any]:
    """A plan, or the first line of a journal, as this version would have written it.

    - ``repair.readers`` is gone: solving readers anew in closing passes did harm. Where it was asked for, a warning
      says that it is left out.
    - ``cosine`` with ``optimizer`` was several estimators.
    """
    now = dict(data)
    repair, estimator = now.get("repair"), now.get("estimator")
    if isinstance(repair, Mapping):
        now["repair"] = _without_readers(repair)
    if isinstance(estimator, Mapping):
        now["estimator"] = _renamed(estimator)
    return now


def _without_readers(repair: Mapping[str, Any]) -> dict[str, Any]:
    left = dict(repair)
    if left.pop("readers", False):
        logger.warning("The plan solves readers anew (repair.readers), which is done no more: it did harm.")
    return left


def _renamed(spec: Mapping[str, Any]) -> dict[str, Any]:
    options = spec.get("options")
    for (name, option, value), new in RENAMED.items():
        if spec.get("name") == name and isinstance(options, Mapping) and options.get(option) == value:
            return {**spec, "name": new, "options": {key: v for key, v in options.items() if key != option}}
    return dict(spec)
