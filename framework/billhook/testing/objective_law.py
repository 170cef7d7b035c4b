"""check_objective: what every objective promises."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from billhook.cuts.drop_layers import DropLayers
from billhook.data.tokens import Tokens
from billhook.plugins.registry import Registry
from billhook.roles.objective import Objective, Predictions
from billhook.roles.state import PruningState
from billhook.search.scoring import score
from billhook.testing.expect import check_options, require
from billhook.testing.models import tiny_tokens, tiny_view
from billhook.testing.selector_law import Bare

TOKENS, WORDS = 40, 12
"""Shape of the predictions that objectives are shown."""

MEANS = (0.0, 1e-3, 0.1, 1.0, 3.0, 10.0, 100.0)
"""Mean losses of which each must be reported as more than the one before."""

TOLERANCE = 1e-4
"""Share by which float32 sums of the same losses in other groups may differ."""

ROUNDING = 2e-2
"""The same for losses of logits rounded to bfloat16, which has 8 bits, and reduced in float32."""


def check_objective(objective: Objective, *, registry: Registry | None = None) -> None:
    """Raise AssertionError unless ``objective`` keeps the promises of :class:`billhook.Objective`.

    Args:
        objective: what to check; its options as they are.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
    """
    for shown in _cases():
        _check_loss(objective, shown)
        _check_sum(objective, shown)
    _check_comparing(objective)
    _check_precision(objective)
    _check_broken(objective)
    _check_value(objective)
    _check_on_models(objective)
    check_options("objective", objective, registry)


def _cases() -> Iterator[Predictions]:
    """Unsure, sure and wrong, sure and right, and equal to the dense model."""
    labels = torch.randint(WORDS, (TOKENS,), generator=torch.Generator().manual_seed(0))
    right = 20 * torch.nn.functional.one_hot(labels, WORDS).float()
    for seed, size in enumerate((0.1, 1.0, 10.0)):
        noise = size * _noise(seed + 1)
        yield _shown(noise, labels, _noise(7))
        yield _shown(noise, labels, noise)
    yield _shown(right, labels, right + 0.1 * _noise(8))


def _noise(seed: int) -> Tensor:
    return torch.randn(TOKENS, WORDS, generator=torch.Generator().manual_seed(seed))


def _shown(logits: Tensor, labels: Tensor, dense: Tensor) -> Predictions:
    return Predictions(logits, labels, lambda: dense)


def _check_loss(objective: Objective, shown: Predictions) -> None:
    dense = shown.dense_logits()
    before = [tensor.clone() for tensor in (shown.logits, shown.labels, dense)]
    found = objective.loss(shown)
    require(isinstance(found, float), objective, f"a loss is a float; it gave a {type(found).__name__}")
    require(math.isfinite(found), objective, f"finite logits gave a loss of {found}")
    require(objective.loss(shown) == found, objective, "the same predictions gave two different losses")
    same = all(torch.equal(*pair) for pair in zip(before, (shown.logits, shown.labels, dense), strict=True))
    require(same, objective, "it changed the predictions that it was shown")
    if objective.nonnegative:
        require(found >= 0, objective, f"it says that no loss is ever negative, and gave {found}")


def _check_sum(objective: Objective, shown: Predictions) -> None:
    """Tokens come in groups of any size; a loss that is a mean, or looks at neighbours, is no sum."""
    dense = shown.dense_logits()
    parts = [
        objective.loss(_shown(shown.logits[part], shown.labels[part], dense[part]))
        for part in (slice(0, 1), slice(1, 9), slice(9, TOKENS))
    ]
    whole = objective.loss(shown)
    law = f"the loss must be the sum over tokens; in groups it came to {sum(parts)}, at once to {whole}"
    require(math.isclose(sum(parts), whole, rel_tol=TOLERANCE, abs_tol=TOLERANCE), objective, law)


def _check_comparing(objective: Objective) -> None:
    asked: list[bool] = []
    first = next(_cases())

    def dense() -> Tensor:
        asked.append(True)
        return first.dense_logits()

    objective.loss(Predictions(first.logits, first.labels, dense))
    if not objective.compares:
        require(not asked, objective, "it asked for the dense model's logits, and its 'compares' is False")
    else:
        require(bool(asked), objective, "its 'compares' is True, and it did not ask for the dense model's logits")


def _check_precision(objective: Objective) -> None:
    """Of many tokens in bfloat16: a sum in that precision would stop growing after some hundred."""
    many = 2000
    generator = torch.Generator().manual_seed(3)
    logits, dense = (torch.randn(many, WORDS, generator=generator).bfloat16() for _ in range(2))
    labels = torch.randint(WORDS, (many,), generator=generator)
    found = objective.loss(_shown(logits, labels, dense))
    wanted = objective.loss(_shown(logits.float(), labels, dense.float()))
    law = f"losses are reduced in float32 at least; bfloat16 logits gave {found} and the same in float32 {wanted}"
    require(math.isclose(found, wanted, rel_tol=ROUNDING, abs_tol=ROUNDING), objective, law)


def _check_broken(objective: Objective) -> None:
    """A candidate that computes NaN must not pass for a good one."""
    shown = next(_cases())
    found = objective.loss(_shown(shown.logits * math.nan, shown.labels, shown.dense_logits()))
    require(
        not math.isfinite(found), objective, f"logits that are NaN gave a loss of {found}, which could win a search"
    )


def _check_value(objective: Objective) -> None:
    means = MEANS if objective.nonnegative else (*(-mean for mean in MEANS[:0:-1]), *MEANS)
    values = [objective.value(mean) for mean in means]
    rising = all(one < other for one, other in itertools.pairwise(values))
    require(rising, objective, f"value() must grow with the mean; of {means} it made {values}")
    require(not math.isnan(objective.value(math.inf)), objective, "value() of an infinite mean is NaN")


def _check_on_models(objective: Objective) -> None:
    tokens = tiny_tokens(rows=5, seq=9, padding="both")
    ids = tokens.ids.clone()
    ids[~tokens.keep] = 7
    found = _scores(objective, tokens)
    require(all(map(math.isfinite, found)), objective, f"of the dense model and of one with a cut it made {found}")
    require(_scores(objective, tokens) == found, objective, "the same model gave two different values")
    again = _scores(objective, Tokens(ids=ids, keep=tokens.keep))
    # masked positions still pass through the matrix products of their batch: the last bits may differ
    same = all(math.isclose(*pair, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for pair in zip(found, again, strict=True))
    require(same, objective, f"what lies under padding counts: {found} became {again}")


def _scores(objective: Objective, tokens: Tokens) -> list[float]:
    """Of the dense model, and of one that has lost a layer."""
    with _state(tokens) as state:
        dense = score(state, objective)
        with state.trial(DropLayers(1, 2)):
            return [dense, score(state, objective)]


@contextmanager
def _state(tokens: Tokens) -> Iterator[PruningState]:
    state = PruningState(tiny_view(), tokens, merger=Bare(), tokens_per_batch=18)
    try:
        yield state
    finally:
        state.close()
