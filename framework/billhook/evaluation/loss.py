"""The losses that perplexities, objectives and guards share, a few tokens at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

CPU_TOKENS, TOKENS = 32, 1024
"""Tokens whose logits are turned to float32 at a time, on the CPU and elsewhere. What a few tokens need stays in a
CPU's cache: several times faster than all at once, for 49,152 words."""


def loss_tokens(device: torch.device) -> int:
    """How many tokens' logits are best turned to float32 at a time: on a CPU few, which its cache holds."""
    return CPU_TOKENS if device.type == "cpu" else TOKENS


def summed_loss(logits: Tensor, labels: Tensor) -> float:
    """Cross-entropy in nats, summed over tokens; in float32, a few tokens at a time.

    Args:
        logits: ``[tokens, vocab]``, any float dtype.
        labels: the tokens that did follow, ``[tokens]`` int64, on the same device.
    """
    chunk = loss_tokens(logits.device)
    parts = zip(logits.split(chunk), labels.split(chunk), strict=True)
    return sum(float(cross_entropy(part.float(), label, reduction="sum")) for part, label in parts)


def summed_divergence(logits: Tensor, dense_logits: Tensor) -> float:
    """KL(dense ‖ model) in nats, summed over tokens; in float32, a few tokens at a time, never below 0.

    Args:
        logits: of the model in question, ``[tokens, vocab]``, any float dtype.
        dense_logits: of the dense model on the same tokens, same shape and device.
    """
    chunk, total = loss_tokens(logits.device), 0.0
    for ours, dense in zip(logits.split(chunk), dense_logits.split(chunk), strict=True):
        found, wanted = (log_softmax(part.float(), dim=-1) for part in (ours, dense))
        total += float(kl_div(found, wanted, reduction="sum", log_target=True))
    # rounding can leave a sum of positive terms just below 0; in this order, NaN stays NaN
    return max(total, 0.0)
