"""Curvature: how much the loss rises when a writer changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import torch
from torch import Tensor, nn

from billhook.errors import SingularProblem
from billhook.measures.passes import in_passes
from billhook.model.writer import all_finite, weight_rows
from billhook.regression.fast_products import power_of_two
from billhook.regression.moments import Moments

if TYPE_CHECKING:
    from billhook.data.tokens import TokenBatch
    from billhook.model.branch import Place
    from billhook.model.view import ModelView
    from billhook.roles.state import PruningState

TOKENS_AT_ONCE = 1024
"""Whose activations in all layers are kept for the backward pass."""


@attrs.frozen(eq=False)
class WriterCurvature:
    """Kronecker factors of the Fisher information of one writer (K-FAC; for pruning LLM Surgeon, arXiv 2312.17244).

    When what the writer adds changes by ``x D``, the loss rises by about ``½ tr(outer Dᵀ inner D)`` nats per token.
    Errors of different tokens, and of different writers, are taken to be independent.

    Attributes:
        inner: mean of ``x xᵀ`` of what the writer reads, ``[d_inner, d_inner]`` float64. Tokens count by ``‖g‖²``, the
            square of their gradient: attention sinks, hundreds of times as large as the others, hardly matter to it.
        outer: mean of ``g gᵀ``, ``[d_out, d_out]`` float64; g is the gradient, by what the writer writes, of the log
            likelihood of a row of tokens that the model itself might have written.
    """

    inner: Tensor
    outer: Tensor

    @property
    def root(self) -> Tensor:
        """L with ``L Lᵀ = outer``, ``[d_out, d_out]`` float64: behind ``x D L``, squared errors are twice the rise."""
        values, vectors = torch.linalg.eigh(self.outer)
        root: Tensor = vectors * values.clamp_min(0).sqrt()
        return root


@attrs.frozen(eq=False)
class _Sums:
    """Of one writer, over the tokens so far."""

    inner: Moments
    outer: Tensor

    @classmethod
    def empty(cls, d_inner: int, d_out: int, device: torch.device) -> _Sums:
        moments = Moments.empty(d_inner, 0, device)
        return cls(moments, moments.xx.new_zeros(d_out, d_out))

    def add(self, x: Tensor, gradient: Tensor) -> None:
        g = gradient.to(self.outer)
        self.inner.add(x, x[:, :0], power_of_two(g.square().sum(1)))
        self.outer.addmm_(g.T, g)

    def factors(self) -> WriterCurvature:
        inner, count = self.inner, self.inner.token_count
        return WriterCurvature(inner.xx.cpu() / inner.weight, self.outer.cpu() / count)


def measure_curvature(
    state: PruningState, places: Sequence[Place], *, tokens: int | None = None
) -> Iterator[tuple[Place, WriterCurvature]]:
    """How the loss of the present model rises with errors of what its writers write, on the calibration tokens.

    One pass forward and back for as many writers as 2 GiB hold matrices of; who is done with one before asking for the
    next never holds those of all. The labels are drawn from the model's own predictions (that makes it the Fisher
    information, which no text that happens to be surprising can distort), with a fixed seed. Padding does not count.
    No weight is changed, and none gets a gradient.

    Args:
        state: model and data.
        places: the branches, as ``(layer, branch)``; the model must have each.
        tokens: on so many of the tokens at most, in rows spread over the data; all if None.

    Returns:
        Each place with the curvature of its writer, in the order of ``places``.

    Raises:
        SingularProblem: a logit or a gradient is not finite.
    """
    width = max((weight_rows(state.model.writer(*place)).shape[0] for place in places), default=1)
    for part in in_passes(places, width):
        sums = _collected(state, part, tokens)
        for place in part:
            yield place, sums.pop(place).factors()


def _collected(state: PruningState, places: Sequence[Place], tokens: int | None) -> dict[Place, _Sums]:
    """By one pass forward and back."""
    view = state.model
    generator = torch.Generator(view.device).manual_seed(0)
    batches = state.tokens.some(tokens).batches(TOKENS_AT_ONCE)
    sums: dict[Place, _Sums] = {}
    for index, batch in enumerate(batches):
        for place, (x, gradient) in _gradients(view, places, batch.to(view.device), generator).items():
            sums.setdefault(place, _Sums.empty(x.shape[1], gradient.shape[1], x.device)).add(x, gradient)
        state.progress("selecting", index + 1, len(batches))
    for (number, branch), found in sums.items():
        if not all_finite(found.outer):
            raise SingularProblem(
                f"The gradient of layer {number}'s {branch} is not finite. Run the model in bfloat16 or float32."
            )
    return sums


def _gradients(
    view: ModelView, places: Collection[Place], batch: TokenBatch, generator: torch.Generator
) -> dict[Place, tuple[Tensor, Tensor]]:
    """Of the real tokens: what each writer reads ``[tokens, d_inner]``, and the gradient ``[tokens, d_out]``."""
    with _recorded(view, places) as notes, torch.enable_grad():
        logits = view.model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False).logits
        wanted = [notes[place].output for place in places]
        found = torch.autograd.grad(logits, wanted, _score(logits.detach(), batch.keep, generator))

    def real(entries: Tensor) -> Tensor:
        return entries.detach().reshape(*batch.keep.shape, -1)[batch.keep]  # OPT flattens batch and seq in its MLP

    return {place: (real(notes[place].inner), real(gradient)) for place, gradient in zip(places, found, strict=True)}


@torch.no_grad()
def _score(logits: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
    """The gradient by the logits of the log likelihood of labels drawn from them; 0 on padding."""
    if not all_finite(logits):
        raise SingularProblem("The model's logits are not finite. Run it in bfloat16 or float32.")
    likely = logits.float().softmax(-1)
    labels = torch.multinomial(likely.flatten(0, 1), 1, generator=generator).view(*keep.shape, 1)
    gradient = -likely
    gradient.scatter_add_(-1, labels, torch.ones_like(labels, dtype=gradient.dtype))
    return (gradient * keep[..., None]).to(logits.dtype)


class _Notes:
    """What went through one writer."""

    def __init__(self) -> None:
        self.inner = self.output = torch.empty(0)

    def __call__(self, writer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.inner, self.output = args[0].detach(), output


@contextmanager
def _recorded(view: ModelView, places: Collection[Place]) -> Iterator[dict[Place, _Notes]]:
    """Hooks on the writers, and one that lets gradients flow although no weight may ask for them."""

    def flows(embedding: nn.Module, args: Any, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    notes = {place: _Notes() for place in places}
    embeddings = view.model.get_input_embeddings()
    handles = [embeddings.register_forward_hook(flows)]
    handles += [view.writer(*place).register_forward_hook(note) for place, note in notes.items()]
    try:
        yield notes
    finally:
        for handle in handles:
            handle.remove()
