"""Curvature: against the Fisher information summed over all labels, and against a rise of the loss that is measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from billhook import ModelView, PruningState, Tokens
from billhook.errors import SingularProblem
from billhook.measures.curvature import measure_curvature
from billhook.model.branch import Place
from billhook.model.writer import replace_weight, weight_rows
from billhook.testing import tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold

LAST: Place = (2, "mlp")
"""Behind it no token sees another: its Fisher information can be summed up token by token."""


def state_of(view: ModelView, tokens: Tokens) -> PruningState:
    return PruningState(view, tokens, merger=Fold())


def test_the_last_writers_fisher_information_is_that_of_all_labels() -> None:
    """Drawn labels against the expectation over the whole vocabulary, token by token."""
    view, tokens = tiny_view(num_hidden_layers=3), tiny_tokens(rows=64, seq=16)
    state = state_of(view, tokens)
    found = dict(measure_curvature(state, [LAST]))[LAST]
    written: list[Tensor] = []

    def note(writer: torch.nn.Module, args: Any, output: Tensor) -> Tensor:
        written.append(output.detach().requires_grad_())
        return written[-1]

    handle = view.writer(*LAST).register_forward_hook(note)
    logp = view.model(input_ids=tokens.ids, use_cache=False).logits.double().log_softmax(-1)
    handle.remove()
    outer = torch.zeros_like(found.outer)
    for label in range(logp.shape[-1]):
        (gradient,) = torch.autograd.grad(logp[..., label].sum(), written[0], retain_graph=True)
        each = gradient.double() * logp[..., label, None].exp().sqrt().detach()
        outer += each.flatten(0, 1).T @ each.flatten(0, 1)
    outer /= tokens.token_count
    # one label a token: 1024 draws leave each direction about 1/sqrt(512) uncertain, the trace less
    assert float(found.outer.trace()) == pytest.approx(float(outer.trace()), rel=0.1)
    assert float((found.outer - outer).norm() / outer.norm()) < 0.2
    state.close()


def test_the_loss_rises_by_what_the_curvature_says() -> None:
    """KL divergence from the model to one whose last writer is a little off."""
    view, tokens = tiny_view(num_hidden_layers=3), tiny_tokens(rows=64, seq=16)
    state = state_of(view, tokens)
    found = dict(measure_curvature(state, [LAST]))[LAST]
    rows = weight_rows(view.writer(*LAST))
    change = (
        torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * 0.02 * rows.norm() / rows.numel() ** 0.5
    )
    said = float((found.outer @ change.double().T @ found.inner @ change.double()).trace()) / 2
    behind = float(((change.double() @ found.root).T @ found.inner @ (change.double() @ found.root)).trace()) / 2
    assert behind == pytest.approx(said, rel=1e-9)  # the same number in another order
    other = view.copy()
    before = view.model(input_ids=tokens.ids).logits.double().log_softmax(-1)
    replace_weight(other.writer(*LAST), rows + change, None)
    after = other.model(input_ids=tokens.ids).logits.double().log_softmax(-1)
    kl = float((before.exp() * (before - after)).sum(-1).mean().detach())
    # 1024 drawn labels, and activations taken to be independent of gradients
    assert said == pytest.approx(kl, rel=0.25)
    state.close()


def test_padding_neither_counts_nor_draws_gradients() -> None:
    view = tiny_view(num_hidden_layers=3)
    ids = tiny_tokens(rows=4, seq=12).ids
    keep = torch.ones_like(ids, dtype=torch.bool)
    keep[:, 8:] = False
    other = ids.masked_fill(~keep, 3)
    found = []
    for given in (ids, other):
        state = state_of(view, Tokens(ids=given, keep=keep))
        found.append(dict(measure_curvature(state, [(2, "attention")]))[2, "attention"])
        state.close()
    # the draws at padded places differ, and may not matter; sums of float32 gradients in another order
    assert float((found[0].inner - found[1].inner).norm() / found[0].inner.norm()) < 1e-5


def test_it_leaves_no_trace_on_the_model() -> None:
    view = tiny_view(num_hidden_layers=3)
    for parameter in view.model.parameters():
        parameter.requires_grad_(False)
    state = state_of(view, tiny_tokens())
    places: list[Place] = [(0, "attention"), (1, "mlp")]
    first, again = (dict(measure_curvature(state, places, tokens=30)) for _ in range(2))
    assert list(first) == places
    for place in places:
        assert torch.equal(first[place].outer, again[place].outer)  # seeded
        assert not view.writer(*place)._forward_hooks
    assert all(p.grad is None and not p.requires_grad for p in view.model.parameters())
    state.close()


def test_logits_that_are_not_finite_are_refused() -> None:
    view = tiny_view(num_hidden_layers=3)
    writer = view.writer(*LAST)
    replace_weight(writer, weight_rows(writer) * math.inf, None)
    state = state_of(view, tiny_tokens())
    with pytest.raises(SingularProblem, match=r"logits are not finite\. Run it in bfloat16 or float32"):
        dict(measure_curvature(state, [(0, "mlp")]))
    state.close()


def test_gradients_that_are_not_finite_are_refused() -> None:
    view = tiny_view(num_hidden_layers=3)
    state = state_of(view, tiny_tokens())

    def overflow(layer: torch.nn.Module, entering: Any, leaving: Any) -> Any:
        return tuple(None if gradient is None else gradient * math.inf for gradient in entering)

    handle = view.layer(2).register_full_backward_hook(overflow)
    state.model = view  # a state works on copies without hooks
    with pytest.raises(SingularProblem, match=r"gradient of layer 0's mlp is not finite"):
        dict(measure_curvature(state, [(0, "mlp")]))
    handle.remove()
    state.close()
