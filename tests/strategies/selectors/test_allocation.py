"""Allocation: against trying everything."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from billhook_strategies.selectors.allocation import Offer, allocate


@st.composite
def branch(draw: st.DrawFn, *, convex: bool) -> list[Offer]:
    """Offers of equal size; rising losses, with rising steps if convex."""
    steps = draw(st.lists(st.integers(1, 50), min_size=1, max_size=4))
    losses = itertools.accumulate(sorted(steps) if convex else steps)
    return [Offer(parameters=10 * (at + 1), loss=float(loss)) for at, loss in enumerate(losses)]


def total(offers: dict[int, list[Offer]], taken: dict[int, int]) -> tuple[int, float]:
    own = [offers[key][at] for key, at in taken.items()]
    return sum(offer.parameters for offer in own), sum(offer.loss for offer in own)


@st.composite
def problem(draw: st.DrawFn, *, convex: bool) -> tuple[dict[int, list[Offer]], int]:
    """Branches, and how many of their parameters are to go."""
    offers = dict(enumerate(draw(st.lists(branch(convex=convex), min_size=1, max_size=4))))
    return offers, draw(st.integers(1, sum(own[-1].parameters for own in offers.values())))


@given(problem(convex=True))
def test_of_convex_losses_it_finds_the_best_of_all_choices(drawn: tuple[dict[int, list[Offer]], int]) -> None:
    offers, missing = drawn
    parameters, loss = total(offers, allocate(offers, missing))
    ways = itertools.product(*(range(-1, len(own)) for own in offers.values()))
    sums = [total(offers, {key: at for key, at in enumerate(way) if at >= 0}) for way in ways]
    assert parameters >= missing
    assert loss == min(lost for size, lost in sums if size >= missing)


@given(problem(convex=False))
def test_it_takes_enough_and_never_a_step_too_many(drawn: tuple[dict[int, list[Offer]], int]) -> None:
    offers, missing = drawn
    parameters, _ = total(offers, allocate(offers, missing))
    assert missing <= parameters < missing + 10  # all offers are tens


def test_a_dear_step_is_taken_with_the_cheap_ones_behind_it() -> None:
    """The hull, not the single steps: the second step of the first branch is free once the first is paid."""
    offers = {"a": [Offer(10, 8.0), Offer(20, 8.0)], "b": [Offer(10, 5.0), Offer(20, 10.0)]}
    assert allocate(offers, 20) == {"a": 1}
    assert allocate(offers, 40) == {"a": 1, "b": 1}
    assert allocate(offers, 10) == {"a": 0}  # cut short


def test_more_than_there_is_takes_all() -> None:
    offers = {"a": [Offer(10, 1.0)], "b": [Offer(10, 2.0)]}
    assert allocate(offers, 1000) == {"a": 0, "b": 0}
