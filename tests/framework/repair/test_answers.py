"""What an estimator may answer."""

from __future__ import annotations

import math

import pytest
import torch

from billhook import LinearMap
from billhook.errors import BillhookError, ShapeMismatch, SingularProblem
from billhook.repair.answers import refuse_no_map
from billhook.testing import planted_problem
from billhook_strategies.estimators.ridge import Ridge

PROBLEM = planted_problem().regression
SQUARE = torch.eye(PROBLEM.d_in, PROBLEM.d_out)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (SQUARE, ShapeMismatch, "must give a LinearMap"),
        ([3, 3], ShapeMismatch, "must give a LinearMap"),
        (LinearMap(torch.eye(3)), ShapeMismatch, r"got \[3, 3\]"),
        (LinearMap(SQUARE.half()), ShapeMismatch, r"float16"),
        (LinearMap(SQUARE.long()), ShapeMismatch, r"int64"),
        (LinearMap(SQUARE * math.nan), SingularProblem, "not finite"),
        (LinearMap(SQUARE, bias=torch.full((PROBLEM.d_out,), math.inf)), SingularProblem, "not finite"),
    ],
)
def test_what_is_no_finite_map_of_the_problem_is_refused_and_names_the_estimator(
    answer: object, error: type[BillhookError], text: str
) -> None:
    with pytest.raises(error, match=f"The estimator Ridge.*{text}"):
        refuse_no_map(Ridge(), answer, PROBLEM)


def test_a_finite_map_of_the_right_shape_passes() -> None:
    refuse_no_map(Ridge(), LinearMap(SQUARE, bias=torch.zeros(PROBLEM.d_out)), PROBLEM)
