"""check_objective: what every objective promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import attrs
import torch
from torch import Tensor

from billhook.cuts.drop_layers import DropLayers
from billhook.data.tokens import Tokens
from billhook.plugins.registry import Registry
from billhook.roles.objective import Objective, Predictions
from billhook.roles.state import PruningState
from billhook.search.scoring import score
from billhook.testing.conformance.expect import Snapshot, check_frozen, check_options, process_unchanged, require
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.samples.bare import Bare
from billhook.testing.samples.models import tiny_tokens, tiny_view

TOKENS, WORDS = 40, 12
"""Shape of the predictions that objectives are shown."""

MEANS = (0.0, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0)
"""Mean losses of which each must be reported as more than the one before."""

TOLERANCE = 1e-4
"""Share by which float32 sums of the same losses in other groups may differ."""

ROUNDING = 1e-3
"""The same for losses of single tokens in bfloat16, summed in float32: their errors cancel out over 2,000 tokens. A sum
in bfloat16, which has 8 bits, is off by up to four times as much."""


def check_objective(
    objective: Objective, *, registry: Registry | None = None, expected_failures: Mapping[str, str] | None = None
) -> None:
    """Raise AssertionError unless ``objective`` keeps the promises of :class:`billhook.Objective`.

    Args:
        objective: what to check; its options as they are.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(objective_laws(objective, registry=registry, expected_failures=expected_failures))


def objective_laws(
    objective: Objective, *, registry: Registry | None = None, expected_failures: Mapping[str, str] | None = None
) -> list[Law]:
    """What :func:`check_objective` tests, each law for itself; arguments as there."""
    trial = _Trial(objective)
    promises: list[Promise] = [
        ("frozen", "an objective is a final, frozen attrs class", partial(check_frozen, objective)),
        ("options", "options survive JSON", partial(check_options, "objective", objective, registry)),
        ("loss", "a loss is a finite float, and the same for the same predictions", trial.loss),
        ("process", "nothing that the whole process shares is changed", trial.process),
        ("untouched", "predictions are read, not written to", trial.untouched),
        ("sum", "the loss is the sum over tokens, each for itself, whatever group they come in", trial.sums),
        ("compares", "'compares' says whether the dense model's logits are asked for", trial.compares),
        ("direction", "lower is better: negate what should grow", trial.direction),
        ("precision", "sum up in float32 at least: use .float() before the reduction", trial.precision),
        ("broken", "logits that are NaN give a loss that is not finite", trial.broken),
        ("value", "value() grows with the mean", trial.value),
        ("models", "whole models get finite values, the same each time", trial.models),
        ("padding", "what lies under padding does not count", trial.padding),
    ]
    return suite(objective, promises, expected_failures)


def _cases() -> Iterator[Predictions]:
    """Unsure, sure and wrong, sure and right, and equal to the dense model."""
    labels = _labels()
    right = _sure(labels)
    for seed, size in enumerate((0.1, 1.0, 10.0)):
        noise = size * _noise(seed + 1)
        yield _shown(noise, labels, _noise(7))
        yield _shown(noise, labels, noise)
    yield _shown(right, labels, right + 0.1 * _noise(8))


def _labels() -> Tensor:
    return torch.randint(WORDS, (TOKENS,), generator=torch.Generator().manual_seed(0))


def _sure(labels: Tensor) -> Tensor:
    return 20 * torch.nn.functional.one_hot(labels, WORDS).float()


def _noise(seed: int, words: int = WORDS) -> Tensor:
    return torch.randn(TOKENS, words, generator=torch.Generator().manual_seed(seed))


def _shown(logits: Tensor, labels: Tensor, dense: Tensor) -> Predictions:
    return Predictions(logits, labels, lambda: dense)


