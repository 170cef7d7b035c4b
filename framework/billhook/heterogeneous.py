"""What the config of a pruned model must say: the family's own fields, or transformers' per-layer schema."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from billhook.configuration_billhook import global_value, heterogeneous_config, overrides
from billhook.cut import Branch
from billhook.keep_units import KeepChannels, KeepHeads
from billhook.model_view import ModelView
from billhook.modeling_billhook import HeterogeneousLayers, Mapped, heterogeneous_model, number_layers

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")


def settle(view: ModelView) -> None:
    """Make the config of ``view``'s model describe its layers, in place, once all cuts are made.

    Layers that are all alike keep the family's own class and config, with new sizes where the family can express
    them. Otherwise the very same modules become a model of the type ``billhook`` (see ``modeling_billhook``).
    """
    model = view.model
    back_to_family(view)
    if not _differs(view):
        return
    common = _common_sizes(view)
    if common is not None and _stock_can_hold(model, common):
        for name, value in common.items():
            setattr(model.config, name, value)
        return
    _become_heterogeneous(view)


def is_heterogeneous(model: PreTrainedModel) -> bool:
    """Whether the model has layers that no stock checkpoint can hold."""
    return isinstance(model, HeterogeneousLayers)


def describe_layers(model: PreTrainedModel) -> list[str]:
    """What is special about each layer of a model of the type ``billhook``, in words; nothing for a stock one."""
    if not is_heterogeneous(model):
        return []
    config = model.config
    ours, by_layer = cast(Any, config).billhook, overrides(config)
    words = []
    for position, number in enumerate(ours["numbers"]):
        values = by_layer.get(position, {})
        parts = [f"no {branch}" for branch in values.get("skip", ())]
        parts += [f"{name} {value}" for name, value in values.items() if name != "skip"]
        parts += [f"a linear layer after {path}" for path in ours["inserted"].get(str(position), ())]
        if parts:
            words.append(f"layer {number} ({', '.join(parts)})")
    return words


def can_be_uniform(view: ModelView, branch: Branch) -> bool:
    """Whether the family's own class could hold layers whose ``branch`` has fewer units, all alike.

    Tried on the last layer with a single unit. GPT-2's attention cannot, for one: a head's width is the stream's,
    divided by the number of heads.
    """
    number = view.numbers[-1]
    units = view.units(number, branch)
    if len(units) < 2:
        return True
    version = (KeepChannels if branch == "mlp" else KeepHeads)(number, units[:1]).changes(view)[number]
    assert version is not None  # narrowing never drops a layer
    layout = view.adapter.layout(branch)
    found = view.adapter.sizes(view.model.config, branch, 1)
    sizes = {name: found[size] for size, name in layout.sizes.items()}
    empty = stock_model(view.model, sizes | ({"head_dim": _head_dim(view)} if "heads" in found else {}))
    if empty is None:
        return False
    # only what changed is compared: an earlier stage may have made the other branch narrower than the config says
    stock, before = _shapes(view.adapter.layers(empty)[-1]), _shapes(view.layer(number))
    return all(stock.get(name) == shape for name, shape in _shapes(version.module).items() if shape != before[name])


def _differs(view: ModelView) -> bool:
    """Whether any layer is not as the config's own sizes say."""
    return bool(_inserted(view)) or any(_overrides(view, number) for number in view.numbers)


def _overrides(view: ModelView, number: int) -> dict[str, Any]:
    """What is special about a layer, in transformers' per-layer schema."""
    config, layer = view.model.config, view.layer(number)
    found: dict[str, Any] = {}
    skip = [branch for branch in BRANCHES if view.adapter.unit_count(layer, config, branch) == 0]
    for branch in BRANCHES:
        if branch not in skip:
            found |= {
                name: value
                for name, value in _sizes(view, number, branch).items()
                if value != _full_size(view, branch, name)
            }
    return found | ({"skip": skip} if skip else {})


def _sizes(view: ModelView, number: int, branch: Branch) -> dict[str, int]:
    """The branch's sizes in this layer, by the name of the config attribute."""
    config, layout = view.model.config, view.adapter.layout(branch)
    units = view.adapter.unit_count(view.layer(number), config, branch)
    sizes = view.adapter.sizes(config, branch, units)
    return {name: sizes[size] for size, name in layout.sizes.items()}


def _full_size(view: ModelView, branch: Branch, name: str) -> int:
    config = view.model.config
    value = global_value(config, name)
    # GPT-2 leaves n_inner open: four times the stream
    return int(value) if value is not None else 4 * view.d_model


def _common_sizes(view: ModelView) -> dict[str, int] | None:
    """Config values that hold for every layer, or None when layers differ or have lost a branch or gained a map."""
    if _inserted(view):
        return None
    each = [_overrides(view, number) for number in view.numbers]
    if any("skip" in values for values in each):
        return None
    sizes = [
        {name: value for branch in BRANCHES for name, value in _sizes(view, number, branch).items()}
        for number in view.numbers
    ]
    if any(other != sizes[0] for other in sizes):
        return None
    changed = {name: value for name, value in sizes[0].items() if name in each[0]}
    heads = view.adapter.layout("attention").sizes.get("heads")
    if heads in changed:
        changed["head_dim"] = _head_dim(view)  # many families derive it from the number of heads
    return changed


def _head_dim(view: ModelView) -> int:
    config = view.model.config
    heads = int(global_value(config, view.adapter.layout("attention").sizes["heads"]))
    return int(getattr(config, "head_dim", None) or view.d_model // heads)


def _stock_can_hold(model: PreTrainedModel, sizes: Mapping[str, int]) -> bool:
    """Whether the family's own class, built with these sizes, has exactly our parameters."""
    empty = stock_model(model, sizes)
    return empty is not None and _shapes(empty) == _shapes(model)


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


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _become_heterogeneous(view: ModelView) -> None:
    model, config = view.model, view.model.config
    per_layer = {position: values for position, n in enumerate(view.numbers) if (values := _overrides(view, n))}
    layout: dict[str, Any] = {branch: view.adapter.layout(branch).to_data() for branch in BRANCHES}
    ours = {
        "base": config.model_type,
        "layout": layout | {"layers": view.adapter.layer_list},
        "numbers": list(view.numbers),
        "inserted": _inserted(view),
    }
    # The modules stay as they are and where they are; only what they are called changes, and what a save writes.
    model_class = heterogeneous_model(type(model))
    config.__class__ = heterogeneous_config(type(config))
    _change_class(model, model_class)
    cast(Any, config).billhook = ours
    cast(Any, config).per_layer_config = per_layer


def back_to_family(view: ModelView) -> None:
    """Let a model of the type ``billhook`` be the family's own class again, in place, whatever its layers are.

    A config that describes layers as they were must not stay while they change. :func:`settle` describes them anew.
    """
    model, config = view.model, view.model.config
    if not is_heterogeneous(model):
        return
    _forget(config)
    _change_class(model, family_class(model))
    number_layers(list(view.layers), view.adapter.layout("attention").module, config)


def _change_class(model: PreTrainedModel, model_class: type[PreTrainedModel]) -> None:
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


def _inserted(view: ModelView) -> dict[str, dict[str, bool]]:
    """By position and path: whether the linear layer that was put there has a bias."""
    found: dict[str, dict[str, bool]] = {}
    for position, layer in enumerate(view.layers):
        paths = {
            path: module.linear.bias is not None for path, module in layer.named_modules() if isinstance(module, Mapped)
        }
        if paths:
            found[str(position)] = paths
    return found
