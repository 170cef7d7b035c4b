"""Wrong objectives, each caught by the law that it breaks."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from billhook import Objective, Predictions
from billhook.testing import check_objective


def nll(predictions: Predictions) -> float:
    return float(cross_entropy(predictions.logits.float(), predictions.labels, reduction="sum"))


def kl(predictions: Predictions) -> float:
    ours, dense = (log_softmax(t.float(), -1) for t in (predictions.logits, predictions.dense_logits()))
    return max(float(kl_div(ours, dense, reduction="sum", log_target=True)), 0.0)


def made(loss: Callable[[Predictions], Any] = nll, **members: Any) -> Callable[[], Objective]:
    """An objective with this loss; what it is made of breaks no law."""
    return attrs.frozen(type("Wrong", (Objective,), {"loss": lambda self, shown: loss(shown), **members}))


def valued(value: Callable[[float], Any], **members: Any) -> Callable[[], Objective]:
    return made(value=lambda self, mean: value(mean), **members)


def hits(predictions: Predictions) -> float:
    if predictions.logits.isnan().any():
        return math.nan
    return float((predictions.logits.argmax(-1) == predictions.labels).sum())


def coarse(predictions: Predictions) -> float:
    found = cross_entropy(predictions.logits, predictions.labels, reduction="none")
    total = torch.zeros((), dtype=found.dtype)
    for loss in found:
        total = total + loss
    return float(total)


def per_group(predictions: Predictions) -> float:
    """Of the tokens of a group the worst counts double."""
    found = cross_entropy(predictions.logits.float(), predictions.labels, reduction="none")
    return float(found.sum() + found.max())


def neighbours(predictions: Predictions) -> float:
    found = cross_entropy(predictions.logits.float(), predictions.labels, reduction="none")
    return float(found[0] * 0.5 + found[1:].sum())


def positional(predictions: Predictions) -> float:
    """Counts tokens the less the later they come in what it is shown."""
    found = cross_entropy(predictions.logits.float(), predictions.labels, reduction="none")
    return float((found * torch.linspace(1, 0.5, len(found))).sum())


def written(predictions: Predictions, name: str) -> float:
    found = nll(predictions)
    tensor = predictions.dense_logits() if name == "dense" else getattr(predictions, name)
    tensor.add_(1)
    return found


def changing(change: Callable[[], object]) -> Callable[[Predictions], float]:
    def loss(predictions: Predictions) -> float:
        change()
        return nll(predictions)

    return loss


@functools.cache
def calls() -> list[int]:
    return []


def drifting(predictions: Predictions) -> float:
    calls().append(1)
    return nll(predictions) + 1e-3 * len(calls())


class Plain(Objective):
    """No attrs class."""

    def loss(self, predictions: Predictions) -> float:
        return nll(predictions)


@attrs.define
class Mutable(Objective):
    weight: float = 1.0

    def loss(self, predictions: Predictions) -> float:
        return self.weight * nll(predictions)


@attrs.frozen
class Signed(Objective):
    nonnegative = False

    def loss(self, predictions: Predictions) -> float:
        return nll(predictions) - len(predictions.labels)


COMPARES = {"compares": True}
MUTANTS = [
    Mutant("plain class", Plain, "frozen", "Put @attrs.frozen above it"),
    Mutant("mutable", Mutable, "frozen", "can be changed after it is built"),
    Mutant("a tensor", made(lambda s: torch.tensor(nll(s))), "loss", "a loss is a float; it gave a Tensor"),
    Mutant("an integer", made(lambda s: 0 if s.logits.isnan().any() else int(nll(s))), "loss", "it gave a int"),
    Mutant("nothing", made(lambda s: None), "loss", "it gave a NoneType"),
    Mutant("constant", made(lambda s: 1.0), "loss", "it gives 1.0 for everything"),
    Mutant("always 0", made(lambda s: 0.0), "loss", "it gives 0.0 for everything"),
    Mutant("always NaN", made(lambda s: math.nan), "loss", "finite logits gave a loss of nan"),
    Mutant("draws lots", made(lambda s: nll(s) * (1 + float(torch.rand(())))), "loss", "two different losses"),
    Mutant("drifts", made(drifting), "loss", "two different losses"),
    Mutant(
        "overflows",
        made(lambda s: math.inf if (x := nll(s)) > 10 * len(s.labels) else x),
        "loss",
        "finite logits gave a loss of inf",
    ),
    Mutant("exponential", made(lambda s: float(torch.tensor(nll(s)).exp())), "loss", "gave a loss of inf"),
    Mutant(
        "negative, it denies",
        made(lambda s: nll(s) - len(s.labels)),
        "loss",
        "says that no loss is ever negative, and gave -",
    ),
    Mutant(
        "knows its words", made(lambda s: nll(s) + 0 * float((s.logits * torch.ones(12)).sum())), "loss", "RuntimeError"
    ),
    Mutant("seeds", made(changing(lambda: torch.manual_seed(0))), "process", "torch's random numbers"),
    Mutant("draws Python's numbers", made(changing(random.random)), "process", "Python's random numbers"),
    Mutant("default dtype", made(changing(lambda: torch.set_default_dtype(torch.float64))), "process", "default dtype"),
    Mutant("threads", made(changing(lambda: torch.set_num_threads(2))), "process", "the number of threads"),
    Mutant("no gradients", made(changing(lambda: torch.set_grad_enabled(False))), "process", "gradients are recorded"),
    Mutant("writes into logits", made(lambda s: written(s, "logits")), "untouched|loss", "it changed the pred|two"),
    Mutant(
        "writes into labels", made(lambda s: written(s, "labels")), "untouched|loss", "it changed the pred|two|Index"
    ),
    Mutant(
        "writes into the dense logits",
        made(lambda s: written(s, "dense"), compares=True),
        "untouched|loss",
        "it changed the predictions|two different losses",
    ),
    Mutant("a mean", made(lambda s: nll(s) / len(s.labels)), "sum", "the loss must be the sum over tokens; in groups"),
    Mutant("a root", made(lambda s: nll(s) ** 0.5), "sum", "the loss must be the sum over tokens; in groups"),
    Mutant("worst of a group", made(per_group), "sum", "the loss must be the sum over tokens; in groups"),
    Mutant("halves the first", made(neighbours), "sum", "the loss must be the sum over tokens"),
    Mutant("by position", made(positional), "sum", "the loss must be the sum over tokens"),
    Mutant("adds one a group", made(lambda s: nll(s) + 1), "sum", "the loss must be the sum over tokens; in groups"),
    Mutant("asks secretly", made(lambda s: (s.dense_logits(), nll(s))[1]), "compares", "and its 'compares' is False"),
    Mutant("compares, it says", made(compares=True), "compares", "and it did not ask for the dense model's logits"),
    Mutant("accuracy", made(hits), "direction", "sure and right loses to sure and wrong"),
    Mutant(
        "log-likelihood",
        made(lambda s: -nll(s), nonnegative=False),
        "direction",
        "sure and right loses to sure and wrong",
    ),
    Mutant(
        "next but one",
        made(lambda s: nll(Predictions(s.logits, (s.labels - 11) % 12, s.dense_logits))),
        "direction",
        "sure and right loses to sure and wrong",
    ),
    Mutant(
        "likeness to the dense model",
        made(lambda s: -kl(s), nonnegative=False, compares=True),
        "direction",
        "sure and right loses|far from it",
    ),
    Mutant("value turned round", valued(lambda m: -m), "direction|value", "sure and right loses|must grow"),
    Mutant("sum in bfloat16", made(coarse), "precision", "losses are reduced in float32 at least"),
    Mutant(
        "reduction in bfloat16",
        made(lambda s: float(cross_entropy(s.logits, s.labels, reduction="sum"))),
        "precision",
        "losses are reduced in float32 at least",
    ),
    Mutant(
        "rounds to bfloat16",
        made(lambda s: float(torch.tensor(nll(s), dtype=s.logits.dtype))),
        "precision|sum",
        "losses are reduced in float32 at least",
    ),
    Mutant(
        "rounds to tens", made(lambda s: nll(s) if s.logits.isnan().any() else 10 * float(nll(s) // 10)), "sum", "sum"
    ),
    Mutant("NaN is nothing", made(lambda s: max(0.0, nll(s))), "broken", "are NaN gave a loss of 0.0"),
    Mutant("NaN to number", made(lambda s: float(torch.tensor(nll(s)).nan_to_num(0.0))), "broken", "are NaN gave"),
    Mutant(
        "skips NaN tokens",
        made(lambda s: nll(Predictions(s.logits.nan_to_num(0.0), s.labels, s.dense_logits))),
        "broken",
        "are NaN gave a loss",
    ),
    Mutant(
        "skips tokens with NaN",
        made(
            lambda s: (
                float(x.nansum())
                if not (x := cross_entropy(s.logits.float(), s.labels, reduction="none")).isnan().all()
                else math.nan
            )
        ),
        "broken",
        "are NaN after one token gave a loss",
    ),
    Mutant("capped", valued(lambda m: min(m, 5.0)), "value", r"value\(\) must grow with the mean"),
    Mutant("rounded", valued(lambda m: m if not math.isfinite(m) else float(round(m))), "value", "must grow"),
    Mutant("squared", valued(lambda m: m * m, nonnegative=False), "value|direction", "must grow|loses"),
    Mutant("inverse", valued(lambda m: 1 / (1e-9 + m) if m != math.inf else 0.0), "value|direction", "grow|loses"),
    Mutant("overflows in value", valued(math.exp), "value", "OverflowError|must grow"),
    Mutant("NaN for infinite", valued(lambda m: m - m if math.isinf(m) else m), "value", "infinite mean is NaN"),
    Mutant("0 for infinite", valued(lambda m: 0.0 if math.isinf(m) else m), "value", "of inf it made 0.0"),
    Mutant("0 for NaN", valued(lambda m: 0.0 if math.isnan(m) else m), "value", "mean that is NaN is 0.0"),
    Mutant("value of a text", valued(lambda m: f"{m}"), "value", r"value\(\) gives floats|TypeError"),
]


@pytest.mark.parametrize("mutant", sampled(MUTANTS))
def test_a_wrong_objective_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_objective)


def safe_exp(mean: float) -> float:
    return math.exp(mean) if mean < 700 else math.inf if mean == mean else math.nan


@pytest.mark.parametrize(
    "control",
    [
        made()(),
        made(kl, compares=True)(),
        made(lambda s: 2 * nll(s) + kl(s), compares=True)(),
        Signed(),
        valued(safe_exp)(),
        made(lambda s: len(s.labels) - hits(s))(),
        made(lambda s: float(cross_entropy(s.logits.float(), s.labels, reduction="sum", label_smoothing=0.2)))(),
    ],
    ids=["nll", "kl", "mixture", "signed", "perplexity", "errors", "smoothed"],
)
def test_a_right_objective_passes(control: Objective) -> None:
    check_objective(control)
