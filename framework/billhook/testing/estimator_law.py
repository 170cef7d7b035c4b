"""check_estimator: what every estimator promises."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from billhook.errors import InvalidConfig, SingularProblem
from billhook.plugins.registry import Registry
from billhook.regression.linear_map import LinearMap
from billhook.regression.moments import Moments
from billhook.regression.regression import Regression, Rows, TensorRegression
from billhook.roles.estimator import Estimator, Needs
from billhook.testing.expect import check_options, close, fail, raises, require
from billhook.testing.planted import Structure, planted_problem, random_map


def check_estimator(
    estimator: Estimator,
    *,
    recovers: Structure | None = "full",
    tolerance: float = 1e-3,
    registry: Registry | None = None,
) -> None:
    """Raise AssertionError unless ``estimator`` keeps the promises of :class:`billhook.Estimator`.

    Args:
        estimator: what to check; its options as they are.
        recovers: the kind of map it finds exactly when there is no noise; None if it pulls elsewhere by design.
        tolerance: error allowed in a recovered map, relative to its largest entry.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
    """
    _check_answer(estimator)
    _check_regression_untouched(estimator)
    _check_determinism(estimator)
    _check_needs(estimator)
    if estimator.needs is not Needs.NOTHING:
        _check_refusal(estimator)
    if recovers is not None:
        _check_recovery(estimator, recovers, tolerance)
    _check_refit(estimator)
    check_options("estimator", estimator, registry)


def _check_answer(estimator: Estimator) -> None:
    for dtype in (torch.float32, torch.float64):
        problem = planted_problem(seed=1, noise=0.1, dtype=dtype)
        found = _estimate(estimator, problem.regression)
        if found is None:
            continue
        require(isinstance(found, LinearMap), estimator, f"the answer is a {type(found).__name__}, no LinearMap")
        shape = (problem.regression.d_in, problem.regression.d_out)
        require(found.weight.shape == shape, estimator, f"the weight is {list(found.weight.shape)}, not [d_in, d_out]")
        for tensor in _tensors(found):
            require(tensor.dtype in (torch.float32, torch.float64), estimator, f"the map is {tensor.dtype}")
            require(not tensor.requires_grad, estimator, "the map still requires gradients")
            require(bool(torch.isfinite(tensor).all()), estimator, "the map is not finite")


def _check_determinism(estimator: Estimator) -> None:
    problem = planted_problem(seed=2, noise=0.1)
    answers: list[LinearMap | None] = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            answers.append(_estimate(estimator, problem.regression))
    first, second = (() if answer is None else _tensors(answer) for answer in answers)
    same = len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=False))
    require(same, estimator, "the same regression gave two different answers")


def _check_regression_untouched(estimator: Estimator) -> None:
    given, twin = (planted_problem(seed=3, noise=0.1).regression for _ in range(2))
    _estimate(estimator, given)
    for name in ("x", "residual", "skip"):
        same = torch.equal(getattr(given.all_rows, name), getattr(twin.all_rows, name))
        require(same, estimator, f"it wrote into the regression's {name}")
    for name in ("xx", "xr", "rr", "x", "r", "weight", "token_count"):
        ours, theirs = getattr(given.moments(), name), getattr(twin.moments(), name)
        same = torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs
        require(same, estimator, f"it changed the moments' {name}")


def _check_needs(estimator: Estimator) -> None:
    watched = _Watched(planted_problem(seed=4, noise=0.1).regression)
    _estimate(estimator, watched)
    if estimator.needs is not Needs.ROWS:
        require("batches" not in watched.asked, estimator, f"it reads batches() but declares {estimator.needs}")
    if estimator.needs is Needs.NOTHING:
        require(not watched.asked, estimator, f"it reads {watched.asked} but declares that it needs nothing")


def _check_refusal(estimator: Estimator) -> None:
    for bad in (float("nan"), float("inf")):
        for name in ("x", "residual"):
            rows = planted_problem(seed=5).regression.all_rows
            getattr(rows, name)[3, 0] = bad
            spoilt = TensorRegression(rows.x, rows.residual, rows.skip)
            law = f"SingularProblem is due when the regression's {name} holds {bad}"
            raises(SingularProblem, partial(estimator.estimate, spoilt), estimator, law)


def _check_refit(estimator: Estimator) -> None:
    rows = planted_problem(seed=6, d_in=9, d_out=4, noise=0.1).regression.all_rows
    regression = TensorRegression(rows.x, rows.residual, rows.skip, prior=random_map(9, 4).weight)
    try:
        found = _estimate(estimator, regression)
    except InvalidConfig:
        return
    if found is not None:
        law = "for a writer of 9 columns to a stream of 4 the map must be [9, 4], or be refused with InvalidConfig"
        require(found.weight.shape == (9, 4), estimator, law)


def _check_recovery(estimator: Estimator, structure: Structure, tolerance: float) -> None:
    for seed in range(3):
        problem = planted_problem(seed=seed, structure=structure)
        found = _estimate(estimator, problem.regression)
        if found is None:
            fail(estimator, f"it finds nothing where a {structure} map is planted without noise")
        law = f"a planted {structure} map is not recovered"
        close(found.weight, problem.truth.weight, estimator, law, tolerance)
        x = problem.regression.all_rows.x
        close(found(x), problem.truth(x), estimator, law, 10 * tolerance)


def _estimate(estimator: Estimator, regression: Regression) -> LinearMap | None:
    with torch.no_grad():  # as a Pruner may call it
        return estimator.estimate(regression)


def _tensors(linear_map: LinearMap) -> tuple[Tensor, ...]:
    return (linear_map.weight,) if linear_map.bias is None else (linear_map.weight, linear_map.bias)


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
