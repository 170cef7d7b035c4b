"""ModelView: a model seen through its adapter, in the original layer numbers."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedModel

from billhook import layer_lists
from billhook.errors import CalibrationError, UnusableModel
from billhook.writer import all_finite

if TYPE_CHECKING:
    from billhook.adapter import Adapter
    from billhook.cut import Branch


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
    ) -> None:
        adapter.check(model.config)
        self.model = model
        self.adapter = adapter
        self.numbers: tuple[int, ...] = tuple(range(len(self.layers)) if numbers is None else numbers)
        self.original_layer_count = len(self.layers) if original_layer_count is None else original_layer_count

    def copy(self) -> ModelView:
        """The same model with modules and config of its own, *sharing every tensor*.

        Costs milliseconds and no weight memory. Whoever changes a weight must replace the parameter, never
        write into it (``billhook.writer`` does so); then copies stay independent.
        """
        shared = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        return ModelView(copy.deepcopy(self.model, shared), self.adapter, self.numbers, self.original_layer_count)

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

    def drop_layers(self, gone: Collection[int]) -> None:
        """Remove layers by original number: the list, every ``layer_idx``, and the config.

        Raises:
            InvalidCut: the config cannot express what is left. Nothing is changed then.
        """
        kept = [position for position, number in enumerate(self.numbers) if number not in gone]
        changes = layer_lists.shortened(self.model.config, kept)
        survivors = nn.ModuleList(self.layers[position] for position in kept)
        self.adapter.replace_layers(self.model, survivors)
        layer_lists.assign(self.model.config, changes)
        self.numbers = tuple(self.numbers[position] for position in kept)
        for position, layer in enumerate(survivors):
            _renumber(layer, position)


def _renumber(layer: nn.Module, position: int) -> None:
    """Key-value caches have one slot a layer and are indexed by ``layer_idx``, which any submodule may hold."""
    for module in layer.modules():
        if isinstance(getattr(module, "layer_idx", None), int):
            module.layer_idx = position  # type: ignore[assignment] # an int attribute, not a submodule


def refuse_long_rows(model: PreTrainedModel, seq: int) -> None:
    """Turn away rows that run off a table of positions (GPT-2, OPT); computed positions (rotary) have no end.

    Raises:
        CalibrationError: rows of ``seq`` tokens are longer than the table.
    """
    words = model.get_input_embeddings()
    has_table = any(isinstance(module, nn.Embedding) and module is not words for module in model.modules())
    limit = getattr(model.config, "max_position_embeddings", None)
    if has_table and isinstance(limit, int) and seq > limit:
        raise CalibrationError(
            f"Rows of {seq} tokens are too long: this {model.config.model_type} model has {limit} positions. "
            f"Use a smaller seqlen."
        )


def refuse_unusable(model: PreTrainedModel) -> None:
    """Turn away models whose weights cannot be pruned as they are.

    Raises:
        UnusableModel: the model is quantised, lies partly on the meta device, or has weights that are NaN or
            infinite. Names the first such weight.
    """
    if getattr(model, "is_quantized", False) or getattr(model.config, "quantization_config", None):
        raise UnusableModel(
            "This model is quantised, and folding needs its weights in floating point. "
            "Load the original checkpoint, prune it, and quantise the result."
        )
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise UnusableModel(
                f"Weight {name} lies on the meta device (offloaded). Load the model without offloading."
            )
        if not parameter.is_floating_point():
            raise UnusableModel(f"Weight {name} is stored as {parameter.dtype}. Load the model unquantised.")
        if not all_finite(parameter):
            raise UnusableModel(f"Weight {name} holds NaN or infinite values. The checkpoint is damaged; load another.")
