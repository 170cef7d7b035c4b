"""billhook's suite says what an estimator promises; what this one adds is tested beside it."""

import torch
from billhook_template import Template

from billhook.testing import check_estimator, planted_problem


def test_it_keeps_the_promises_of_an_estimator() -> None:
    check_estimator(Template(), recovers=None)


def test_all_the_way_is_least_squares() -> None:
    check_estimator(Template(factor=1.0), recovers="full")


def test_half_way_lies_between_what_changes_nothing_and_the_true_map() -> None:
    problem = planted_problem()
    found = Template(factor=0.5).estimate(problem.regression)
    torch.testing.assert_close(found.weight, 0.5 * (torch.eye(8) + problem.truth.weight))
