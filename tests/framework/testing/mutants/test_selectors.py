"""Wrong selectors, each caught by the law that it breaks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import attrs
import pytest
import torch
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled

from billhook import (
    Budget,
    Cut,
    DropBranch,
    DropLayers,
    Objective,
    PruningState,
    Selector,
    Tokens,
    refuse_hopeless,
    score,
)
from billhook.errors import InvalidConfig
from billhook.testing import check_selector
from billhook_strategies.objectives.perplexity import Perplexity

Select = Callable[[PruningState, Budget], Any]
OBJECTIVE: Objective = Perplexity()
SEARCHED: dict[str, Any] = {"objective": OBJECTIVE, "budgets": [Budget(layers=2)]}
BRANCHES: dict[str, Any] = {
    "budgets": (Budget(parameters=0.05), Budget(parameters=0.3), Budget(layers=1)),
    "protected": (),
}


TWO_AT_ONCE: dict[str, Any] = {
    "budgets": [Budget(parameters=0.05)],
    "protected": (),
    "at_once": 2,
    "refuses_early": False,
}


def distances(state: PruningState) -> dict[int, float]:
    """How far each inner layer of the dense model moves the stream."""
    found: dict[int, float] = dict.fromkeys(state.dense.numbers[1:-1], 0.0)
    for index, batch in enumerate(state.flow.batches):
        walk = state.flow.walk(index)
        entering = walk.to(1)
        for number in found:
            leaving = walk.to(number + 1)
            found[number] += float((leaving - entering)[batch.keep].norm(dim=-1).sum())
            entering = leaving
    return found


def order(state: PruningState) -> list[int]:
    found = distances(state)
    return sorted(found, key=lambda number: found[number])


def counted(state: PruningState, budget: Budget) -> int:
    count = budget.layer_count(state.dense)
    if count > len(state.dense.numbers) - 2:
        raise InvalidConfig("too many")
    return count


def right(state: PruningState, budget: Budget) -> Iterator[Cut]:
    """One shot, whole layers, the quietest first."""
    count = counted(state, budget)
    yield from (DropLayers(n, n + 1) for n in order(state)[:count])


def made(select: Select = right, *, searches: bool = False, kinds: Any = (DropLayers,)) -> Callable[[], Selector]:
    """A selector that selects so; what it is made of breaks no law."""
    methods = {
        "select": lambda self, state, budget: select(state, budget),
        "needs_objective": lambda self: searches,
        "kinds": lambda self: kinds,
    }
    return attrs.frozen(type("Wrong", (Selector,), methods))


def layers(numbers: Callable[[PruningState, int], Any]) -> Select:
    """Whole layers, as many as asked for, in the order that is given."""

    def select(state: PruningState, budget: Budget) -> Iterator[Cut]:
        count = counted(state, budget)
        yield from (DropLayers(n, n + 1) for n in itertools.islice(numbers(state, count), count))

    return select


def doing(change: Callable[[PruningState], object]) -> Select:
    """Right, but for what it does beside."""

    def select(state: PruningState, budget: Budget) -> Iterator[Cut]:
        cuts = list(right(state, budget))
        change(state)
        yield from cuts

    return select


def counting(read: Callable[[Budget, PruningState], int]) -> Select:
    """The quietest layers, as many as some reading of the budget says."""

    def select(state: PruningState, budget: Budget) -> Iterator[Cut]:
        counted(state, budget)
        yield from (DropLayers(n, n + 1) for n in order(state)[: max(1, read(budget, state))])

    return select


def greedy(state: PruningState, budget: Budget) -> Iterator[Cut]:
    """Scores every remaining layer by the objective, drops the cheapest, starts again."""
    if state.objective is None:
        raise InvalidConfig("no objective")
    for _ in range(counted(state, budget)):
        free = [n for n in state.model.numbers[1:-1] if DropLayers(n, n + 1) not in state.vetoed]
        if not free:
            return
        yield DropLayers(best := min(free, key=lambda n: scored(state, n)), best + 1)


def scored(state: PruningState, number: int) -> float:
    assert state.objective is not None
    with state.trial(DropLayers(number, number + 1)):
        return score(state, state.objective)


def trusting(state: PruningState, budget: Budget) -> Iterator[Cut]:
    """Does without the objective that it says it needs."""
    yield from right(state, budget)


def stubborn(state: PruningState, budget: Budget) -> Iterator[Cut]:
    for cut in right(state, budget):
        while cut not in state.cuts:
            yield cut


def boundless(state: PruningState, budget: Budget) -> Iterator[Cut]:
    count = min(6, budget.layers or budget.layer_count(state.dense))
    yield from (DropLayers(n, n + 1) for n in order(state)[:count])


def late(state: PruningState, budget: Budget) -> Iterator[Cut]:
    count = budget.layers or budget.layer_count(state.dense)
    yield from (DropLayers(n, n + 1) for n in order(state)[:count])
    if count > 6:
        raise InvalidConfig("too many")


def another_error(state: PruningState, budget: Budget) -> Iterator[Cut]:
    try:
        count = counted(state, budget)
    except InvalidConfig as error:
        raise ValueError("too many") from error
    yield from (DropLayers(n, n + 1) for n in order(state)[:count])


def in_one(state: PruningState, budget: Budget) -> list[Cut]:
    return list(right(state, budget))


OPEN: list[Any] = []
"""Trials that nobody leaves; collected, they would leave themselves."""


def enters_trial(state: PruningState) -> None:
    OPEN.append(state.trial(DropLayers(2, 3)))
    OPEN[-1].__enter__()


def with_padding(state: PruningState, count: int) -> list[int]:
    """By what lies under the padding."""
    first = int(state.tokens.ids[~state.tokens.keep].sum()) % 6
    return [1 + (first + n) % 6 for n in range(count)]


def loudness_of_padding(state: PruningState, count: int) -> list[int]:
    """Forgets that some tokens are padding."""
    sums: dict[int, float] = dict.fromkeys(state.dense.numbers[1:-1], 0.0)
    for index, batch in enumerate(state.flow.batches):
        walk = state.flow.walk(index)
        for number in sums:
            entering = walk.to(number)
            leaving = walk.to(number + 1)
            sums[number] += float((leaving - entering)[~batch.keep].norm(dim=-1).sum())
    return sorted(sums, key=lambda n: sums[n])


CACHE: dict[int, list[int]] = {}


def cached(state: PruningState, count: int) -> list[int]:
    """Keeps what it has found out for all models of so many layers."""
    count = len(state.dense.numbers)
    if count not in CACHE:
        CACHE[count] = order(state)
    return CACHE[count]


def last_first(state: PruningState, count: int) -> list[int]:
    """Of equal ones the higher."""
    found = distances(state)
    return sorted(found, key=lambda number: (found[number], -number))


def llama_only(state: PruningState, count: int) -> list[int]:
    for number in state.dense.numbers:
        _ = cast(Any, state.dense.layer(number)).mlp.down_proj.weight.shape
    return order(state)


def eight_only(state: PruningState, count: int) -> list[int]:
    found = distances(state)
    return sorted(range(1, 7), key=lambda number: found[number])


def mlps(state: PruningState, budget: Budget) -> Iterator[Cut]:
    target = budget.parameter_count(state.dense)
    refuse_hopeless(state, target, state.dense.layer_parameter_count // 2)
    for number in state.dense.numbers[1:-1]:
        if state.removed_parameters < target:
            yield DropBranch(number, "mlp")


def one_more(state: PruningState, budget: Budget) -> Iterator[Cut]:
    yield from mlps(state, budget)
    yield DropBranch(state.dense.numbers[-1], "attention")


def half(state: PruningState, budget: Budget) -> Iterator[Cut]:
    target = budget.parameter_count(state.dense)
    for cut in mlps(state, budget):
        if state.removed_parameters < target / 2:
            yield cut


def late_mlps(state: PruningState, budget: Budget) -> Iterator[Cut]:
    target = budget.parameter_count(state.dense)
    for number in state.dense.numbers[1:-1]:
        if state.removed_parameters < target:
            yield DropBranch(number, "mlp")
    if state.removed_parameters < target:
        raise InvalidConfig("too little")


def written(state: PruningState, which: str) -> None:
    with torch.no_grad():
        next(getattr(state, which).layer(2).parameters()).add_(1)


def hooked(state: PruningState) -> None:
    state.dense.layer(2).register_forward_hook(lambda module, args, output: None)


def new_tokens(state: PruningState) -> None:
    state.tokens = Tokens(ids=state.tokens.ids.clone(), keep=state.tokens.keep)


class Plain(Selector):
    """No attrs class: its options would be lost."""

    def __init__(self, keep: int = 1) -> None:
        self.keep = keep

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        yield from right(state, budget)


@attrs.define
class Mutable(Selector):
    keep: int = 1

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        yield from right(state, budget)


NO_MODEL = "a selector changes no model: "
MUTANTS = [
    Mutant("plain class", Plain, "frozen", "Put @attrs.frozen above it"),
    Mutant("mutable", Mutable, "frozen", "can be changed after it is built"),
    Mutant("kinds is no tuple", made(kinds=[DropLayers]), "kinds", r"kinds\(\) is a tuple of Cut classes"),
    Mutant("no kinds", made(kinds=()), "kinds", r"kinds\(\) is a tuple of Cut classes"),
    Mutant(
        "yields numbers",
        made(lambda s, b: (cast(DropLayers, c).start for c in right(s, b))),
        "cuts",
        "yielded a int, which is no Cut",
    ),
    Mutant("a list", made(in_one), "cuts|fresh", "TypeError was raised: 'list' object is not an iterator"),
    Mutant("None", made(lambda s, b: None), "fresh|cuts", "TypeError was raised"),
    Mutant("nothing", made(lambda s, b: iter([])), "cuts", "a budget of 1 layers gave no cut"),
    Mutant("undeclared", made(lambda s, b: iter([DropBranch(3, "mlp")])), "cuts", "it yielded a DropBranch, and kinds"),
    Mutant(
        "again and again", made(lambda s, b: itertools.repeat(DropLayers(3, 4))), "cuts", "cannot be made: layers 3:4"
    ),
    Mutant("beyond the model", made(lambda s, b: iter([DropLayers(7, 9)])), "cuts", "cannot be made: layers 7:9"),
    Mutant("the first", made(layers(lambda s, c: s.dense.numbers)), "protected", r"it cut protected layers \[0\]"),
    Mutant("the last", made(layers(lambda s, c: s.dense.numbers[::-1])), "protected", r"protected layers \[7\]"),
    Mutant(
        "cuts by itself", made(doing(lambda s: s.model.drop_layers([6]))), "untouched|cuts", NO_MODEL + r"layers \("
    ),
    Mutant("writes into dense", made(doing(lambda s: written(s, "dense"))), "untouched", NO_MODEL + "weights"),
    Mutant("writes into model", made(doing(lambda s: written(s, "model"))), "untouched", NO_MODEL + "weights"),
    Mutant("trains", made(doing(lambda s: s.dense.model.train())), "untouched", NO_MODEL + "training mode"),
    Mutant("trains a layer", made(doing(lambda s: s.model.layer(3).train())), "untouched", NO_MODEL + "training mode"),
    Mutant("leaves a hook", made(doing(hooked)), "untouched", NO_MODEL + "the hooks of"),
    Mutant(
        "freezes",
        made(doing(lambda s: s.model.model.requires_grad_(False))),
        "untouched",
        NO_MODEL + "requires_grad of",
    ),
    Mutant("config", made(doing(lambda s: setattr(s.model.model.config, "rms_norm_eps", 1.0))), "untouched", "config"),
    Mutant(
        "writes into tokens", made(doing(lambda s: s.tokens.ids.zero_())), "untouched", "wrote into the state's tok"
    ),
    Mutant("writes into keep", made(doing(lambda s: s.tokens.keep.fill_(True))), "untouched", "wrote into the state's"),
    Mutant("other tokens", made(doing(new_tokens)), "untouched", "changed the state's tokens"),
    Mutant(
        "stays in a trial", made(doing(enters_trial)), "untouched", "changed the state's model; trials must be left"
    ),
    Mutant("notes cuts", made(doing(lambda s: s.cuts.append(DropLayers(1, 2)))), "untouched", "cuts and vetoes"),
    Mutant("notes vetoes", made(doing(lambda s: s.vetoed.append(DropLayers(1, 2)))), "untouched", "cuts and vetoes"),
    Mutant(
        "forgets the objective", made(doing(lambda s: setattr(s, "objective", OBJECTIVE))), "untouched", "objective"
    ),
    Mutant("seeds", made(doing(lambda s: torch.manual_seed(0))), "process", "torch's random numbers"),
    Mutant("Python's numbers", made(doing(lambda s: random.random())), "process", "Python's random numbers"),
    Mutant(
        "default dtype",
        made(doing(lambda s: torch.set_default_dtype(torch.float64))),
        "process|cuts|untouched",
        "default dtype|dtype|training",
    ),
    Mutant("no gradients", made(doing(lambda s: torch.set_grad_enabled(False))), "process", "gradients are recorded"),
    Mutant(
        "draws lots",
        made(layers(lambda s, c: [1 + n for n in torch.randperm(6).tolist()])),
        "process|deterministic",
        "torch's random numbers|two different answers",
    ),
    Mutant(
        "draws lots of its own",
        made(layers(lambda s, c: random.Random().sample(range(1, 7), 6))),
        "deterministic|fresh|padding|ties",
        "two different answers|other cuts|cut",
    ),
    Mutant("stubborn", made(stubborn), "vetoes", "goes on for ever when every cut is vetoed"),
    Mutant("what lies under padding", made(layers(with_padding)), "padding", "ids under the padding gave other cuts"),
    Mutant("padding counts", made(layers(loudness_of_padding)), "padding", "ids under the padding gave other cuts"),
    Mutant("a stale cache", made(layers(cached)), "fresh", "it looked at next to nothing, 0 operations after"),
    Mutant(
        "ties to the higher", made(layers(last_first)), "ties", "of layers 3 and 4, which both do nothing, it cut 4"
    ),
    Mutant(
        "eight layers", made(layers(eight_only)), "sizes|fresh", "on llama of 5 layers KeyError was raised|KeyError"
    ),
    Mutant("Llama only", made(layers(llama_only)), "family-gpt2", "on gpt2 of 8 layers AttributeError was raised"),
    Mutant(
        "one too few", made(layers(lambda s, c: order(s)[: max(1, c - 1)])), "budget-4-layers", "4 layers, and it cut 3"
    ),
    Mutant("one too many", made(counting(lambda b, s: b.layer_count(s.dense) + 1)), "budget-1-layers", "and it cut 2"),
    Mutant("one, always", made(counting(lambda b, s: 1)), "budget-4-layers", "4 layers, and it cut 1"),
    Mutant(
        "bytes are parameters",
        made(counting(lambda b, s: Budget(layers=6).layers or 0 if b.bytes else b.layer_count(s.dense))),
        "budget-30,000-bytes",
        "and it cut 6",
    ),
    Mutant(
        "two bytes a parameter",
        made(counting(lambda b, s: 2 if b.bytes else b.layer_count(s.dense))),
        "budget-30,000-bytes",
        "and it cut 2",
    ),
    Mutant(
        "all for the backbone",
        made(counting(lambda b, s: attrs.evolve(b, of="all").layer_count(s.dense))),
        "budget-25.0%-of-backbone-parameters",
        "is 2 layers, and it cut 3",
    ),
    Mutant(
        "the backbone for all",
        made(counting(lambda b, s: attrs.evolve(b, of="backbone").layer_count(s.dense))),
        "budget-25.0%-of-all-parameters",
        "is 3 layers, and it cut 2",
    ),
    Mutant("takes what it can", made(boundless), "impossible", "before the first cut; nothing was raised"),
    Mutant("refuses late", made(late), "impossible", "before the first cut; nothing was raised"),
    Mutant("refuses by another error", made(another_error), "impossible", "ValueError was raised: too many"),
    Mutant(
        "does without the objective",
        made(trusting, searches=True),
        "objective",
        "without one it must refuse to work; nothing was raised",
        SEARCHED,
    ),
    Mutant(
        "branches: one more", made(one_more, kinds=(DropBranch,)), "budget-5.0%-of-all-parameters", "enough", BRANCHES
    ),
    Mutant("branches: half", made(half, kinds=(DropBranch,)), "budget-30.0%-of-all-parameters", "and it cut", BRANCHES),
    Mutant(
        "branches: late", made(late_mlps, kinds=(DropBranch,)), "impossible", "before the first cut; noth", BRANCHES
    ),
    Mutant(
        "branches: of a protected layer",
        made(mlps, kinds=(DropBranch,)),
        "protected",
        r"it cut protected layers \[1\]",
        {**BRANCHES, "protected": (1,)},
    ),
]


@pytest.mark.parametrize("mutant", sampled(MUTANTS))
def test_a_wrong_selector_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_selector)


@pytest.mark.parametrize(
    ("control", "told"),
    [
        (made()(), {}),
        (made(layers(lambda s, c: s.dense.numbers[1:-1]))(), {}),
        (made(layers(lambda s, c: s.dense.numbers[-2:0:-1]))(), {}),
        (made(greedy, searches=True)(), SEARCHED),
        (made(mlps, kinds=(DropBranch,))(), {**BRANCHES, "protected": (0, 7)}),
        (made(late_mlps, kinds=(DropBranch,))(), {**BRANCHES, "refuses_early": False}),
        (made(one_more, kinds=(DropBranch,))(), TWO_AT_ONCE),
    ],
    ids=["quietest", "first", "deepest", "greedy", "mlps", "late", "two at once"],
)
def test_a_right_selector_passes(control: Selector, told: dict[str, Any]) -> None:
    check_selector(control, **told)


def test_perplexity_is_searched_by_unless_told() -> None:
    check_selector(made(greedy, searches=True)(), budgets=[Budget(layers=1)])
