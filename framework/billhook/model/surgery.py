"""New versions of a layer that has lost something, made beside the old one. They share every tensor that stays."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from billhook.heterogeneous.modeling_billhook import set_counts, skip_branch
from billhook.model.branch import Branch
from billhook.model.branch_layout import BranchLayout, Size
from billhook.model.inserted import without_maps
from billhook.model.writer import bias_of, replace_weight, weight_rows


def copy_of(layer: nn.Module) -> nn.Module:
    """The layer with modules of its own, sharing tensors and configs."""
    shared: dict[int, object] = {id(t): t for t in (*layer.parameters(), *layer.buffers())}
    for module in layer.modules():
        shared |= {id(value): value for value in vars(module).values() if isinstance(value, PreTrainedConfig)}
    return copy.deepcopy(layer, shared)


def without_branch(layer: nn.Module, branch: Branch, layout: BranchLayout) -> nn.Module:
    """A version of the layer in which the branch adds nothing; its parameters are gone.

    Args:
        layer: as it is now; stays so, and shares every tensor that is left.
        branch: which is there.
        layout: of the branch, as the adapter has it.
    """
    version = copy_of(layer)
    skip_branch(version, branch, layout.to_data())
    return version


def with_branch_of(layer: nn.Module, whole: nn.Module, layout: BranchLayout) -> nn.Module:
    """A version of the layer whose MLP reads and writes as that of ``whole`` does, the same layer before cuts.

    Not for an attention: its counts, and what it has for each head, would stay those of the narrower one.
    """
    version = copy_of(layer)
    for path in (*layout.readers, layout.writer):
        parent, _, name = path.rpartition(".")
        setattr(version.get_submodule(parent), name, whole.get_submodule(path))
    return version


def narrowed(
    layer: nn.Module, layout: BranchLayout, kept: Sequence[int], count: int, sizes: Mapping[Size, int]
) -> nn.Module:
    """A version of the layer in which a branch has only some of its units.

    Args:
        layer: as it is now.
        layout: of the branch.
        kept: positions of the units that stay, among the ``count`` present ones, ascending.
        count: units that the branch has now.
        sizes: the branch's sizes afterwards, by the names of :data:`billhook.model.branch_layout.Size`.
    """
    version = copy_of(layer)
    for path in layout.readers:
        reader = version.get_submodule(path)
        rows = weight_rows(reader)
        outputs = entries_of(kept, count, layout.shares(path, sizes), rows.shape[1]).to(rows.device)
        bias = bias_of(reader)
        replace_weight(reader, rows[:, outputs], None if bias is None else bias[outputs])
    for path in layout.per_head:
        owner, name, parameter = parameter_at(version, path)
        if parameter is not None:
            entries = entries_of(kept, count, [layout.share(path, sizes)], len(parameter)).to(parameter.device)
            setattr(owner, name, nn.Parameter(parameter.detach()[entries], requires_grad=parameter.requires_grad))
    writer = without_maps(version.get_submodule(layout.writer))
    rows = weight_rows(writer)
    replace_weight(writer, rows[entries_of(kept, count, [1], rows.shape[0]).to(rows.device)], None)  # its bias stays
    now: dict[str, int] = {str(size): number for size, number in sizes.items()}
    set_counts(version, layout.to_data(), now | {"width": weight_rows(writer).shape[0]})
    return version


def parameter_at(layer: nn.Module, path: str) -> tuple[nn.Module, str, nn.Parameter | None]:
    """The module that owns the parameter at ``path``, its name there, and itself; None if this layer has none."""
    place, _, name = path.rpartition(".")
    try:
        owner = layer.get_submodule(place)
    except AttributeError:
        return layer, name, None
    found = getattr(owner, name, None)
    return owner, name, found if isinstance(found, nn.Parameter) else None


def entries_of(kept: Sequence[int], count: int, shares: Sequence[int], width: int) -> Tensor:
    """Indices of the kept units' entries among ``width`` ones, which lie in blocks of ``shares`` a unit."""
    unit = width // (count * sum(shares))
    parts, start = [], 0
    for share in shares:
        size = share * unit  # entries of one unit in this block
        parts.append((start + torch.tensor(kept)[:, None] * size + torch.arange(size)).flatten())
        start += count * size
    return torch.cat(parts)
