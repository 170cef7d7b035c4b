"""DeclaredAdapter: a model family described by data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from billhook.errors import UnsupportedArchitecture
from billhook.model.adapter import Adapter
from billhook.model.branch_layout import BranchLayout, Refused, Size

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from billhook.model.branch import Branch


@attrs.frozen(kw_only=True)
class DeclaredAdapter(Adapter):
    """An adapter made of paths.

    Attributes:
        name: how messages call the family.
        model_types: the ``config.model_type`` values served.
        layer_list: dotted path of the layers, from the model.
        attention: the attention branch.
        mlp: the MLP branch.
        scale_attribute: attribute of a layer that holds the factor on both branches' outputs (Granite).
        returns_tuple: whether a layer returns ``(stream, ...)`` instead of the stream alone (Falcon).
        refused: config values that are turned away, with the reason.
        tiny_config: config arguments of a tiny model, for tests.
    """

    name: str
    model_types: tuple[str, ...]
    layer_list: str
    attention: BranchLayout
    mlp: BranchLayout
    scale_attribute: str | None = None
    returns_tuple: bool = False
    refused: tuple[Refused, ...] = ()
    tiny_config: Mapping[str, Any]

    def check(self, config: PreTrainedConfig) -> None:
        """Raise :class:`UnsupportedArchitecture` when a config value is among :attr:`refused`."""
        for rule in self.refused:
            if rule.holds(config):
                which = f" has {rule.attribute}={rule.value!r}" if rule.attribute else " cannot be served"
                raise UnsupportedArchitecture(f"This {self.name} model{which}: {rule.reason}")

    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """The module at :attr:`layer_list`."""
        found: nn.ModuleList = model.get_submodule(self.layer_list)  # type: ignore[assignment] # it is a list by declaration
        return found

    def replace_layers(self, model: PreTrainedModel, layers: nn.ModuleList) -> None:
        """Set the attribute that :attr:`layer_list` ends with."""
        parent, _, attribute = self.layer_list.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layers)

    def stream(self, layer_output: object) -> Tensor:
        """The output itself, or its first item."""
        return layer_output[0] if self.returns_tuple else layer_output  # type: ignore[index, return-value]

    def as_layer_output(self, stream: Tensor) -> object:
        """The stream itself, or in a tuple with no attention weights."""
        return (stream, None) if self.returns_tuple else stream

    def writer(self, layer: nn.Module, branch: Branch) -> nn.Module:
        """The module at the branch's ``writer``."""
        return layer.get_submodule(self.layout(branch).writer)

    def output(self, layer: nn.Module, branch: Branch) -> str:
        """The norm after the branch where there is one, the writer elsewhere."""
        layout = self.layout(branch)
        return layout.norm_after or layout.writer

    def scale(self, layer: nn.Module, branch: Branch) -> float:
        """The value of :attr:`scale_attribute`; the same for both branches."""
        return float(getattr(layer, self.scale_attribute)) if self.scale_attribute else 1.0

    def why_not_foldable(self, branch: Branch) -> str | None:
        """A reason if a norm follows the writer."""
        norm = self.layout(branch).norm_after
        if norm is None:
            return None
        return f"in {self.name} the norm {norm!r} stands between the {branch} writer and the residual stream"

    def layout(self, branch: Branch) -> BranchLayout:
        """:attr:`attention` or :attr:`mlp`."""
        return self.attention if branch == "attention" else self.mlp

    def unit_count(self, layer: nn.Module, config: PreTrainedConfig, branch: Branch) -> int:
        """From the width of the writer, so that it is right for layers of any size."""
        from billhook.heterogeneous.modeling_billhook import SkippedAttention, SkippedMLP
        from billhook.model.inserted import without_maps  # not above: plugins load without torch
        from billhook.model.writer import weight_rows

        layout = self.layout(branch)
        if isinstance(layer.get_submodule(layout.module), SkippedAttention | SkippedMLP):
            return 0
        width = weight_rows(without_maps(self.writer(layer, branch))).shape[0]
        return width // (self.head_dim(config) * self._queries_per_unit(config)) if branch == "attention" else width

    def sizes(self, config: PreTrainedConfig, branch: Branch, units: int) -> Mapping[Size, int]:
        """Query and key-value heads of that many groups, or that many channels."""
        if branch == "mlp":
            return {"channels": units}
        return {"heads": units * self._queries_per_unit(config), "key_value_heads": units}

    def why_not_narrowable(self, config: PreTrainedConfig, branch: Branch) -> str | None:
        """The reason of the first rule in ``rigid`` that the config meets."""
        for rule in self.layout(branch).rigid:
            if rule.holds(config):
                return f"in this {self.name} model {rule.reason}"
        return None

    def _queries_per_unit(self, config: PreTrainedConfig) -> int:
        """Query heads that read one key-value head."""
        from billhook.heterogeneous.configuration_billhook import global_value  # not above: plugins load without torch

        names = self.attention.sizes
        heads = global_value(config, names["heads"])
        return int(heads) // int(global_value(config, names.get("key_value_heads", names["heads"])))
