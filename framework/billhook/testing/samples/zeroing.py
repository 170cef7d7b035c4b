"""The zeroed model: the reference for what a model must compute after any cut."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.model.view import ModelView


def zeroed(view: ModelView, *cuts: Cut) -> PreTrainedModel:
    """A copy of ``view``'s model in which what the cuts take away adds nothing.

    Made of forward hooks on the whole model: of a branch that goes, zeros join the stream, biases and norms
    notwithstanding; of one that gets narrower, what the lost units hand to the writer is multiplied by 0. No layer is
    removed, no weight touched, no config changed. So it shares nothing with the code it is there to judge.

    Several cuts may concern one branch, in the order in which they are to be made.

    Raises:
        TypeError: a kind of cut that says neither which branches go nor which get narrower.
    """
    model = copy.deepcopy(view.model)
    layers = view.adapter.layers(model)
    for cut in cuts:
        if not cut.branches and not cut.narrowed:
            raise TypeError(f"The zeroed model cannot tell what {type(cut).__name__} takes: it names no branches.")
        for number, branch in cut.branches:
            layer = layers[view.numbers.index(number)]
            layer.get_submodule(view.adapter.output(layer, branch)).register_forward_hook(_zeros)
        for (number, branch), kept in cut.narrowed.items():
            writer = view.adapter.writer(layers[view.numbers.index(number)], branch)
            writer.register_forward_pre_hook(_Muffled(view.units(number, branch), kept))
    model.eval()
    return model


def _zeros(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)


class _Muffled:
    """Forward pre-hook of a writer: what units other than ``kept`` hand it, times 0. Units lie side by side."""

    def __init__(self, present: Collection[int], kept: Collection[int]) -> None:
        self._factors = torch.tensor([float(unit in kept) for unit in present])

    def __call__(self, writer: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        inner = args[0]  # [..., units * width of a unit]
        by_unit = inner.unflatten(-1, (len(self._factors), -1))
        return ((by_unit * self._factors.to(inner)[:, None]).flatten(-2), *args[1:])
