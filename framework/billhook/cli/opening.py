"""What the commands work on. Imports torch, so commands import this when they run.

Everything is checked from cheap to dear: options before files, files before the tokenizer, and the weights last.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from billhook.activations.activation_cache import MIB, CacheBudget
from billhook.data.calibration import Calibration
from billhook.data.guard import refuse_unreadable_guard
from billhook.data.tokens import Tokens
from billhook.model import loading
from billhook.model.positions import refuse_long_rows
from billhook.model.view import ModelView
from billhook.model.vocabulary import refuse_unknown_ids
from billhook.plugins.registry import Registry, default_registry
from billhook.progress import Progress, silent
from billhook.pruning.applying import NO_TOKENS


@attrs.frozen(kw_only=True, eq=False)
class Opened:
    """A loaded model, its tokenizer if it is needed or there is one, and the calibration with its tokens ready."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    calibration: Calibration
    tokens: Tokens


def open_model(
    name: str,
    calibration: Calibration | None,
    *,
    dtype: str,
    device: str,
    check: Callable[[PreTrainedModel], object],
    registry: Registry,
    progress: Progress = silent,
    tokenizer: str | None = None,
    measured: bool = False,
) -> Opened:
    """Load a model for work on calibration data.

    Args:
        name: as for :func:`billhook.load`, ``dtype`` and ``device`` too.
        calibration: tokenised before the weights are read, but for what the model writes itself. None for work that
            looks at no data; then no tokenizer is needed.
        check: handed the model without its weights, to refuse it early. Skipped for GGUF files, so what it checks
            must be checked again by whoever does the work.
        registry: whose adapters must know the type of a GGUF file, which is asked before its weights are read.
        progress: told how far the model is with writing.
        tokenizer: as for :func:`billhook.load`.
        measured: the model is only to be measured, so that it may be quantised.
    """
    source = loading.find(name, dtype=dtype, device=device, tokenizer=tokenizer, measured=measured)
    skeleton = source.skeleton()
    if skeleton is not None:
        check(skeleton)
    elif (model_type := source.gguf_type()) is not None:
        registry.adapter_for(model_type, typed=False)
    if calibration is None:
        idle = Calibration(source=NO_TOKENS)
        return Opened(model=source.model(), tokenizer=source.tokenizer_if_any(), calibration=idle, tokens=NO_TOKENS)
    words = source.tokenizer()
    load = functools.cache(source.model)
    refuse_unreadable_guard(calibration, words)
    tokens = calibration.tokenize(words, load, progress=progress)
    if skeleton is not None:
        refuse_long_rows(skeleton, tokens.ids.shape[1])
        refuse_unknown_ids(skeleton, tokens.ids, words)
    model = load()
    return Opened(model=model, tokenizer=words, calibration=attrs.evolve(calibration, source=tokens), tokens=tokens)


def view_of(model: PreTrainedModel, registry: Registry | None = None) -> ModelView:
    """The model through its adapter; refuses architectures that none knows. Those of all installed plugins if None."""
    return (default_registry() if registry is None else registry).view(model)


def cache_budget(mib: int | None) -> CacheBudget:
    """The budget for ``--cache-mib``."""
    return CacheBudget() if mib is None else CacheBudget(device=mib * MIB, host=mib * MIB)


def given_options(
    *,
    calibration: Sequence[str] | None,
    dtype: str,
    device: str,
    tokenizer: str | None,
    plugin: Sequence[Path] | None,
) -> list[str]:
    """The options that say the same to another command; those left out that are the default."""
    several = {"--calibration": calibration or (), "--plugin": map(str, plugin or ())}
    options = [part for name, values in several.items() for value in values for part in (name, value)]
    single = {"--dtype": (dtype, "auto"), "--device": (device, "cpu"), "--tokenizer": (tokenizer, None)}
    return options + [part for name, (value, usual) in single.items() if value != usual for part in (name, str(value))]
