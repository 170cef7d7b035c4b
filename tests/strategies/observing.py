"""Activations of whole data sets, seen by plain hooks on one forward: the reference for everything that is streamed."""

from __future__ import annotations

import torch
from torch import Tensor

from billhook import ModelView, Tokens
from tests.framework.activations.naive import forward


def own_streams(view: ModelView, tokens: Tokens) -> Tensor:
    """The stream entering each layer and leaving the last, ``[layers + 1, tokens, d_model]`` float64, no padding."""
    (batch,) = tokens.batches(tokens.ids.numel())
    return torch.stack(forward(view, batch).streams)[:, tokens.keep].double()


def own_mlp_addition(view: ModelView, number: int, tokens: Tokens) -> Tensor:
    """What the MLP of layer ``number`` adds to the stream, ``[tokens, d_model]`` float64, no padding."""
    (batch,) = tokens.batches(tokens.ids.numel())
    return forward(view, batch, "mlp").written[number][tokens.keep].double()
