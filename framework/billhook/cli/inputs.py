"""What the commands work on. Imports torch, so commands import this when they run.

Everything is checked from cheap to dear: options before files, files before the tokenizer, and the weights last.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook import loading
from billhook.activation_cache import MIB, CacheBudget
from billhook.calibration import Calibration
from billhook.checkpoint import refuse_existing
from billhook.configuration_billhook import family_of
from billhook.errors import BillhookError, CheckpointError, InvalidConfig, OutputExists, did_you_mean, listing
from billhook.model_view import ModelView, refuse_long_rows
from billhook.pruner import Pruner
from billhook.recipes import Recipe
from billhook.registry import default_registry
from billhook.repair import Repair
from billhook.result import PruneResult
from billhook.roles import ROLES, Role, Strategy, build
from billhook.state import Progress
from billhook.tokens import Tokens

Settings = dict[str, dict[str, Any]]
"""Options of strategies, by role and option; those of the repair under ``repair``."""

SETTABLE = (*ROLES, "repair")


def _silent(*news: object) -> None:
    """The progress callback of nobody."""


@attrs.frozen(kw_only=True, eq=False)
class Opened:
    """A loaded model, its tokenizer, and the calibration with its tokens ready."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    calibration: Calibration
    tokens: Tokens


def open_model(
    name: str,
    calibration: Calibration,
    *,
    dtype: str,
    device: str,
    check: Callable[[PreTrainedModel], object],
    progress: Progress = _silent,
) -> Opened:
    """Load a model for work on calibration data.

    Args:
        name: as for :func:`billhook.load`, ``dtype`` and ``device`` too.
        calibration: tokenised before the weights are read, but for what the model writes itself.
        check: handed the model without its weights, to refuse it early. Skipped for GGUF files, so what it checks
            must be checked again by whoever does the work.
        progress: told how far the model is with writing.
    """
    source = loading.find(name, dtype=dtype, device=device)
    skeleton = source.skeleton()
    if skeleton is not None:
        check(skeleton)
    tokenizer = source.tokenizer()
    load = functools.cache(source.model)
    tokens = calibration.tokenize(tokenizer, load, progress=progress)
    if skeleton is not None:
        refuse_long_rows(skeleton, tokens.ids.shape[1])
    model = load()
    return Opened(model=model, tokenizer=tokenizer, calibration=attrs.evolve(calibration, source=tokens), tokens=tokens)


def view_of(model: PreTrainedModel) -> ModelView:
    """The model through its adapter; refuses architectures that none knows."""
    return ModelView(model, default_registry().adapter_for(family_of(model.config)))


def check_output(out: Path, overwrite: bool, model: str) -> None:
    """Refuse an output folder that cannot be made, before anything is computed for it."""
    refuse_existing(out, overwrite)
    if out.exists() and Path(model).expanduser().exists() and out.samefile(Path(model).expanduser()):
        raise OutputExists(f"The output {out} is the model itself. Choose another folder.")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OutputExists(f"The output {out} cannot be made: {parent} is a file.")
    if not os.access(parent, os.W_OK):
        raise CheckpointError(f"The output {out} cannot be made: {parent} is not writable.")


def save(
    result: PruneResult, out: Path, *, overwrite: bool, verify: bool, pad: bool = False, uniform: bool = False
) -> Path:
    """Like :meth:`PruneResult.save`; a full disk and the like are the user's errors, not bugs."""
    try:
        return result.save(out, overwrite=overwrite, verify=verify, pad=pad, uniform=uniform)
    except BillhookError:
        raise
    except OSError as error:
        raise CheckpointError(f"The checkpoint cannot be written to {out}: {error}") from error


def cache_budget(mib: int | None) -> CacheBudget:
    """The budget for ``--cache-mib``."""
    return CacheBudget() if mib is None else CacheBudget(device=mib * MIB, host=mib * MIB)


def strategies(
    chosen: Mapping[Role, str | None], settings: Settings, recipe: Recipe | None = None
) -> dict[str, Strategy]:
    """The strategies by role: those named, the recipe's or the pruner's defaults for the rest, with the given options.

    Args:
        chosen: names by role; None for what is not named.
        settings: options by role.
        recipe: what to follow where nothing is named.
    """
    defaults = {field.name: field.default for field in attrs.fields(Pruner)}
    made: dict[str, Strategy] = {}
    for role in ROLES:
        name, options = chosen.get(role), settings.get(role, {})
        if name is None and recipe is not None:
            strategy = _of_recipe(recipe, role, options)
        else:
            name = name or cast("str | None", defaults[role])
            strategy = None if name is None else default_registry().create(role, name, options)
        if strategy is not None:
            made[role] = strategy
        elif options:
            raise InvalidConfig(f"There are options for the {role}, but no {role} is named. Add --{role} NAME.")
    return made


def repair(settings: Settings, base: Repair) -> Repair:
    """``base`` with the given options."""
    options = {**attrs.asdict(base), **settings.get("repair", {})}
    return cast(Repair, build(cast("Any", Repair), options, "repair"))


def _of_recipe(recipe: Recipe, role: Role, options: Mapping[str, Any]) -> Strategy | None:
    """The recipe's strategy of that role, with ``options`` in the place of its own."""
    strategy = recipe.strategy(role)
    if strategy is None or not options:
        return strategy
    spec = default_registry().spec(role, strategy)
    if spec.name.startswith("("):
        raise InvalidConfig(
            f"The {role} of the recipe {recipe.name!r} is offered under no name, so --set cannot change it. Name "
            f"another one with --{role}."
        )
    return default_registry().create(role, spec.name, {**spec.options, **options})


def parse_settings(given: Sequence[str]) -> Settings:
    """``role.option=value`` strings; values are JSON where they can be, plain text otherwise."""
    settings: Settings = {}
    for text in given:
        target, equals, value = text.partition("=")
        role, dot, option = target.partition(".")
        if not (equals and dot and option):
            raise InvalidConfig(f"A setting is ROLE.OPTION=VALUE, for instance selector.windows=2; got {text!r}.")
        if role not in SETTABLE:
            raise InvalidConfig(
                f"There is no role {role!r} to set.{did_you_mean(role, SETTABLE)} Known: {listing(SETTABLE)}."
            )
        settings.setdefault(role, {})[option] = _json_or_text(value)
    return settings


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value
