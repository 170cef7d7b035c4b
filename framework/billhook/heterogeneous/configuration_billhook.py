"""Config of models whose layers differ from one another, for any family that transformers has.

A copy of this file stands beside the checkpoints that need it, so it imports transformers and nothing of billhook.
Importing billhook registers it as well; the two ways load the same model.
"""

from __future__ import annotations

from typing import Any

import transformers
from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

PREFIX = "Billhook"


class BillhookConfig(PreTrainedConfig):
    """Stands for the configs of all families; :meth:`from_dict` gives one of the family's own.

    Such a config is the family's, with ``per_layer_config`` in transformers' own schema (sizes that differ, and
    ``skip`` for branches that are gone), and ``billhook``: the family (``base``), where the parts of its layers are
    (``layout``), which layers of the unpruned model they are (``numbers``), and added linear layers (``inserted``).
    """

    model_type = "billhook"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config of the family that ``config_dict["billhook"]["base"]`` names."""
        base = config_dict.get("billhook", {}).get("base")
        if base in (None, cls.model_type):
            raise ValueError("This config is of the type 'billhook' but does not say of which family (billhook.base).")
        if base not in CONFIG_MAPPING:
            raise ValueError(
                f"This config is for the family {base!r}, which this transformers does not know. Update it."
            )
        return heterogeneous_config(CONFIG_MAPPING[base]).from_dict(config_dict, **kwargs)


def heterogeneous_config(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The config class ``base`` with the model type ``billhook``; saving it saves this file too."""
    if base not in _MADE:
        _MADE[base] = _make(base)
    return _MADE[base]


_MADE: dict[type[PreTrainedConfig], type[PreTrainedConfig]] = {}
"""Classes made so far, by the family's own; one each, since the Auto classes look them up by identity."""


def _make(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    return type(
        PREFIX + base.__name__,
        (base,),
        {
            "model_type": "billhook",
            "_auto_class": "AutoConfig",
            "__getattribute__": _get,
            "__module__": __name__,
            "__doc__": BillhookConfig.__doc__,
        },
    )


def _get(config: PreTrainedConfig, name: str) -> Any:
    """Sizes that differ by layer read as those of an untouched layer.

    Newer transformers refuse to tell them, yet their own code asks: rotary embeddings derive a head's width from the
    number of heads, in families that do not say it.
    """
    names: dict[str, str] = {} if name == "attribute_map" else object.__getattribute__(config, "attribute_map")
    return object.__getattribute__(config, names.get(name, name))


def overrides(config: PreTrainedConfig) -> dict[int, dict[str, Any]]:
    """What ``per_layer_config`` says, by layer; older transformers keep it as it came, newer ones parse it."""
    written = config.to_dict().get("per_layer_config") or {}
    return {int(number): dict(values) for number, values in written.items()}


def family_of(config: PreTrainedConfig) -> str:
    """The family's ``model_type``, also for a model of the type ``billhook``."""
    return str(vars(config)["billhook"]["base"]) if config.model_type == "billhook" else str(config.model_type)


def is_known(model_type: str) -> bool:
    """Whether a checkpoint of this type loads without code that lies beside its weights."""
    return model_type in CONFIG_MAPPING and not CONFIG_MAPPING[model_type].__module__.startswith(
        "transformers_modules."
    )


def global_value(config: PreTrainedConfig, name: str) -> Any:
    """The value that layers without an entry of their own have; newer transformers refuse to tell it."""
    return vars(config).get(config.attribute_map.get(name, name))


def __getattr__(name: str) -> type[PreTrainedConfig]:
    """``BillhookLlamaConfig`` and so on: the names that stand in ``auto_map``."""
    base = getattr(transformers, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    if not (isinstance(base, type) and issubclass(base, PreTrainedConfig)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return heterogeneous_config(base)
