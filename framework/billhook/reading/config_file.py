"""config.json: what is refused in it before transformers acts on it, and what of it is no business of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from transformers import AutoConfig, PreTrainedConfig

from billhook.errors import ModelNotFound, UnusableModel
from billhook.reading.one_line import in_one_line

MOST_LAYERS = 10_000
"""Layers that a config may ask for; building a model of more takes all memory before any weight is read."""

_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def read_config(name: str, place: str, options: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of the model ``name`` at ``place`` (a folder or hub name), ready to build it on this machine.

    How a config was used where it was saved is left out: a kernel for attention that only some machines have, and
    what the forward pass returns beside the logits.

    Raises:
        ModelNotFound: it cannot be read, asks for code from a hub, or for absurdly many layers.
    """
    with in_one_line(name):
        raw, _ = PreTrainedConfig.get_config_dict(place, **options)
        _refuse_kernels(name, raw)
        _refuse_endless(name, raw)
        config = cast(PreTrainedConfig, AutoConfig.from_pretrained(place, **options))
        _refuse_kernels(name, {"attn_implementation": config._attn_implementation})
        _forget_habits(config)
        _forget_plain_quantisation(config)
    return config


def quantisation(config: PreTrainedConfig) -> str | None:
    """How the weights are quantised, an empty string if the config does not say how; None if they are not."""
    found = getattr(config, "quantization_config", None)
    if not found:
        return None
    return str(found.get("quant_method", "") if isinstance(found, Mapping) else getattr(found, "quant_method", ""))


def refuse_quantised(name: str, config: PreTrainedConfig) -> None:
    """Raise :class:`UnusableModel` for a config that says that the weights are quantised."""
    method = quantisation(config)
    if method is not None:
        raise UnusableModel(
            f"The model {name} is quantised{f' ({method})' if method else ''}, and folding needs its weights "
            f"in floating point. Load the original checkpoint, prune it, and quantise the result."
        )


def _implementations(raw: object) -> Iterator[str]:
    """Every string under a key such as ``_attn_implementation``, at any depth."""
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            if "implementation" in str(key):
                yield from _strings(value)
            else:
                yield from _implementations(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _implementations(value)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)


def _refuse_kernels(name: str, raw: object) -> None:
    """A kernel is compiled code from a hub, and is refused as remote code is."""
    for implementation in _implementations(raw):
        if "/" in implementation:
            raise ModelNotFound(
                f"The model {name} cannot be loaded: its config asks for a kernel from a hub "
                f"({implementation!r:.200}), which is code, and billhook runs none that comes with a model. "
                f"Take attn_implementation out of config.json."
            )


def _refuse_endless(name: str, raw: Mapping[str, Any]) -> None:
    for part in (raw, *(value for value in raw.values() if isinstance(value, Mapping))):
        for key in _COUNTS:
            count = part.get(key)
            if isinstance(count, int | float) and count > MOST_LAYERS:
                raise ModelNotFound(
                    f"The model {name} cannot be loaded: its config promises {str(count)[:20]} layers ({key}); "
                    f"at most {MOST_LAYERS:,} are taken."
                )


def _forget_habits(config: PreTrainedConfig) -> None:
    if isinstance(config._attn_implementation, str) and "flash" in config._attn_implementation:
        config._attn_implementation = None  # transformers then takes sdpa, or eager where a family has none
    for habit, ours in (("output_attentions", False), ("output_hidden_states", False), ("return_dict", True)):
        if getattr(config, habit, ours) != ours:
            setattr(config, habit, ours)


def _forget_plain_quantisation(config: PreTrainedConfig) -> None:
    """Take out a ``quantization_config`` that quantises nothing: an empty one, or one that notes a sparsity only."""
    found = getattr(config, "quantization_config", None)
    plain = isinstance(found, Mapping) and (
        found.get("quant_method") == "compressed-tensors"
        and not found.get("config_groups")
        and (found.get("sparsity_config") or {}).get("format") == "dense"
    )
    if plain or not found:
        vars(config).pop("quantization_config", None)
