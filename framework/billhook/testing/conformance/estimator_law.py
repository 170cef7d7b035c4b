"""check_estimator: what every estimator promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import attrs
import torch
from torch import Tensor

from billhook.errors import InvalidConfig, SingularProblem
from billhook.plugins.registry import Registry
from billhook.regression.linear_map import LinearMap
from billhook.regression.moments import Moments
from billhook.regression.regression import Regression, Rows, TensorRegression
from billhook.roles.estimator import Estimator, Needs
from billhook.testing.conformance import problems
from billhook.testing.conformance.expect import (
    check_frozen,
    check_options,
    close,
    fail,
    process_unchanged,
    raises,
    require,
)
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.samples.planted import Structure, planted_problem

TAME = 100.0
"""How many times as large as the prior's and the data's own scale an entry may be where the data say nothing."""

SLACK = 1.01
"""A squared error may be this many times that of doing nothing: estimators may minimise another loss."""


def check_estimator(
    estimator: Estimator,
    *,
    recovers: Structure | None = "full",
    tolerance: float = 1e-3,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise AssertionError unless ``estimator`` keeps the promises of :class:`billhook.Estimator`.

    Args:
        estimator: what to check; its options as they are.
        recovers: the kind of map it finds exactly when there is no noise; None if it pulls elsewhere by design.
        tolerance: error allowed in a recovered map, relative to its largest entry.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
    """
    keep(
        estimator_laws(
            estimator, recovers=recovers, tolerance=tolerance, registry=registry, expected_failures=expected_failures
        )
    )


