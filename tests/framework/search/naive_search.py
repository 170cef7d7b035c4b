"""The naive search, the reference for the one that computes nothing twice: for every candidate in every step a model of
its own, all data through all of it, whole logits in float64, the loss written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import attrs
import torch
from torch import Tensor
from transformers import PreTrainedModel

from billhook import Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView, Tokens
from billhook.errors import InvalidCut
from billhook.model.branch import Branch
from billhook.testing import zeroed

Loss = Literal["perplexity", "kl", "mixture"]
"""What is minimised, by the names that the built-in objectives are registered under."""

Candidates = Callable[[ModelView], Sequence[Cut]]
"""What may go from the present model, in the order that decides ties."""

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")


@attrs.frozen(eq=False)
class NaiveStep:
    """One step of the naive search.

    Attributes:
        cut: the winner.
        scores: of every candidate, in the order in which they were tried.
    """

    cut: Cut
    scores: Mapping[Cut, float]

    @property
    def score(self) -> float:
        """The winner's."""
        return self.scores[self.cut]

    @property
    def lead(self) -> float:
        """By which share the runner-up is worse: in float32 a search cannot see one that is far below 1e-6."""
        best, *others = sorted(self.scores.values())
        return min(((other - best) / max(abs(best), 1e-9) for other in others), default=1.0)


@torch.no_grad()
def logits(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    """All of them, ``[rows, seq, vocab]`` float64."""
    found: Tensor = model(input_ids=tokens.ids, attention_mask=tokens.keep.long(), use_cache=False).logits
    return found.double()


def naive_score(model: PreTrainedModel, dense: PreTrainedModel, tokens: Tokens, loss: Loss, kl: float = 0.5) -> float:
    """The objective of ``model``: over every real token whose predecessor in its row is real."""
    follows = tokens.keep[:, :-1] & tokens.keep[:, 1:]
    labels = tokens.ids[:, 1:][follows]
    found, wanted = (logits(each, tokens)[:, :-1][follows] for each in (model, dense))  # [tokens, vocab]
    found, wanted = (each - each.exp().sum(-1, keepdim=True).log() for each in (found, wanted))
    likelihood = -float(found[range(len(labels)), labels].mean())
    divergence = float((wanted.exp() * (wanted - found)).sum(-1).mean())
    if loss == "perplexity":
        return math.exp(likelihood)
    return divergence if loss == "kl" else (1 - kl) * likelihood + kl * divergence


def naive_step(
    view: ModelView,
    cuts: Iterable[Cut],
    tokens: Tokens,
    loss: Loss,
    *,
    done: Sequence[Cut] = (),
    dense: ModelView | None = None,
) -> NaiveStep:
    """Try every cut on ``view`` without ``done``; the first of the best wins. It is the dense model unless told."""
    reference = (dense or view).model
    scores = {cut: naive_score(zeroed(view, *done, cut), reference, tokens, loss) for cut in cuts}
    best = min(scores.values())
    return NaiveStep(next(cut for cut, score in scores.items() if score == best), scores)


def naive_search(dense: ModelView, candidates: Candidates, tokens: Tokens, loss: Loss, steps: int) -> list[NaiveStep]:
    """The best cut, made; then the best of the rest, and so on."""
    present, found = dense.copy(), list[NaiveStep]()
    for _ in range(steps):
        done = [step.cut for step in found]
        found.append(naive_step(dense, candidates(present), tokens, loss, done=done))
        found[-1].cut.remove_from(present)
    return found


def naive_layer_tokens(dense: ModelView, candidates: Candidates, tokens: Tokens, cuts: Iterable[Cut]) -> int:
    """Tokens through layers, summed, if every candidate runs all that would be left of the model in its step."""
    present, layers = dense.copy(), 0
    for cut in cuts:
        for candidate in candidates(present):
            smaller = present.copy()
            candidate.remove_from(smaller)
            layers += len(smaller.numbers)
        cut.remove_from(present)
    return layers * tokens.ids.numel()


def branches(view: ModelView) -> list[Cut]:
    """Every branch that can go."""
    return possible(view, [DropBranch(number, branch) for number in view.numbers for branch in BRANCHES])


def layers(view: ModelView) -> list[Cut]:
    """Every layer that can go."""
    return possible(view, [DropLayers(number, number + 1) for number in view.numbers])


def channels(view: ModelView) -> list[Cut]:
    """The last third of the channels of every MLP."""
    kept = {
        number: view.units(number, "mlp")[: -max(1, len(view.units(number, "mlp")) // 3)] for number in view.numbers
    }
    return possible(view, [KeepChannels(number, units) for number, units in kept.items() if units])


def heads(view: ModelView) -> list[Cut]:
    """The last key-value group of every attention."""
    kept = {number: view.units(number, "attention")[:-1] for number in view.numbers}
    return possible(view, [KeepHeads(number, units) for number, units in kept.items() if units])


def mixed(view: ModelView) -> list[Cut]:
    """Everything, one kind after the other."""
    return [*heads(view), *layers(view), *channels(view), *branches(view)]


def possible(view: ModelView, cuts: Iterable[Cut]) -> list[Cut]:
    """Those that the view can lose."""
    return [cut for cut in cuts if fits(view, cut)]


def fits(view: ModelView, cut: Cut) -> bool:
    """Whether the view can lose it."""
    try:
        cut.check(view)
    except InvalidCut:
        return False
    return True
