"""The cosine loss written out token by token, and its minimum by a general optimiser: what estimators are held to."""

from __future__ import annotations

from typing import Literal

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity

from billhook import Rows
from billhook.testing import PlantedProblem

Form = Literal["approximate", "exact"]
forms = st.sampled_from(["approximate", "exact"])


def loss_of(problem: PlantedProblem, weight: Tensor, form: Form) -> float:
    """The mean of 1 − cos over tokens, token by token."""
    rows = problem.regression.all_rows
    values = []
    for x, residual, skip in zip(rows.x, rows.residual, rows.skip, strict=True):
        base = skip if form == "exact" else torch.zeros_like(skip)
        a, b = x @ weight.to(x) + base, residual + base
        values.append(1 - float(a @ b) / float(a.norm() * b.norm()))
    return sum(values) / len(values)


def minimised(rows: Rows, form: Form, *, l2: float = 0.0) -> Tensor:
    """The map with the least loss, from the identity on by L-BFGS in float64."""
    base = rows.skip if form == "exact" else torch.zeros_like(rows.skip)
    weight = torch.eye(rows.x.shape[1], dtype=rows.x.dtype).requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=1000, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        cosine = cosine_similarity(rows.x @ weight + base, rows.residual + base)
        loss = (1 - cosine).mean() + l2 * weight.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()
