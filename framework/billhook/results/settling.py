"""What the config of a pruned model must say: the family's own fields, or transformers' per-layer schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from transformers import PreTrainedModel

from billhook.heterogeneous.configuration_billhook import global_value, heterogeneous_config, overrides
from billhook.heterogeneous.family import back_to_family, change_class, is_heterogeneous, stock_model
from billhook.heterogeneous.modeling_billhook import Mapped, heterogeneous_model
from billhook.model.branch import BRANCHES, Branch
from billhook.model.view import ModelView
from billhook.model.weights import shapes


def settle(view: ModelView) -> None:
    """Make the config of ``view``'s model describe its layers, in place, once all cuts are made.

    Layers that are all alike keep the family's own class and config, with new sizes where the family can express
    them. Otherwise the very same modules become a model of the type ``billhook`` (see ``modeling_billhook``).
    """
    model = view.model
    back_to_family(model, view.adapter.layer_list, view.adapter.layout("attention").module)
    if not _differs(view):
        return
    common = _common_sizes(view)
    if common is not None and _stock_can_hold(model, common):
        for name, value in common.items():
            setattr(model.config, name, value)
        return
    _become_heterogeneous(view)


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
    if view.adapter.layout("attention").sizes.get("heads") in changed:
        changed["head_dim"] = view.adapter.head_dim(view.model.config)  # many families derive it from the heads
    return changed


def _stock_can_hold(model: PreTrainedModel, sizes: Mapping[str, int]) -> bool:
    """Whether the family's own class, built with these sizes, has exactly our parameters."""
    empty = stock_model(model, sizes)
    return empty is not None and shapes(empty) == shapes(model)


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
    model_class = heterogeneous_model(type(model), type(config))
    config.__class__ = heterogeneous_config(type(config))
    change_class(model, model_class)
    cast(Any, config).billhook = ours
    cast(Any, config).per_layer_config = per_layer


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
