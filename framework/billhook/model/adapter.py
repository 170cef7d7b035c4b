"""Adapter: how one model family is built, so that nothing else has to ask."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from billhook.model.branch import Branch
    from billhook.model.branch_layout import BranchLayout, Size


class Adapter(abc.ABC):
    """Knows where the parts of one family's residual layers are. Holds no model and no state.

    Most families are pure data: see :class:`billhook.model.declared_adapter.DeclaredAdapter`. Write a subclass of this
    class only for what data cannot express.

    Attributes:
        name: how messages call the family, for instance ``llama``.
        model_types: the ``config.model_type`` values this adapter serves.
        layer_list: dotted path of the layers, from the model.
        tiny_config: config arguments of a model with a few thousand parameters, for tests (``billhook.testing``).
    """

    name: str
    model_types: tuple[str, ...]
    layer_list: str
    tiny_config: Mapping[str, Any]

    @abc.abstractmethod
    def check(self, config: PreTrainedConfig) -> None:
        """Raise :class:`UnsupportedArchitecture` for a variant of the family that cannot be served."""

    @abc.abstractmethod
    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """The list of layers, in order."""

    @abc.abstractmethod
    def replace_layers(self, model: PreTrainedModel, layers: nn.ModuleList) -> None:
        """Put another list of layers in place of the present one."""

    @abc.abstractmethod
    def stream(self, layer_output: object) -> Tensor:
        """The residual stream ``[batch, seq, d_model]`` in what a layer's forward returned."""

    @abc.abstractmethod
    def as_layer_output(self, stream: Tensor) -> object:
        """The inverse of :meth:`stream`: ``stream`` in the shape that a layer's forward returns it in."""

    @abc.abstractmethod
    def writer(self, layer: nn.Module, branch: Branch) -> nn.Module:
        """The last linear map of the branch (``nn.Linear`` or ``Conv1D``)."""

    @abc.abstractmethod
    def output(self, layer: nn.Module, branch: Branch) -> str:
        """Path, from the layer, of the module whose output is added to the stream.

        The writer itself where the branch ends with it; a norm where one stands between writer and stream.
        """

    @abc.abstractmethod
    def scale(self, layer: nn.Module, branch: Branch) -> float:
        """The constant the output is multiplied by before it is added to the stream; 1 in most families."""

    @abc.abstractmethod
    def why_not_foldable(self, branch: Branch) -> str | None:
        """Why a map after the branch's output cannot be folded into its writer, or None when it can."""

    @abc.abstractmethod
    def layout(self, branch: Branch) -> BranchLayout:
        """Where the parts of the branch are."""

    @abc.abstractmethod
    def unit_count(self, layer: nn.Module, config: PreTrainedConfig, branch: Branch) -> int:
        """Units that the branch of this layer has now: key-value groups, or channels; 0 if it is gone."""

    @abc.abstractmethod
    def sizes(self, config: PreTrainedConfig, branch: Branch, units: int) -> Mapping[Size, int]:
        """The sizes of the branch when it has ``units`` units, by name."""

    def head_dim(self, config: PreTrainedConfig) -> int:
        """Columns that one attention head has; families that do not say it divide the stream by their heads."""
        from billhook.heterogeneous.family import head_dim  # not above: plugins load without torch

        return head_dim(config, self.layout("attention").sizes["heads"])

    @abc.abstractmethod
    def why_not_narrowable(self, config: PreTrainedConfig, branch: Branch) -> str | None:
        """Why the branch cannot lose some of its units exactly (a sentence), or None when it can."""
