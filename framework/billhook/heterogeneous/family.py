"""Between a model of the type ``billhook`` and the family's own class: which it is, and how it becomes the other."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from billhook.heterogeneous.configuration_billhook import global_value
from billhook.heterogeneous.modeling_billhook import HeterogeneousLayers, number_layers


def is_heterogeneous(model: PreTrainedModel) -> bool:
    """Whether the model has layers that no stock checkpoint can hold."""
    return isinstance(model, HeterogeneousLayers)


def head_dim(config: PreTrainedConfig, heads: str) -> int:
    """Columns that one attention head has; ``heads`` is the config attribute that counts them."""
    said = getattr(config, "head_dim", None)
    return int(said or config.hidden_size // int(global_value(config, heads)))


def stock_model(model: PreTrainedModel, sizes: Mapping[str, int]) -> PreTrainedModel | None:
    """``model``'s family with these sizes, on the meta device, all layers alike; None if that is impossible."""
    family, config = family_class(model), copy.deepcopy(model.config)
    if is_heterogeneous(model):
        _forget(config)
    try:
        for name, value in sizes.items():
            setattr(config, name, value)
        with torch.device("meta"):
            return family(config)
    except (ValueError, TypeError, AttributeError, RuntimeError):  # sizes that do not divide, fields it does not have
        return None


def back_to_family(model: PreTrainedModel, layers: str, attention: str) -> None:
    """Let a model of the type ``billhook`` be the family's own class again, in place, whatever its layers are.

    A config that describes layers as they were must not stay while they change. What is stock already stays as it is.

    Args:
        model: of either kind.
        layers: dotted path of the layer list, from the model.
        attention: dotted path of the attention, from a layer.
    """
    if not is_heterogeneous(model):
        return
    _forget(model.config)
    change_class(model, family_class(model))
    number_layers(list(cast(nn.ModuleList, model.get_submodule(layers))), attention, model.config)


def change_class(model: PreTrainedModel, model_class: type[PreTrainedModel]) -> None:
    """Give the model another class, in place; its modules and weights stay as they are."""
    model.__class__ = model_class
    # how a loaded model's weights were renamed on the way in, and would be on the way out (embed_out of GPT-NeoX);
    # that goes by the class, so a save must find out anew
    vars(model).pop("_weight_conversions", None)


def family_class(model: PreTrainedModel) -> type[PreTrainedModel]:
    """The stock class of a model, behind the one of the type ``billhook``."""
    # of ours, the method resolution order is: the class itself, HeterogeneousLayers, the family's
    return type(model).__mro__[2] if is_heterogeneous(model) else type(model)


def _forget(config: PreTrainedConfig) -> None:
    """Make a config of the type ``billhook`` the family's own again, in place, with the sizes of an untouched layer."""
    # a config read from a file has its type as an attribute of its own, which would outlive the class
    for name in ("billhook", "auto_map", "model_type", "per_layer_config", "_heterogeneity_spec"):
        vars(config).pop(name, None)
    config.__class__ = type(config).__mro__[1]