@attrs.frozen
class _Trial:
    """An objective, on predictions made for it and on whole models."""

    objective: Objective

    def loss(self) -> None:
        losses = [self._loss(shown) for shown in _cases()]
        law = f"it gives {losses[0]} for everything that it is shown"
        require(len(set(losses)) > 1, self.objective, law)
        words = 3 * WORDS  # nobody has said how many words there are
        self._loss(_shown(_noise(1, words), _labels() + WORDS, _noise(2, words)))

    def _loss(self, shown: Predictions) -> float:
        objective = self.objective
        found = objective.loss(shown)
        require(isinstance(found, float), objective, f"a loss is a float; it gave a {type(found).__name__}")
        require(math.isfinite(found), objective, f"finite logits gave a loss of {found}")
        require(objective.loss(shown) == found, objective, "the same predictions gave two different losses")
        if objective.nonnegative:
            require(found >= 0, objective, f"it says that no loss is ever negative, and gave {found}")
        return found

    def process(self) -> None:
        with process_unchanged(self.objective):
            for shown in _cases():
                self.objective.loss(shown)
            self.objective.value(1.0)

    def untouched(self) -> None:
        for shown in _cases():
            dense = shown.dense_logits()
            before = [tensor.clone() for tensor in (shown.logits, shown.labels, dense)]
            self.objective.loss(shown)
            same = all(torch.equal(*pair) for pair in zip(before, (shown.logits, shown.labels, dense), strict=True))
            require(same, self.objective, "it changed the predictions that it was shown")

    def sums(self) -> None:
        """Tokens come in groups of any size; a loss that is a mean, or looks at neighbours, is no sum."""
        for shown in _cases():
            dense = shown.dense_logits()
            parts = [
                self.objective.loss(_shown(shown.logits[part], shown.labels[part], dense[part]))
                for part in (slice(0, 1), slice(1, 9), slice(9, TOKENS))
            ]
            whole = self.objective.loss(shown)
            law = f"the loss must be the sum over tokens; in groups it came to {sum(parts)}, at once to {whole}"
            close = math.isclose(sum(parts), whole, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            require(close, self.objective, law)
            order = torch.arange(TOKENS).flip(0)
            turned = self.objective.loss(_shown(shown.logits[order], shown.labels[order], dense[order]))
            law = f"the loss must be the sum over tokens, in any order; turned round it came to {turned}, not {whole}"
            close = math.isclose(turned, whole, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
            require(close, self.objective, law)

    def compares(self) -> None:
        objective, asked, first = self.objective, list[bool](), next(_cases())

        def dense() -> Tensor:
            asked.append(True)
            return first.dense_logits()

        objective.loss(Predictions(first.logits, first.labels, dense))
        if not objective.compares:
            require(not asked, objective, "it asked for the dense model's logits, and its 'compares' is False")
        else:
            law = "its 'compares' is True, and it did not ask for the dense model's logits"
            require(bool(asked), objective, law)

    def direction(self) -> None:
        labels = _labels()
        right, wrong = _sure(labels), _sure((labels + 1) % WORDS)
        losses = [self.objective.loss(_shown(logits, labels, right)) / TOKENS for logits in (right, wrong)]
        better = losses[0] <= losses[1] and self.objective.value(losses[0]) <= self.objective.value(losses[1])
        law = f"sure and right loses to sure and wrong, {losses[0]:.4g} to {losses[1]:.4g}"
        require(better, self.objective, law)
        near = self.objective.loss(_shown(_noise(1), labels, _noise(1))) / TOKENS
        if self.objective.compares:
            far = self.objective.loss(_shown(wrong + _noise(2), labels, _noise(1))) / TOKENS
            law = f"equal to the dense model loses to far from it: {near:.4g} to {far:.4g}"
            require(near <= far, self.objective, law)

    def precision(self) -> None:
        """Of many tokens in bfloat16: a sum in that precision would stop growing after some hundred."""
        many = 2000
        for seed in range(3, 7):
            generator = torch.Generator().manual_seed(seed)
            logits, dense = (torch.randn(many, WORDS, generator=generator).bfloat16() for _ in range(2))
            labels = torch.randint(WORDS, (many,), generator=generator)
            found = self.objective.loss(_shown(logits, labels, dense))
            wanted = self.objective.loss(_shown(logits.float(), labels, dense.float()))
            law = f"losses are reduced in float32 at least; bfloat16 logits gave {found} and the same in float32"
            close = math.isclose(found, wanted, rel_tol=ROUNDING, abs_tol=ROUNDING)
            require(close, self.objective, f"{law} {wanted}")

    def broken(self) -> None:
        """A candidate that computes NaN must not pass for a good one."""
        shown = next(_cases())
        one = shown.logits.clone()
        one[3] = math.nan
        for logits, which in ((shown.logits * math.nan, "are NaN"), (one, "are NaN after one token")):
            found = self.objective.loss(_shown(logits, shown.labels, shown.dense_logits()))
            law = f"logits that {which} gave a loss of {found}, which could win a search"
            require(not math.isfinite(found), self.objective, law)

    def value(self) -> None:
        objective = self.objective
        means = MEANS if objective.nonnegative else (*(-mean for mean in MEANS[:0:-1]), *MEANS)
        values = [objective.value(mean) for mean in means]
        plain = all(isinstance(value, float) for value in values)
        require(plain, objective, f"value() gives floats; got {values}")
        rising = all(one < other for one, other in itertools.pairwise(values))
        require(rising, objective, f"value() must grow with the mean; of {means} it made {values}")
        infinite = objective.value(math.inf)
        require(not math.isnan(infinite), objective, "value() of an infinite mean is NaN")
        for mean, large in ((1e4, objective.value(1e4)), (math.inf, infinite)):
            law = f"value() must grow with the mean; of {mean} it made {large}, and {values[-1]} of {means[-1]}"
            require(large >= values[-1], objective, law)
        nan = objective.value(math.nan)
        require(not math.isfinite(nan), objective, f"value() of a mean that is NaN is {nan}, which could win a search")

    def models(self) -> None:
        tokens = tiny_tokens(rows=5, seq=9, padding="both")
        found = _scores(self.objective, tokens)
        law = f"of the dense model and of one with a cut it made {found}"
        require(all(map(math.isfinite, found)), self.objective, law)
        law = "the same model gave two different values"
        require(_scores(self.objective, tokens) == found, self.objective, law)

    def padding(self) -> None:
        tokens = tiny_tokens(rows=5, seq=9, padding="both")
        ids = tokens.ids.clone()
        ids[~tokens.keep] = 7
        found, again = (_scores(self.objective, each) for each in (tokens, Tokens(ids=ids, keep=tokens.keep)))
        # masked positions still pass through the matrix products of their batch: the last bits may differ
        same = all(math.isclose(*pair, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for pair in zip(found, again, strict=True))
        require(same, self.objective, f"what lies under padding counts: {found} became {again}")


def _scores(objective: Objective, tokens: Tokens) -> list[float]:
    """Of the dense model, and of one that has lost a layer."""
    with _state(tokens) as state:
        before = Snapshot(state.dense)
        dense = score(state, objective)
        with state.trial(DropLayers(1, 2)):
            found = [dense, score(state, objective)]
        before.require_same(objective, "an objective changes no model")
        return found


@contextmanager
def _state(tokens: Tokens) -> Iterator[PruningState]:
    state = PruningState(tiny_view(), tokens, merger=Bare(), tokens_per_batch=18)
    try:
        yield state
    finally:
        state.close()
