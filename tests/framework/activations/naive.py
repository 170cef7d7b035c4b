"""What a model computes inside, read off one full forward by plain hooks: the reference for everything that runs layers
by themselves."""

from __future__ import annotations

from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from billhook import ModelView
from billhook.data.tokens import TokenBatch
from billhook.model.branch import Branch


@attrs.frozen(eq=False)
class Forward:
    """One full forward.

    Attributes:
        streams: entering each present layer, in order, and leaving the last one.
        written: by original layer number, what the asked branch added to the stream.
        logits: ``[batch, seq, vocab]``.
    """

    streams: list[Tensor]
    written: dict[int, Tensor]
    logits: Tensor


@torch.no_grad()
def forward(view: ModelView, batch: TokenBatch, branch: Branch = "mlp") -> Forward:
    """Run ``view``'s model once, with hooks on every layer and on the end of every ``branch``."""
    streams: list[Tensor] = []
    written: dict[int, Tensor] = {}

    def entering(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        streams.append(cast(Tensor, args[0] if args else kwargs["hidden_states"]).clone())

    def leaving(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        streams.append(view.adapter.stream(output).clone())

    def writing(number: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            written[number] = output.clone() * view.adapter.scale(view.layer(number), branch)

        return hook

    handles = [view.layers[-1].register_forward_hook(leaving)]
    for number in view.numbers:
        layer = view.layer(number)
        handles.append(layer.register_forward_pre_hook(entering, with_kwargs=True))
        handles.append(layer.get_submodule(view.adapter.output(layer, branch)).register_forward_hook(writing(number)))
    try:
        logits: Tensor = view.model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    shape = streams[0].shape
    return Forward(streams, {number: output.reshape(shape) for number, output in written.items()}, logits)
