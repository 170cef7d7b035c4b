"""ModelView: a model seen through its adapter, in the original layer numbers."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from billhook.errors import InvalidCut
from billhook.heterogeneous.family import back_to_family
from billhook.heterogeneous.modeling_billhook import (
    SkippedAttention,
    SkippedMLP,
    cache_slots,
    number_layers,
)
from billhook.model import layer_lists
from billhook.model.acceptance import is_compiled, rebound
from billhook.model.branch import BRANCHES

if TYPE_CHECKING:
    from billhook.model.adapter import Adapter
    from billhook.model.branch import Branch, Place
    from billhook.model.layer_version import LayerVersion

AnyModule = TypeVar("AnyModule", bound=nn.Module)

Units = Mapping[tuple[int, "Branch"], tuple[int, ...]]
"""By layer and branch: original numbers of the units still there, where some have gone."""


class ModelView:
    """A model, the adapter that explains it, and which original layers are still there.

    Attributes:
        model: the transformers model; after cuts still an ordinary one, with fewer layers.
        adapter: where its parts are.
        numbers: original numbers of the layers it still has, ascending.
        original_layer_count: layers of the model that the numbers count in.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: Adapter,
        numbers: Sequence[int] | None = None,
        original_layer_count: int | None = None,
        units: Units | None = None,
    ) -> None:
        adapter.check(model.config)
        self.model = model
        self.adapter = adapter
        self.numbers: tuple[int, ...] = tuple(range(len(self.layers)) if numbers is None else numbers)
        self.original_layer_count = len(self.layers) if original_layer_count is None else original_layer_count
        self._units: dict[tuple[int, Branch], tuple[int, ...]] = dict(units or {})

    def copy(self) -> ModelView:
        """The same model with modules and config of its own, *sharing every tensor*.

        Costs milliseconds and no weight memory. Whoever changes a weight must replace the parameter, never
        write into it (as ``billhook.replace_weight`` does); then copies stay independent.
        """
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        model = copy.deepcopy(self.model, shared)
        for module in model.modules():
            if is_compiled(module):  # it computes what it was made of: the model that is copied
                del module.forward
        return ModelView(model, self.adapter, self.numbers, self.original_layer_count, self._units)

    def with_layer(self, number: int, layer: nn.Module) -> ModelView:
        """The same model with another module in the place of a layer. Shares everything else, config included.

        Costs microseconds: to try things out. The modules of the present model are not to be changed through it.
        """
        path = self.adapter.layer_list.split(".")
        model = _shallow(self.model)
        parent: nn.Module = model
        for name in path[:-1]:
            child = _shallow(parent.get_submodule(name))
            setattr(parent, name, child)
            parent = child
        layers = list(self.layers)
        layers[self.numbers.index(number)] = layer
        setattr(parent, path[-1], nn.ModuleList(layers))
        return ModelView(model, self.adapter, self.numbers, self.original_layer_count, self._units)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers still there."""
        return self.adapter.layers(self.model)

    def layer(self, number: int) -> nn.Module:
        """The layer with this original number; ``ValueError`` if it is gone."""
        return self.layers[self.numbers.index(number)]

    @property
    def has_gaps(self) -> bool:
        """Whether a layer before the last one is gone."""
        return self.numbers != tuple(range(len(self.numbers)))

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the input embeddings."""
        return next(self.model.get_input_embeddings().parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and so of the stream."""
        return self.model.dtype

    @property
    def parameter_count(self) -> int:
        """All parameters, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def layer_parameter_count(self) -> int:
        """Parameters of the layers still there (the backbone)."""
        return sum(p.numel() for p in self.layers.parameters())

    @property
    def bytes_per_parameter(self) -> float:
        """Mean bytes a parameter takes."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters()) / self.parameter_count

    def writer(self, number: int, branch: Branch) -> nn.Module:
        """The writer of a branch of the layer with this original number."""
        return self.adapter.writer(self.layer(number), branch)

    def units(self, number: int, branch: Branch) -> tuple[int, ...]:
        """Original numbers of the units that a branch still has (key-value groups, or channels); none if it is gone."""
        if number not in self.numbers:
            return ()
        known = self._units.get((number, branch))
        if known is None:
            return tuple(range(self.adapter.unit_count(self.layer(number), self.model.config, branch)))
        return known

    def has_branch(self, number: int, branch: Branch) -> bool:
        """Whether this layer is there and still has the branch."""
        if number not in self.numbers:
            return False
        # asked of the module and not of its units, which only a writer with readable weights can tell
        module = self.layer(number).get_submodule(self.adapter.layout(branch).module)
        return not isinstance(module, SkippedAttention | SkippedMLP)

    def branches(self) -> list[Place]:
        """The branches that are there, in the order of the stream. Parallel ones count attention first."""
        return [(number, branch) for number in self.numbers for branch in BRANCHES if self.has_branch(number, branch)]

    def describe_layer(self, number: int) -> str:
        """What is left of a layer, as a sentence for messages."""
        if number not in self.numbers:
            return f"The model has no layer {number}" + (" any more." if number < self.original_layer_count else ".")
        heads, channels = (len(self.units(number, branch)) for branch in ("attention", "mlp"))
        return f"Layer {number} has {heads or 'no'} key-value groups and {channels or 'no'} channels."

    def refuse_without_attention(self, numbers: Collection[int], what: str, *, whole: bool) -> None:
        """Raise :class:`InvalidCut` if a key-value cache could not work without the attention of these layers.

        ``whole``: they go altogether, so that another layer may become the first.
        """
        kinds = getattr(self.model.config, "layer_types", None) or ["attention"] * len(self.numbers)
        left = [
            (kind, self.has_branch(n, "attention") and n not in numbers)
            for n, kind in zip(self.numbers, kinds, strict=False)
            if not (whole and n in numbers)
        ]
        try:
            cache_slots([kind for kind, _ in left], [attends for _, attends in left])
        except ValueError as error:
            raise InvalidCut(f"{what} cannot be dropped: {error}.") from error

    def adopt(self, other: ModelView) -> None:
        """Be a view of what ``other``, a changed copy of this one, is a view of."""
        self.model, self.numbers, self._units = other.model, other.numbers, dict(other._units)

    def change_layers(self, changes: Mapping[int, LayerVersion | None]) -> None:
        """Put new versions in the place of layers, and drop those whose version is None.

        The list, every ``layer_idx``, and what the config says of the layers' number and kinds; sizes in the config
        follow when the last cut has been made.

        Raises:
            InvalidCut: the config cannot express what is left. Nothing is changed then.
        """
        attention = self.adapter.layout("attention").module
        back_to_family(self.model, self.adapter.layer_list, attention)
        kept = [position for position, number in enumerate(self.numbers) if changes.get(number, self) is not None]
        config_changes = layer_lists.shortened(self.model.config, kept) if len(kept) < len(self.numbers) else {}
        layers = list(self.layers)
        for number, version in changes.items():
            if version is not None:
                layers[self.numbers.index(number)] = version.module
                self._units |= {(number, branch): units for branch, units in version.units.items()}
        survivors = nn.ModuleList(layers[position] for position in kept)
        self.adapter.replace_layers(self.model, survivors)
        layer_lists.assign(self.model.config, config_changes)
        self.numbers = tuple(self.numbers[position] for position in kept)
        number_layers(list(survivors), attention, self.model.config)

    def drop_layers(self, gone: Collection[int]) -> None:
        """Remove layers by original number: :meth:`change_layers` with None for each."""
        self.change_layers(dict.fromkeys(gone))


def _shallow(module: AnyModule) -> AnyModule:
    """A module of its own with the same children and parameters."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    if "forward" in vars(module):  # accelerate's hooks, kernels put on by hand: both know the module they belong to
        rebound(module, twin)
    return twin