def estimator_laws(
    estimator: Estimator,
    *,
    recovers: Structure | None = "full",
    tolerance: float = 1e-3,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> list[Law]:
    """What :func:`check_estimator` tests, each law for itself; arguments as there."""
    trial = _Trial(estimator, recovers, tolerance)
    promises: list[Promise] = [
        ("frozen", "an estimator is a final, frozen attrs class", partial(check_frozen, estimator)),
        ("options", "options survive JSON", partial(check_options, "estimator", estimator, registry)),
        ("answer", "the answer is a finite LinearMap [d_in, d_out] in float32 or float64", trial.answer),
        ("untouched", "what the regression hands out is not written to", trial.untouched),
        ("deterministic", "random numbers need a generator of its own with a fixed seed", trial.deterministic),
        ("process", "nothing that the whole process shares is changed", trial.process),
        ("needs", "what is read is what 'needs' declares", trial.declared),
        *(trial.recoveries() if recovers is not None else ()),
        ("no-harm", "the map is no worse than the prior, which is to do nothing", trial.no_harm),
        ("every-token", "all rows of all batches count, not the first batch or the sample", trial.every_token),
        ("held-out", "held-out tokens are for choosing options, never fitted to", trial.held_out),
        ("bias", "a map has a bias only where gives_bias says that it may", trial.bias),
        ("weights", "a token of weight 2 counts as two", trial.weights),
        ("rank", "where the data say nothing keep the prior with a note, or raise SingularProblem", trial.rank),
        *(trial.refusals() if estimator.needs is not Needs.NOTHING else ()),
        (
            "writer",
            "in the place of a writer a map is [d_inner, d_model]; one that cannot find it says so by 'regressors'",
            trial.writer,
        ),
    ]
    return suite(estimator, promises, expected_failures)


@attrs.frozen
class _Trial:
    """An estimator, and what it is told to recover."""

    estimator: Estimator
    recovers: Structure | None
    tolerance: float

    def ask(self, regression: Regression) -> LinearMap | None:
        with torch.no_grad():  # as a Pruner may call it
            return self.estimator.estimate(regression)

    def answer(self) -> None:
        estimator = self.estimator
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            problem = planted_problem(seed=1, noise=0.1, dtype=dtype)
            found = self.ask(problem.regression)
            if found is None:
                continue
            require(isinstance(found, LinearMap), estimator, f"the answer is a {type(found).__name__}, no LinearMap")
            shape = (problem.regression.d_in, problem.regression.d_out)
            law = f"the weight is {list(found.weight.shape)}, not [d_in, d_out]"
            require(found.weight.shape == shape, estimator, law)
            noted = isinstance(found.notes, tuple) and all(isinstance(note, str) for note in found.notes)
            require(noted, estimator, f"notes are a tuple of texts; got {found.notes!r}")
            for tensor in _tensors(found):
                law = f"the map is {tensor.dtype}, for rows of {dtype}"
                require(tensor.dtype in (torch.float32, torch.float64), estimator, law)
                require(not tensor.requires_grad, estimator, "the map still requires gradients")
                require(bool(torch.isfinite(tensor).all()), estimator, "the map is not finite")

    def deterministic(self) -> None:
        problem = planted_problem(seed=2, noise=0.1)
        answers: list[LinearMap | None] = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            answers.append(self.ask(problem.regression))
        # the same numbers again, in tensors of their own, after another problem
        self.ask(problems.near_prior("square", seed=5))
        answers.append(self.ask(planted_problem(seed=2, noise=0.1).regression))
        first, *others = [() if answer is None else _tensors(answer) for answer in answers]
        for other in others:
            same = len(first) == len(other) and all(torch.equal(a, b) for a, b in zip(first, other, strict=False))
            require(same, self.estimator, "the same regression gave two different answers")
        elsewhere = self.ask(problems.near_prior("square", seed=5))
        if elsewhere is not None and first and elsewhere.weight.shape == first[0].shape:
            pair = (_tensors(elsewhere)[0], first[0])
            law = "two regressions with nothing in common gave the same map: is it of an earlier problem?"
            known = self.estimator.needs is Needs.NOTHING
            require(known or not torch.equal(*pair), self.estimator, law)

    def process(self) -> None:
        with process_unchanged(self.estimator):
            self.estimator.estimate(planted_problem(seed=2, noise=0.1).regression)

    def untouched(self) -> None:
        given, twin = (planted_problem(seed=3, noise=0.1).regression for _ in range(2))
        prior = given.prior.clone()
        found = self.ask(given)
        if found is not None:
            _require_own(self.estimator, found, given)
        require(torch.equal(given.prior, prior), self.estimator, "it wrote into the regression's prior")
        for name in ("x", "residual", "skip"):
            same = torch.equal(getattr(given.all_rows, name), getattr(twin.all_rows, name))
            require(same, self.estimator, f"it wrote into the regression's {name}")
        for name in ("xx", "xr", "rr", "x", "r", "weight", "token_count"):
            ours, theirs = getattr(given.moments(), name), getattr(twin.moments(), name)
            same = torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs
            require(same, self.estimator, f"it changed the moments' {name}")
        held_out, before = (problems.held_out_apart("full")[0] for _ in range(2))
        prior = (held := _held(held_out)).xr.clone()
        self.ask(held_out)
        same = torch.equal(held.xr, prior) and torch.equal(held.xx, _held(before).xx)
        require(same, self.estimator, "it changed the sums over the held-out tokens")

    def declared(self) -> None:
        estimator = self.estimator
        require(isinstance(estimator.needs, Needs), estimator, f"'needs' is one of Needs; got {estimator.needs!r}")
        for inner in (planted_problem(seed=4, noise=0.1).regression, problems.held_out_apart("full")[0]):
            watched = _Watched(inner)
            self.ask(watched)
            if estimator.needs is not Needs.ROWS:
                require("batches" not in watched.asked, estimator, f"it reads batches() but declares {estimator.needs}")
            if estimator.needs is Needs.NOTHING:
                law = f"it reads {watched.asked} but declares that it needs nothing"
                require(not watched.asked, estimator, law)

    def no_harm(self) -> None:
        for shape in problems.SIZES:
            self._require_harmless(problems.near_prior(shape), f"a map near the prior is planted ({shape})")
            self._require_harmless(problems.near_prior(shape, noise=0.0), f"a map near the prior is planted ({shape})")

        self._require_harmless(problems.with_offset(), "the residual has an offset")

    def every_token(self) -> None:
        self._require_harmless(
            problems.changing_its_mind(), "the first batch and the sample differ from what comes after"
        )
        if self.recovers is not None:
            regression, truth = problems.told_in_parts(self.recovers)
            law = "a map of which later batches tell the rest is not recovered from more than 1024 tokens"
            self._require_recovered(regression, truth, law)

    def held_out(self) -> None:
        regression, truth = problems.held_out_apart(self.recovers)
        if self.recovers is None:
            self._require_harmless(regression, "the held-out tokens differ from those to fit")
        else:
            law = "where the held-out tokens differ from those to fit, the map of those to fit is not recovered"
            self._require_recovered(regression, truth, law)

    def bias(self) -> None:
        says = self.estimator.gives_bias
        require(isinstance(says, bool), self.estimator, f"gives_bias is True or False; got {says!r}")
        if says:
            return
        for regression in (problems.with_offset(), *map(problems.near_prior, problems.SIZES)):
            found = self._unless_refused(regression)
            law = "its map has a bias, and gives_bias does not say so: a merger without a place for it would fail late"
            require(found is None or found.bias is None, self.estimator, law)

    def weights(self) -> None:
        if self.estimator.needs is Needs.ROWS and not self.estimator.weighs_rows:
            return  # it says so, and is refused where there are any
        ours, copies = (self.ask(problems.weighted(copies=copies)) for copies in (False, True))
        law = "a token of weight 2 must count as the same token twice"
        require((ours is None) == (copies is None), self.estimator, law)
        if ours is not None and copies is not None:
            for one, other in zip(_tensors(ours), _tensors(copies), strict=True):
                close(one, other, self.estimator, law, self.tolerance)

    def rank(self) -> None:
        for regression, what in (
            (problems.undetermined(), "a column is 0 and another comes twice"),
            (problems.few_tokens(), "there are fewer tokens than columns"),
        ):
            try:
                found = self.ask(regression)
            except SingularProblem:
                continue
            if found is None:
                continue
            for tensor in _tensors(found):
                law = f"where {what}, SingularProblem is due or a finite map"
                require(bool(torch.isfinite(tensor).all()), self.estimator, law)
                largest = float(tensor.abs().max())
                law = f"where {what}, directions without data got entries of {largest:.0e}"
                require(largest <= TAME, self.estimator, law)
            self._require_harmless(regression, what)

    def refusals(self) -> list[Promise]:
        return [
            ("finite", "data that are not finite raise SingularProblem", self._check_not_finite),
            ("no-tokens", "without tokens SingularProblem is due", self._check_no_tokens),
        ]

    def _check_not_finite(self) -> None:
        for bad in (float("nan"), float("inf")):
            for name in ("x", "residual"):
                rows = planted_problem(seed=5).regression.all_rows
                getattr(rows, name)[3, 0] = bad
                spoilt = TensorRegression(rows.x, rows.residual, rows.skip)
                law = f"SingularProblem is due when the regression's {name} holds {bad}"
                raises(SingularProblem, partial(self.estimator.estimate, spoilt), self.estimator, law)

    def _check_no_tokens(self) -> None:
        nothing = planted_problem(seed=5).regression.all_rows[:0]
        regression = TensorRegression(nothing.x, nothing.residual, nothing.skip)
        law = "SingularProblem is due when there are no tokens"
        raises(SingularProblem, partial(self.estimator.estimate, regression), self.estimator, law)

    def recoveries(self) -> list[Promise]:
        return [("recovers", f"a {self.recovers} map is found exactly where there is no noise", self._check_recovery)]

    def _check_recovery(self) -> None:
        for seed in range(3):
            problem = planted_problem(seed=seed, structure=self.recovers or "full")
            law = f"a planted {self.recovers} map is not recovered"
            self._require_recovered(problem.regression, problem.truth, law)

    def writer(self) -> None:
        for shape in ("wide", "tall"):
            regression, truth = problems.behind_a_writer(shape)
            d_in, d_out = regression.d_in, regression.d_out
            try:
                found = self.ask(regression)
            except InvalidConfig:
                law = "it refuses a map in the place of a writer, and 'regressors' does not say so: it is refused late"
                require("inner" not in self.estimator.regressors, self.estimator, law)
                continue
            law = f"for a writer of {d_in} columns to a stream of {d_out} the map must be [{d_in}, {d_out}]"
            if found is not None:
                law = f"{law}, or be refused with InvalidConfig"
                require(found.weight.shape == (d_in, d_out), self.estimator, law)
            if self.recovers == "full":
                self._require_recovered(
                    regression, truth, f"a map in the place of a writer of {d_in} columns is lost", 3
                )

    def _require_recovered(self, regression: TensorRegression, truth: LinearMap, law: str, leeway: float = 1.0) -> None:
        found = self.ask(regression)
        if found is None:
            fail(self.estimator, f"it finds nothing where a {self.recovers} map is planted without noise")
        close(found.weight, truth.weight, self.estimator, law, leeway * self.tolerance)
        x = regression.all_rows.x
        close(found(x), truth(x), self.estimator, law, 10 * self.tolerance)

    def _unless_refused(self, regression: TensorRegression) -> LinearMap | None:
        try:
            return self.ask(regression)
        except (InvalidConfig, SingularProblem):
            return None

    def _require_harmless(self, regression: TensorRegression, where: str) -> None:
        found = self._unless_refused(regression)
        if found is None:
            return
        rows = regression.all_rows
        errors = [float((t(rows.x) - rows.residual).square().sum()) for t in (found, LinearMap(regression.prior))]
        law = f"where {where}, its squared error is {errors[0]:.3g} and that of doing nothing {errors[1]:.3g}"
        require(errors[0] <= SLACK * errors[1] + 1e-6, self.estimator, law)


def _tensors(linear_map: LinearMap) -> tuple[Tensor, ...]:
    return (linear_map.weight,) if linear_map.bias is None else (linear_map.weight, linear_map.bias)


def _held(regression: TensorRegression) -> Moments:
    found = regression.held_out()
    assert found is not None  # these problems have some
    return found


def _require_own(estimator: Estimator, found: LinearMap, regression: TensorRegression) -> None:
    """The answer shares no memory with the sums, which are handed out again."""
    moments = regression.moments()
    shared = {t.untyped_storage().data_ptr() for t in (moments.xx, moments.xr, moments.rr, moments.x, moments.r)}
    own = all(t.untyped_storage().data_ptr() not in shared for t in _tensors(found))
    require(own, estimator, "its map is a view of the regression's moments")


class _Watched(Regression):
    """A regression that notes what is asked of it."""

    def __init__(self, inner: TensorRegression) -> None:
        self._inner = inner
        self.asked: set[str] = set()

    @property
    def d_in(self) -> int:
        return self._inner.d_in

    @property
    def d_out(self) -> int:
        return self._inner.d_out

    @property
    def prior(self) -> Tensor:
        """Not data: may always be asked."""
        return self._inner.prior

    def held_out(self) -> Moments | None:
        self.asked.add("held_out")
        return self._inner.held_out()

    def moments(self) -> Moments:
        self.asked.add("moments")
        return self._inner.moments()

    def batches(self, tokens: int = 1024) -> Iterator[Rows]:
        self.asked.add("batches")
        return self._inner.batches(tokens)

    def sample(self) -> Rows:
        self.asked.add("sample")
        return self._inner.sample()
