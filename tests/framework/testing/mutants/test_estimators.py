"""Wrong estimators, each caught by the law that it breaks."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import pytest
import torch
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled

from billhook import Estimator, LinearMap, Moments, Needs, Regression, Rows
from billhook.errors import InvalidConfig, SingularProblem
from billhook.testing import check_estimator, random_map
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import Ridge

NONE = {"recovers": None}


def solved(regression: Regression) -> LinearMap:
    return LeastSquares().estimate(regression)


def made(estimate: Callable[..., Any], needs: Needs = Needs.MOMENTS) -> Callable[[], Estimator]:
    """An estimator that estimates so; what it is made of breaks no law."""
    methods = {"needs": needs, "estimate": lambda self, regression: estimate(regression)}
    return attrs.frozen(type("Wrong", (Estimator,), methods))


def declaring_weights(estimate: Callable[[Regression], LinearMap]) -> Callable[[], Estimator]:
    """One that reads rows and says that it uses their weights."""
    methods = {"needs": Needs.ROWS, "weighs_rows": True, "estimate": lambda self, regression: estimate(regression)}
    return attrs.frozen(type("Wrong", (Estimator,), methods))


def declaring(**members: Any) -> Callable[[], Estimator]:
    """Least squares that says something else of itself."""
    methods = {"estimate": lambda self, regression: solved(regression), **members}
    return attrs.frozen(type("Wrong", (Estimator,), methods))


def biased(regression: Regression) -> LinearMap:
    return LeastSquares(bias=True).estimate(regression)


def refusing_writers(regression: Regression) -> LinearMap:
    if regression.d_in != regression.d_out:
        raise InvalidConfig("square maps only")
    return solved(regression)


def of_rows(rows: Iterator[Rows] | list[Rows], regression: Regression, weights: Any = None) -> LinearMap:
    """Least squares of some rows."""
    if not regression.moments().is_finite() or regression.moments().token_count == 0:
        raise SingularProblem("not finite")
    moments = Moments.empty(regression.d_in, regression.d_out)
    for part in rows:
        moments.add(part.x, part.residual, None if weights is None else weights(part))
    return LinearMap(regression.prior + torch.linalg.pinv(moments.xx) @ (moments.xr - moments.xx @ regression.prior))


def scaled(regression: Regression, factor: float) -> LinearMap:
    return LinearMap(factor * solved(regression).weight)


def refusing(regression: Regression, weight: torch.Tensor) -> LinearMap:
    """A map of our own, where a right estimator would give one."""
    solved(regression)
    return LinearMap(weight)


def unless_square(wrong: Callable[[Regression], torch.Tensor]) -> Callable[[Regression], LinearMap]:
    return lambda r: solved(r) if r.d_in == r.d_out else refusing(r, wrong(r))


def with_state(change: Callable[[], object]) -> Callable[[Regression], LinearMap]:
    def estimate(regression: Regression) -> LinearMap:
        change()
        return solved(regression)

    return estimate


def written(regression: Regression, name: str) -> LinearMap:
    found = solved(regression)
    getattr(regression.moments(), name).add_(1.0)
    return found


def rows_written(regression: Regression, name: str) -> LinearMap:
    found = of_rows(regression.batches(), regression)
    getattr(next(regression.batches()), name).mul_(2)
    return found


def undetermined(regression: Regression, value: float) -> LinearMap:
    """What is not determined gets a value."""
    found, dead = solved(regression), regression.moments().xx.diagonal() == 0
    weight = found.weight.clone()
    weight[dead] = value
    return LinearMap(weight)


def plain_solve(regression: Regression) -> LinearMap:
    moments = regression.moments()
    if not moments.is_finite() or moments.token_count == 0:
        raise SingularProblem("not finite")
    return LinearMap(torch.linalg.inv(moments.xx) @ moments.xr)


def merged(regression: Regression) -> Moments:
    """The sums, held-out tokens included."""
    held_out = regression.held_out()
    return regression.moments() if held_out is None else regression.moments() + held_out


def least(moments: Moments, regression: Regression) -> LinearMap:
    solved(regression)
    return LinearMap(regression.prior + torch.linalg.pinv(moments.xx) @ (moments.xr - moments.xx @ regression.prior))


def unweighted(regression: Regression) -> LinearMap:
    """Takes the number of tokens for their weight."""
    moments, found = regression.moments(), solved(regression)
    shift = float(moments.weight) / max(moments.token_count, 1) - 1
    return LinearMap(found.weight * (1 + 0.01 * shift))


@functools.cache
def first_ever(d_in: int, d_out: int) -> list[LinearMap]:
    return []


def remembered(regression: Regression) -> LinearMap:
    known = first_ever(regression.d_in, regression.d_out)
    if not known:
        known.append(solved(regression))
    return known[0] if regression.moments().is_finite() else solved(regression)


def opposite_bias(regression: Regression) -> LinearMap:
    found = LeastSquares(bias=True).estimate(regression)
    return LinearMap(found.weight, None if found.bias is None else -found.bias)


def noisy(regression: Regression) -> LinearMap:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(regression.d_in, regression.d_out, generator=generator, dtype=torch.float64)
    return refusing(regression, regression.prior + noise)


@attrs.frozen
class Attrs(Estimator):
    def estimate(self, regression: Regression) -> LinearMap:
        return solved(regression)


class Plain(Estimator):
    """No attrs class: its options would be lost."""

    def __init__(self, strength: float = 0.5) -> None:
        self.strength = strength

    def estimate(self, regression: Regression) -> LinearMap:
        return solved(regression)


@attrs.define
class Mutable(Estimator):
    strength: float = 0.5

    def estimate(self, regression: Regression) -> LinearMap:
        return solved(regression)


@attrs.frozen
class Counting(Estimator):
    calls: list[int] = attrs.field(factory=list)

    def estimate(self, regression: Regression) -> LinearMap:
        self.calls.append(1)
        return LinearMap(solved(regression).weight + 1e-9 * len(self.calls))


RECOVERS = "recovers"
MUTANTS = [
    Mutant("plain class", Plain, "frozen", "Put @attrs.frozen above it"),
    Mutant("mutable options", Mutable, "frozen", "can be changed after it is built"),
    Mutant("a tensor", made(lambda r: solved(r).weight), "answer", "the answer is a Tensor, no LinearMap"),
    Mutant("a pair", made(lambda r: (solved(r).weight, None)), "answer", "the answer is a tuple"),
    Mutant(
        "narrow", made(lambda r: LinearMap(solved(r).weight[:, :-1])), "answer", r"is \[8, 7\], not \[d_in, d_out\]"
    ),
    Mutant("rounded to bfloat16", made(lambda r: LinearMap(solved(r).weight.bfloat16())), "answer", "torch.bfloat16"),
    Mutant("rounded to float16", made(lambda r: LinearMap(solved(r).weight.half())), "answer", "torch.float16"),
    Mutant("integers", made(lambda r: LinearMap(solved(r).weight.long())), "answer", "torch.int64"),
    Mutant("wants gradients", made(lambda r: LinearMap(solved(r).weight.requires_grad_())), "answer", "requires grad"),
    Mutant("NaN", made(lambda r: refusing(r, r.prior * float("nan"))), "answer", "not finite", NONE),
    Mutant(
        "infinite bias",
        made(lambda r: LinearMap(solved(r).weight, torch.full((r.d_out,), torch.inf))),
        "answer",
        "not finite",
    ),
    Mutant(
        "notes as text",
        made(lambda r: attrs.evolve(solved(r), notes=cast(Any, "fell back"))),
        "answer",
        "tuple of texts",
    ),
    Mutant(
        "draws lots",
        made(lambda r: LinearMap(solved(r).weight + 1e-9 * torch.randn(r.d_in, r.d_out))),
        "deterministic",
        "two different answers",
    ),
    Mutant(
        "draws Python's lots",
        made(lambda r: LinearMap(solved(r).weight * (1 + 1e-9 * random.random()))),
        "deterministic",
        "two different answers",
    ),
    Mutant("counts its calls", Counting, "deterministic|frozen", "two different answers"),
    Mutant("remembers the first", made(remembered), "deterministic|no-harm", "earlier problem|doing nothing", NONE),
    Mutant("seeds torch", made(with_state(lambda: torch.manual_seed(0))), "process", "torch's random numbers"),
    Mutant("seeds Python", made(with_state(lambda: random.seed(0))), "process", "Python's random numbers"),
    Mutant(
        "default dtype",
        made(with_state(lambda: torch.set_default_dtype(torch.float64))),
        "process|deterministic",
        "the default dtype|two different answers",
    ),
    Mutant(
        "gradients off", made(with_state(lambda: torch.set_grad_enabled(False))), "process", "gradients are recorded"
    ),
    Mutant("writes into xx", made(lambda r: written(r, "xx")), "untouched", "changed the moments' xx"),
    Mutant("writes into xr", made(lambda r: written(r, "xr")), "untouched", "changed the moments' xr"),
    Mutant("writes into x", made(lambda r: rows_written(r, "x"), Needs.ROWS), "untouched", "wrote into the .* x"),
    Mutant(
        "writes into residual",
        made(lambda r: rows_written(r, "residual"), Needs.ROWS),
        "untouched",
        "wrote into the regression's residual",
    ),
    Mutant(
        "hands out the sums",
        made(lambda r: refusing(r, r.moments().xr)),
        "untouched",
        "view of the regression's moments",
        NONE,
    ),
    Mutant("reads rows", made(lambda r: (next(r.batches()), solved(r))[1]), "needs", r"reads batches\(\) but declares"),
    Mutant("needs nothing, it says", made(solved, Needs.NOTHING), "needs", "declares that it needs nothing"),
    Mutant("needs a text", made(solved, "moments"), "needs", "'needs' is one of Needs"),  # type: ignore[arg-type]
    Mutant(
        "computes with NaN",
        made(lambda r: solved(r) if r.moments().is_finite() else LinearMap(r.prior)),
        "finite",
        "holds nan; nothing was raised",
    ),
    Mutant(
        "another error for NaN",
        made(lambda r: solved(r) if r.moments().is_finite() else 1 / 0),
        "finite",
        "ZeroDivisionError was raised",
    ),
    Mutant(
        "nothing of nothing",
        made(lambda r: solved(r) if r.moments().token_count else LinearMap(r.prior)),
        "no-tokens",
        "when there are no tokens; nothing was raised",
    ),
    Mutant("transposed", made(lambda r: LinearMap(solved(r).weight.T)), "recovers|writer", "full map is not recovered"),
    Mutant("negative", made(lambda r: scaled(r, -1)), RECOVERS, "a planted full map is not recovered: off by"),
    Mutant("shrinks", made(lambda r: scaled(r, 0.99)), RECOVERS, "a planted full map is not recovered: off by"),
    Mutant("finds nothing", made(lambda r: None), RECOVERS, "it finds nothing where a full map is planted"),
    Mutant(
        "keeps the prior",
        made(lambda r: refusing(r, r.prior)),
        RECOVERS,
        "a planted full map is not recovered: off by",
    ),
    Mutant(
        "a rotation",
        made(lambda r: refusing(r, torch.linalg.qr(r.moments().xr).Q)),
        RECOVERS,
        "a planted orthogonal map is not recovered",
        {"recovers": "orthogonal"},
    ),
    Mutant(
        "diagonal of something else",
        made(lambda r: refusing(r, torch.diag(r.moments().xr.diagonal()))),
        RECOVERS,
        "a planted diagonal map is not recovered",
        {"recovers": "diagonal"},
    ),
    Mutant("bias of the wrong sign", made(opposite_bias), "no-harm", "has an offset", NONE),
    Mutant("twice the prior", made(lambda r: refusing(r, 2 * r.prior)), "no-harm", "that of doing nothing", NONE),
    Mutant("zeros", made(lambda r: refusing(r, 0 * r.prior)), "no-harm", "that of doing nothing", NONE),
    Mutant("the opposite", made(lambda r: scaled(r, -1)), "no-harm", "that of doing nothing", NONE),
    Mutant("noise", made(noisy), "no-harm", "that of doing nothing", NONE),
    Mutant("overshoots", made(lambda r: scaled(r, 3)), "no-harm", "that of doing nothing", NONE),
    Mutant(
        "some other map",
        made(lambda r: refusing(r, random_map(r.d_in, r.d_out).weight)),
        "no-harm",
        "that of doing nothing",
        NONE,
    ),
    Mutant(
        "toward zero where it is a writer",
        made(lambda r: solved(r) if r.regressor == "output" else Ridge(strength=50.0, toward="zero").estimate(r)),
        "no-harm",
        r"planted \(wide\)",
        NONE,
    ),
    Mutant(
        "first batch",
        made(lambda r: of_rows([next(r.batches(), r.sample())], r), Needs.ROWS),
        "every-token",
        "not recovered from more than 1024 tokens|first batch and the sample",
    ),
    Mutant(
        "first batch, pulling elsewhere",
        made(lambda r: of_rows([next(r.batches(), r.sample())], r), Needs.ROWS),
        "every-token",
        "the first batch and the sample differ from what comes after",
        NONE,
    ),
    Mutant("sample", made(lambda r: of_rows([r.sample()], r)), "every-token", "first batch and the sample"),
    Mutant(
        "all but the last batch",
        made(lambda r: of_rows(list(r.batches())[:-1] or [r.sample()], r), Needs.ROWS),
        "every-token",
        "not recovered from more than 1024 tokens",
    ),
    Mutant("held-out too", made(lambda r: least(merged(r), r)), "held-out", "the map of those to fit is not recovered"),
    Mutant("held-out too, pulling", made(lambda r: least(merged(r), r)), "held-out", "that of doing nothing", NONE),
    Mutant(
        "held-out only",
        made(lambda r: least(r.held_out() or r.moments(), r)),
        "held-out",
        "the map of those to fit is not recovered",
    ),
    Mutant(
        "says that it uses the weights of rows",
        declaring_weights(lambda r: of_rows(r.batches(), r)),
        "weights",
        "weight 2 must count as the same token twice",
    ),
    Mutant("counts instead of weights", made(unweighted), "weights", "weight 2 must count as the same token twice"),
    Mutant(
        "NaN where undetermined",
        made(lambda r: undetermined(r, float("nan"))),
        "rank",
        "SingularProblem is due or a finite map",
    ),
    Mutant("a million where undetermined", made(lambda r: undetermined(r, 1e6)), "rank", "got entries of 1e.06"),
    Mutant("inverts what has no inverse", made(plain_solve), "rank", "LinAlgError was raised|got entries"),
    Mutant(
        "zeros unless square",
        made(unless_square(lambda r: 0 * r.prior)),
        "no-harm|writer",
        "that of doing nothing|is lost",
    ),
    Mutant("prior unless square", made(unless_square(lambda r: r.prior)), "writer", "of a writer of 9 columns is lost"),
    Mutant(
        "transposed unless square",
        made(unless_square(lambda r: r.prior.T)),
        "no-harm|writer",
        r"must be \[9, 4\]|cannot be multiplied|RuntimeError",
    ),
    Mutant(
        "crashes unless square",
        made(unless_square(lambda r: torch.zeros(r.d_in, r.d_in) @ torch.zeros(r.d_out, r.d_out))),
        "no-harm|writer",
        "RuntimeError was raised",
    ),
    Mutant(
        "refuses writers without a word",
        made(refusing_writers),
        "writer",
        "it refuses a map in the place of a writer, and 'regressors' does not say so",
    ),
    Mutant("a bias out of the blue", made(biased), "bias", "and gives_bias does not say so", NONE),
    Mutant(
        "gives_bias is a text",
        declaring(gives_bias="no"),
        "bias",
        "gives_bias is True or False; got 'no'",
    ),
]


@pytest.mark.parametrize("mutant", sampled(MUTANTS))
def test_a_wrong_estimator_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_estimator)


@pytest.mark.parametrize(
    ("control", "told"),
    [
        (Attrs(), {}),
        (made(lambda r: of_rows(r.batches(), r), Needs.ROWS)(), {}),
        (made(lambda r: of_rows(r.batches(7), r), Needs.ROWS)(), {}),
        (declaring_weights(lambda r: of_rows(r.batches(7), r, lambda rows: rows.weights))(), {}),
        (made(lambda r: LinearMap(solved(r).weight.float()))(), {}),
        (made(lambda r: attrs.evolve(solved(r), notes=("of a test",)))(), {}),
        (made(lambda r: LinearMap(0.5 * (solved(r).weight + r.prior)))(), NONE),
        (made(lambda r: LinearMap(r.prior), Needs.NOTHING)(), NONE),
        (made(lambda r: None, Needs.NOTHING)(), NONE),
        (LeastSquares(bias=True), {}),
    ],
    ids=[
        "plain",
        "rows",
        "small batches",
        "weighted rows",
        "float32",
        "notes",
        "half way",
        "the prior",
        "nothing",
        "bias",
    ],
)
def test_a_right_estimator_passes(control: Estimator, told: dict[str, Any]) -> None:
    check_estimator(control, **told)
