"""Stock models in which what is gone from a pruned one is there again, as zeros."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from billhook.errors import CheckpointError
from billhook.heterogeneous.configuration_billhook import global_value, overrides
from billhook.heterogeneous.family import head_dim, is_heterogeneous, stock_model
from billhook.model.branch import BRANCHES
from billhook.model.branch_layout import BranchLayout, Size
from billhook.model.surgery import entries_of, parameter_at
from billhook.model.writer import weight_rows


def padded(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the family's own class that computes what ``model`` does, up to rounding.

    Branches that are gone have zeros for weights, biases and norms, so they add nothing. Narrower ones are filled up
    with zeros to the widest of any layer, or to the unpruned width where the family's code takes no other; the units
    that are left come first. Layers that went as a whole stay gone. A model that is stock already comes back itself.

    Raises:
        CheckpointError: the model has inserted linear layers, for which a stock model has no place.
    """
    if not is_heterogeneous(model):
        return model
    _refuse_inserted(model)
    empty = _stock_frame(model)
    # built on the meta device and filled with these tensors: nothing is initialised at random, nor computed twice
    made = type(empty).from_pretrained(
        None,  # as documented where config and state_dict are given
        config=empty.config,
        state_dict=_filled(model, empty),
        dtype=model.dtype,
        attn_implementation=model.config._attn_implementation,
    )
    made.generation_config = copy.deepcopy(model.generation_config)
    made.to(model.device)  # type: ignore[arg-type] # transformers' decorator hides nn.Module.to's signature
    made.eval()
    return made


def _refuse_inserted(model: PreTrainedModel) -> None:
    ours = _ours(model)
    for position, paths in ours["inserted"].items():
        raise CheckpointError(
            f"The model cannot be padded: layer {ours['numbers'][int(position)]} has a linear layer inserted after "
            f"{next(iter(paths))}, for which a stock {ours['base']} has no place. Save it without padding, or prune "
            f"with the merger 'fold'."
        )


def _stock_frame(model: PreTrainedModel) -> PreTrainedModel:
    """The family's model on the meta device, its layers equal and as wide as the widest of ours."""
    channels, heads = _widest(model, "mlp"), _widest(model, "attention")
    width = head_dim(model.config, _layout(model, "attention").sizes["heads"])
    # head_dim: many families derive it from the number of heads; those that have no such field keep all heads
    for sizes in (heads | {"head_dim": width} | channels, channels):
        found = stock_model(model, sizes)
        if found is not None and (sizes is channels or _fits(found, model)):
            return found
    raise CheckpointError(f"The model cannot be padded: a stock {_ours(model)['base']} takes no layers of its sizes.")


def _widest(model: PreTrainedModel, branch: str) -> dict[str, int]:
    """Config values for the widest of the layers that have the branch; one channel where none has."""
    each = [sizes for position, _ in enumerate(_layers(model)) if (sizes := _sizes(model, position, branch))]
    names = _layout(model, branch).sizes.values()
    return {name: max((sizes[name] for sizes in each), default=1) for name in names}


def _sizes(model: PreTrainedModel, position: int, branch: str) -> dict[str, int] | None:
    """The branch's sizes in one layer, by the name of the config attribute; None if it is gone."""
    values = overrides(model.config).get(position, {})
    if branch in values.get("skip", ()):
        return None
    layout = _layout(model, branch)
    if branch == "mlp":
        return {layout.sizes["channels"]: _d_in(_layers(model)[position], layout)}
    return {name: values.get(name, global_value(model.config, name)) for name in layout.sizes.values()}


def _fits(frame: PreTrainedModel, model: PreTrainedModel) -> bool:
    """Whether the attention of the frame is as wide as the widest of ours: some families go by ``hidden_size``."""
    layout = _layout(model, "attention")
    there = [layer for n, layer in enumerate(_layers(model)) if _sizes(model, n, "attention")]
    layers = frame.get_submodule(_ours(model)["layout"]["layers"])
    return {_d_in(layer, layout) for layer in layers.children()} == {max(_d_in(layer, layout) for layer in there)}


def _filled(model: PreTrainedModel, frame: PreTrainedModel) -> dict[str, Tensor]:
    """A state for ``frame``: the model's own tensors, with zeros for what it does not have."""
    own = model.state_dict()
    state = {
        name: own[name] if name in own else torch.zeros_like(like, device=model.device, dtype=model.dtype)
        for name, like in frame.state_dict().items()
    }
    path = _ours(model)["layout"]["layers"]
    wide = cast(nn.ModuleList, frame.get_submodule(path))
    for position, layer in enumerate(_layers(model)):
        for branch in BRANCHES:
            for name, tensor in _spread_branch(model, branch, position, layer, wide[position]):
                state[f"{path}.{position}.{name}"] = tensor
    return state


def _spread_branch(
    model: PreTrainedModel, branch: str, position: int, layer: nn.Module, wide: nn.Module
) -> Iterator[tuple[str, Tensor]]:
    """The parameters of a branch that is narrower than in ``wide``, by path, filled up."""
    sizes, layout = _sizes(model, position, branch), _layout(model, branch)
    if sizes is None or _d_in(layer, layout) == _d_in(wide, layout):
        return
    by_name: dict[Size, int] = {size: sizes[name] for size, name in layout.sizes.items()}
    units = by_name.get("channels") or by_name.get("key_value_heads") or by_name["heads"]
    unit_width = _d_in(layer, layout) // units
    count = _d_in(wide, layout) // unit_width
    for path in (*layout.readers, layout.writer):
        is_writer = path == layout.writer
        ours, theirs = layer.get_submodule(path), wide.get_submodule(path)
        dim = 0 if is_writer == isinstance(ours, Conv1D) else 1  # Conv1D stores the transpose
        shape = cast(Tensor, theirs.weight).shape
        entries = entries_of(range(units), count, layout.shares(path, by_name), shape[dim])
        yield f"{path}.weight", _spread(cast(Tensor, ours.weight), shape, dim, entries)
        if not is_writer and isinstance(bias := getattr(ours, "bias", None), Tensor):
            yield f"{path}.bias", _spread(bias, shape[dim : dim + 1], 0, entries)
    for path in layout.per_head:
        mine, full = parameter_at(layer, path)[2], parameter_at(wide, path)[2]
        if mine is not None and full is not None:
            entries = entries_of(range(units), count, [layout.share(path, by_name)], len(full))
            yield path, _spread(mine, full.shape, 0, entries)


def _spread(tensor: Tensor, shape: torch.Size, dim: int, entries: Tensor) -> Tensor:
    """Zeros of ``shape`` with ``tensor`` at ``entries`` of dimension ``dim``."""
    return tensor.detach().new_zeros(shape).index_copy(dim, entries.to(tensor.device), tensor.detach())


def _ours(model: PreTrainedModel) -> dict[str, Any]:
    return cast("dict[str, Any]", cast(Any, model.config).billhook)


def _layout(model: PreTrainedModel, branch: str) -> BranchLayout:
    return BranchLayout.from_data(_ours(model)["layout"][branch])


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    return cast(nn.ModuleList, model.get_submodule(_ours(model)["layout"]["layers"]))


def _d_in(layer: nn.Module, layout: BranchLayout) -> int:
    """Width of the branch's writer."""
    return int(weight_rows(layer.get_submodule(layout.writer)).shape[0])
