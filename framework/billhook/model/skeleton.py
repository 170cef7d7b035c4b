"""A second model of the same class and config without weights, and what only such a one can tell."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped] # it ships no types
from torch import Tensor, nn
from transformers import PreTrainedModel

CLOSE = 2**-7
"""Relative: what a value can lose by being rounded to bfloat16 once."""


def skeleton_of(model: PreTrainedModel) -> PreTrainedModel | None:
    """What the class of ``model`` builds from its config: parameters on the meta device, buffers with their values.

    None if it cannot be built so: an ``__init__`` that computes with its weights, or takes other arguments.
    """
    try:
        with init_empty_weights(include_buffers=False), _default_dtype(model.dtype):
            return type(model)(copy.deepcopy(model.config))
    except Exception:
        # somebody's own class may raise anything; what is asked of the skeleton is then left to the comparison of
        # the saved checkpoint
        return None


@torch.no_grad()
def renew_buffers(model: PreTrainedModel) -> PreTrainedModel:
    """Undo in place what a cast has done to buffers that no checkpoint holds, for instance rotary frequencies.

    ``model.to(torch.bfloat16)`` rounds them, and whoever loads the result has them in float32. Buffers are replaced,
    not written into; those that are further apart than rounding explains stay as they are.
    """
    fresh = skeleton_of(model)
    if fresh is None:
        return model
    wanted = dict(_unsaved_buffers(fresh))
    for path, present in list(_unsaved_buffers(model)):
        exact = wanted.get(path)
        if exact is not None and _was_rounded(present, exact):
            owner, _, name = path.rpartition(".")
            model.get_submodule(owner)._buffers[name] = exact.to(present.device)
    return model


def has_rounded_buffers(model: PreTrainedModel) -> bool:
    """Whether :func:`renew_buffers` would do anything."""
    if not any(True for _ in _unsaved_buffers(model)):
        return False
    fresh = skeleton_of(model)
    wanted = {} if fresh is None else dict(_unsaved_buffers(fresh))
    return any(path in wanted and _was_rounded(present, wanted[path]) for path, present in _unsaved_buffers(model))


def _was_rounded(present: Tensor, exact: Tensor) -> bool:
    if present.shape != exact.shape or (present.dtype == exact.dtype and torch.equal(present.cpu(), exact)):
        return False
    return torch.allclose(present.cpu().double(), exact.double(), rtol=CLOSE, atol=2**-24)  # float16's smallest step


def _unsaved_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """By path: the float buffers that are in no state dict."""
    for path, module in model.named_modules():
        for name in module._non_persistent_buffers_set:
            buffer = module._buffers.get(name)
            if buffer is not None and buffer.is_floating_point():
                yield f"{path}.{name}" if path else name, buffer


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """As transformers builds models: buffers made of Python numbers get the model's dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
