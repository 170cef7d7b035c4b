"""Search: the same cuts and scores as the naive search, for less work, whatever is cached, repaired or vetoed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import attrs
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.framework.search.naive_search import (
    Candidates,
    Loss,
    branches,
    channels,
    heads,
    layers,
    mixed,
    naive_layer_tokens,
    naive_search,
    naive_step,
)

from billhook import (
    Budget,
    CacheBudget,
    Cut,
    DropBranch,
    DropLayers,
    Journal,
    LinearMap,
    Merger,
    ModelView,
    Objective,
    Predictions,
    Pruner,
    PruningState,
    Race,
    Search,
    Selector,
    Tokens,
    default_registry,
    hookimpl,
)
from billhook.cuts.candidate import Candidate
from billhook.errors import CalibrationError, InvalidConfig, InvalidJournal, PluginError
from billhook.plans.journal import Decision
from billhook.testing import random_map, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.objectives.kl_divergence import KLDivergence
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.sleb import Sleb

FAMILIES = ("llama", "qwen3", "gpt2", "falcon", "gemma3_text", "phi3", "opt")
CANDIDATES: dict[str, Candidates] = {
    "branches": branches,
    "layers": layers,
    "channels": channels,
    "heads": heads,
    "mixed": mixed,
}
TOLERANCE = 1e-4  # float32 layers and logits, against the same layers with float64 losses
CLOSE = 1e-5  # a lead that float32 could turn round
TOKENS = tiny_tokens(rows=5, seq=8, padding="both")
ROW = TOKENS.ids.shape[1]
STREAM = 16 * 4  # bytes of a token's stream in the tiny models: 16 columns of float32


def objective(name: Loss) -> Objective:
    return cast(Objective, default_registry().create("objective", name))


@contextmanager
def state_of(
    view: ModelView, tokens: Tokens = TOKENS, loss: Objective | None = None, **options: Any
) -> Iterator[PruningState]:
    given = {"merger": Fold(), "tokens_per_batch": 2 * ROW, **options}
    state = PruningState(view, tokens, objective=loss or Perplexity(), **given)
    try:
        yield state
    finally:
        state.close()


def make(state: PruningState, cut: Cut, linear_map: LinearMap | None = None) -> None:
    state.merger.merge(state.model, cut, linear_map)
    state.record(cut)


def greedy(
    state: PruningState, candidates: Candidates, steps: int, race: Race | None = None
) -> list[tuple[Cut, float]]:
    """So many steps of one search, each cut made: the cuts and their scores."""
    search = Search(state, state.dense.parameter_count, race=race)
    found = []
    for _ in range(steps):
        cut = search.best(candidates(state.model))
        found.append((cut, state.scores[cut]))
        make(state, cut)
    return found


# --- the same as the naive search --------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6)  # for each family
@given(
    seed=st.integers(0, 2**20),
    kind=st.sampled_from(sorted(CANDIDATES)),
    loss=st.sampled_from(["perplexity", "kl", "mixture"]),
    padding=st.sampled_from(["none", "left", "right", "both"]),
    tokens_per_batch=st.integers(1, 60),
)
def test_it_makes_the_cuts_of_the_naive_search_at_the_same_scores(
    family: str, seed: int, kind: str, loss: Loss, padding: Any, tokens_per_batch: int
) -> None:
    view = tiny_view(family, seed=seed, num_hidden_layers=3)
    tokens = tiny_tokens(rows=4, seq=6, seed=seed, padding=padding)
    candidates = CANDIDATES[kind]
    naive = naive_search(view, candidates, tokens, loss, 2)
    assume(all(step.lead > CLOSE for step in naive))
    with state_of(view, tokens, objective(loss), tokens_per_batch=tokens_per_batch) as state:
        found = greedy(state, candidates, 2)
    assert [cut for cut, _ in found] == [step.cut for step in naive]
    assert [score for _, score in found] == pytest.approx([step.score for step in naive], rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["branches", "layers", "mixed"])
@pytest.mark.parametrize("loss", ["perplexity", "kl"])
def test_a_longer_search_goes_the_way_of_the_naive_one(kind: str, loss: Loss) -> None:
    view = tiny_view(num_hidden_layers=5, seed=1)
    naive = naive_search(view, CANDIDATES[kind], TOKENS, loss, 4)
    assert min(step.lead for step in naive) > CLOSE
    with state_of(view, loss=objective(loss)) as state:
        found = greedy(state, CANDIDATES[kind], 4)
    assert [cut for cut, _ in found] == [step.cut for step in naive]
    assert [score for _, score in found] == pytest.approx([step.score for step in naive], rel=TOLERANCE)


def room_for(streams: float) -> CacheBudget:
    """So many streams of two rows."""
    return CacheBudget(host=round(streams * 2 * ROW * STREAM))


@given(seed=st.integers(0, 2**20), streams=st.floats(0, 30), loss=st.sampled_from(["perplexity", "kl"]))
@example(seed=0, streams=0, loss="kl")
@settings(max_examples=5)
def test_the_room_for_streams_does_not_matter(seed: int, streams: float, loss: Loss) -> None:
    view = tiny_view(num_hidden_layers=4, seed=seed)
    found = []
    for cache in (CacheBudget(), room_for(streams)):
        with state_of(view, loss=objective(loss), cache=cache) as state:
            found.append(greedy(state, branches, 3))
    assert found[0] == found[1]


def test_streams_on_disk_are_as_good_as_in_memory(tmp_path: Path) -> None:
    view = tiny_view(num_hidden_layers=4)
    found, work = [], []
    for cache in (CacheBudget(), CacheBudget(host=0, disk=2**24, folder=tmp_path)):
        with state_of(view, loss=objective("kl"), cache=cache) as state:
            found.append(greedy(state, branches, 3))
            work.append(state.flow.runner.layer_tokens)
    assert found[0] == found[1]
    assert work[0] == work[1]


@given(seed=st.integers(0, 2**20), tokens_per_batch=st.integers(1, 60), loss=st.sampled_from(["perplexity", "kl"]))
@settings(max_examples=6)
def test_the_split_into_batches_does_not_matter(seed: int, tokens_per_batch: int, loss: Loss) -> None:
    view = tiny_view(num_hidden_layers=4, seed=seed)
    assume(all(step.lead > CLOSE for step in naive_search(view, branches, TOKENS, loss, 2)))
    found = []
    for size in (tokens_per_batch, 1000):
        with state_of(view, loss=objective(loss), tokens_per_batch=size) as state:
            found.append(greedy(state, branches, 2))
    assert [cut for cut, _ in found[0]] == [cut for cut, _ in found[1]]
    assert [score for _, score in found[0]] == pytest.approx([score for _, score in found[1]], rel=TOLERANCE)


def test_a_race_and_an_exact_search_share_a_state() -> None:
    """Into as many batches, of other sizes: what is cached for one is of no use to the other."""
    tokens = tiny_tokens(rows=2100, seq=2)
    with state_of(tiny_view(num_hidden_layers=2), tokens, objective("kl"), tokens_per_batch=128) as state:
        found = [Search(state, 1, race=race).best(branches(state.model)) for race in (None, Race(), None)]
        assert len(state.flow.batches) == len(tokens.batches(tokens.ids.numel() // 32))
    assert found[0] == found[2]


# --- models that change between the steps ------------------------------------------------------------------------


@pytest.mark.parametrize("merger", [Fold(), Insert()], ids=lambda merger: type(merger).__name__)
@pytest.mark.parametrize("loss", ["perplexity", "kl"])
def test_a_repair_before_the_cut_makes_streams_stale(merger: Merger, loss: Loss) -> None:
    """The first step leaves the stream of ``early`` at layer 4; the repair of layer 3 changes layer 2."""
    view, early, late = tiny_view(num_hidden_layers=6), DropBranch(1, "mlp"), DropBranch(4, "mlp")
    with state_of(view, loss=objective(loss), merger=merger) as state:
        search = Search(state, view.parameter_count)
        search.best([late, early])
        make(state, DropLayers(3, 4), random_map(view.d_model))
        search.best([early])
        naive = naive_step(state.model, [early], TOKENS, loss, dense=view)
        assert state.scores[early] == pytest.approx(naive.score, rel=TOLERANCE)


@pytest.mark.parametrize("race", [None, Race(data=(0.5,), keep=(0.99,))], ids=["exact", "racing"])
def test_a_second_search_does_not_take_over_what_the_first_has_cached(race: Race | None) -> None:
    view, early, late = tiny_view(num_hidden_layers=6), DropBranch(1, "mlp"), DropBranch(4, "mlp")
    with state_of(view) as state:
        Search(state, view.parameter_count).best([late, early])
        make(state, DropLayers(3, 4), random_map(view.d_model))
        second = Search(state, view.parameter_count, race=race)
        for cuts in ([late, early], [early]):  # in the second step, the stream of the first one is resumed
            second.best(cuts)
        assert state.scores[early] == pytest.approx(
            naive_step(state.model, [early], TOKENS, "perplexity").score, rel=TOLERANCE
        )


def test_a_stream_that_no_change_has_reached_goes_on_where_it_was() -> None:
    view, early, late = tiny_view(num_hidden_layers=6), DropBranch(1, "mlp"), DropBranch(4, "mlp")
    with state_of(view, loss=Unsigned()) as state:
        search = Search(state, view.parameter_count)
        search.best([late, early])
        make(state, DropLayers(4, 5), None)
        before = state.flow.runner.layer_tokens
        search.best([early])
        assert state.flow.runner.layer_tokens - before == 1 * TOKENS.ids.numel()  # layer 5, all that is left
        wanted = naive_step(view, [early], TOKENS, "perplexity", done=[DropLayers(4, 5)])
        assert state.scores[early] == pytest.approx(wanted.score, rel=TOLERANCE)


@attrs.frozen
class Made(Selector):
    """Searches over layers, as many as it is told, in order of the candidates."""

    steps: int

    def needs_objective(self) -> bool:
        """It does."""
        return True

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts of one search."""
        search = Search(state, state.dense.parameter_count)
        for _ in range(self.steps):
            yield search.best([cut for cut in layers(state.model) if cut != DropLayers(0, 1)])


class Comparing:
    """After each repaired cut, asks the naive search what should come next."""

    def __init__(self) -> None:
        self.wanted: list[tuple[Cut, float]] = []

    @hookimpl
    def billhook_after_calibration(self, state: PruningState) -> None:
        self._look(state)

    @hookimpl
    def billhook_after_cut(self, state: PruningState) -> None:
        self._look(state)

    def _look(self, state: PruningState) -> None:
        cuts = [cut for cut in layers(state.model) if cut != DropLayers(0, 1)]
        step = naive_step(state.model, cuts, state.tokens, "perplexity")
        self.wanted.append((step.cut, step.score))


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_a_search_between_least_squares_repairs_sees_the_repaired_model(family: str) -> None:
    naive, tokens = Comparing(), tiny_tokens(rows=8, seq=8, padding="both")
    pruner = Pruner.following(
        "replaceme-ls", selector=Made(3), estimator="ridge", hooks=[naive], tokens_per_batch=3 * ROW
    )
    dense = tiny_model(family, num_hidden_layers=6, seed=2)
    reports = pruner.prune(dense, calibration=tokens, budget=Budget(layers=3)).reports
    assert [report.cut for report in reports] == [cut for cut, _ in naive.wanted[:3]]
    assert [report.score for report in reports] == pytest.approx([s for _, s in naive.wanted[:3]], rel=TOLERANCE)


class Vetoing:
    """Says no to some cuts."""

    def __init__(self, refused: Sequence[Cut]) -> None:
        self.refused = refused

    @hookimpl
    def billhook_before_cut(self, cut: Cut) -> str | None:
        return "needed" if cut in self.refused else None


@pytest.mark.parametrize("loss", ["perplexity", "kl"])
def test_after_a_veto_the_search_goes_on_with_the_next_best(loss: Loss) -> None:
    view = tiny_view(num_hidden_layers=4, seed=3)
    first = naive_search(view, branches, TOKENS, loss, 1)[0].cut

    def others(present: ModelView) -> list[Cut]:
        kept = {first, DropBranch(0, "attention")}
        return [cut for cut in branches(present) if cut not in kept]

    wanted = naive_search(view, others, TOKENS, loss, 3)
    pruner = Pruner.following(
        "replaceme-ls",
        selector=BlockPruner(),
        estimator="identity",
        objective=loss,
        hooks=[Vetoing([first])],
        tokens_per_batch=16,
    )
    gone = sum(Candidate.of(step.cut, view).parameters for step in wanted)
    result = pruner.prune(view.model, calibration=TOKENS, budget=Budget(parameters=gone / view.parameter_count))
    assert [report.cut for report in result.reports] == [step.cut for step in wanted]
    assert [report.score for report in result.reports] == pytest.approx([s.score for s in wanted], rel=TOLERANCE)


# --- less work ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(CANDIDATES))
def test_it_runs_fewer_layers_than_the_naive_search(kind: str) -> None:
    view = tiny_view(num_hidden_layers=5)
    with state_of(view) as state:
        cuts = [cut for cut, _ in greedy(state, CANDIDATES[kind], 3)]
        assert state.flow.runner.layer_tokens < naive_layer_tokens(view, CANDIDATES[kind], TOKENS, cuts)


def test_what_streams_are_kept_saves_work_in_the_second_step() -> None:
    view, work = tiny_view(num_hidden_layers=6), []
    for cache in (CacheBudget(host=0), CacheBudget()):
        with state_of(view, loss=Unsigned(), cache=cache) as state:  # nothing is given up: only streams save work
            greedy(state, branches, 1)
            first = state.flow.runner.layer_tokens
            greedy_on = Search(state, view.parameter_count)
            for _ in range(2):
                make(state, greedy_on.best(branches(state.model)))
            work.append((first, state.flow.runner.layer_tokens - first))
    (first_without, later_without), (first_with, later_with) = work
    assert first_with == first_without
    assert later_with < later_without


def test_without_a_change_nothing_before_the_meeting_point_is_run_again() -> None:
    """Two steps on the same model: in the second, everything resumes."""
    view, early, late = tiny_view(num_hidden_layers=6), DropBranch(1, "mlp"), DropBranch(5, "mlp")
    with state_of(view, loss=Unsigned()) as state:
        search = Search(state, view.parameter_count)
        search.best([late, early])
        before = state.flow.runner.layer_tokens
        search.best([early])
        assert state.flow.runner.layer_tokens - before == 1 * TOKENS.ids.numel()


# --- giving up ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Unsigned(Objective):
    """Perplexity that does not know that it is never negative: no candidate is given up."""

    nonnegative: ClassVar[bool] = False

    def loss(self, predictions: Predictions) -> float:
        """As perplexity."""
        return Perplexity().loss(predictions)

    def value(self, mean: float) -> float:
        """As perplexity."""
        return Perplexity().value(mean)


@attrs.frozen
class Shifted(Objective):
    """Negative log-likelihood less a constant for each token: the same order, and every sum is below 0."""

    nonnegative: ClassVar[bool] = False

    def loss(self, predictions: Predictions) -> float:
        """Negative for every batch."""
        return Perplexity().loss(predictions) - 100 * len(predictions.labels)


@attrs.frozen
class Counting(Objective):
    """KL divergence, which differs much between candidates, that counts how often it is asked."""

    asked: list[int] = attrs.field(factory=list, eq=False)
    nonnegative: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    def loss(self, predictions: Predictions) -> float:
        """As KL divergence."""
        self.asked.append(len(predictions.labels))
        return KLDivergence().loss(predictions)


class CountingUnsigned(Counting):
    """The same, and no candidate is given up."""

    nonnegative: ClassVar[bool] = False


MANY = tiny_tokens(rows=20, seq=4, seed=3)


@pytest.mark.parametrize("kind", sorted(CANDIDATES))
def test_giving_up_candidates_saves_work_and_changes_nothing(kind: str) -> None:
    view = tiny_view(num_hidden_layers=4)
    found, asked = [], []
    for loss in (Counting(), CountingUnsigned()):
        with state_of(view, MANY, loss) as state:
            found.append(greedy(state, CANDIDATES[kind], 2))
            asked.append(len(loss.asked))
    assert found[0] == found[1]
    assert asked[0] < asked[1]


def test_an_objective_that_may_be_negative_sees_all_data_of_every_candidate() -> None:
    view, loss = tiny_view(num_hidden_layers=3), CountingUnsigned()
    with state_of(view, MANY, loss) as state:
        cuts = branches(state.model)
        Search(state, 1).best(cuts)
        assert len(loss.asked) == len(cuts) * len(state.flow.batches)


def test_negative_losses_are_compared_as_they_are() -> None:
    """Were sums that only fall taken to rise, whoever is scored first would win."""
    view = tiny_view(num_hidden_layers=4, seed=1)
    with state_of(view, MANY) as state, state_of(view, MANY, Shifted()) as shifted:
        wanted = greedy(state, branches, 2)
        found = greedy(shifted, branches, 2)
    assert branches(view)[0] != wanted[0][0]
    assert [cut for cut, _ in found] == [cut for cut, _ in wanted]
    assert [score + 100 for _, score in found] == pytest.approx([math.log(score) for _, score in wanted], rel=TOLERANCE)


# --- what is not a number, and what is equal ---------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Poisoned(Objective):
    """Perplexity, but of whoever would be best it says ``bad``."""

    below: float
    bad: float
    nonnegative: ClassVar[bool] = False

    def loss(self, predictions: Predictions) -> float:
        """``bad`` for a mean below the given one."""
        found = Perplexity().loss(predictions)
        return self.bad if found / len(predictions.labels) < self.below else found


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
def test_what_is_not_finite_loses(bad: float, race: Race | None) -> None:
    view = tiny_view(num_hidden_layers=3)
    tokens = tiny_tokens(rows=1)  # one batch, so that the mean over it is the score
    step = naive_step(view, branches(view), tokens, "perplexity")
    best, second, *_ = sorted(step.scores, key=lambda cut: step.scores[cut])
    between = math.log(step.scores[best] * step.scores[second]) / 2
    with state_of(view, tokens, Poisoned(below=between, bad=bad)) as state:
        assert Search(state, 1, race=race).best(branches(view)) == second


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_if_no_candidate_has_a_number_the_objective_is_named(bad: float) -> None:
    view = tiny_view(num_hidden_layers=3)
    with (
        state_of(view, loss=Poisoned(below=math.inf, bad=bad)) as state,
        pytest.raises(
            PluginError, match=r"The objective Poisoned\(.*\) gives nan by the logits after each of \d+ cuts"
        ),
    ):
        Search(state, 1).best(branches(view)[::-1])


def useless(view: ModelView) -> ModelView:
    """Every MLP adds nothing, so all are missed alike."""
    with torch.no_grad():
        for number in view.numbers:
            for parameter in view.writer(number, "mlp").parameters():
                parameter.zero_()
    return view


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("race", [None, Race()], ids=["exact", "racing"])
def test_ties_go_to_the_first(order: tuple[int, ...], race: Race | None) -> None:
    view = useless(tiny_view(num_hidden_layers=3))
    cuts = [DropBranch(1, "attention"), *(DropBranch(number, "mlp") for number in order)]
    with state_of(view) as state:
        search = Search(state, view.parameter_count, race=race)
        for number in order:
            assert search.best([cut for cut in cuts if cut not in state.cuts]) == DropBranch(number, "mlp")
            make(state, DropBranch(number, "mlp"))


def test_ties_go_to_the_first_even_if_another_one_was_likely_to_win() -> None:
    view = useless(tiny_view(num_hidden_layers=3))
    first, known = DropBranch(2, "mlp"), DropBranch(1, "mlp")
    with state_of(view, MANY) as state:
        search = Search(state, view.parameter_count)
        search.best([DropBranch(1, "attention"), known])
        assert search.best([first, known]) == first


# --- races -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("race", [Race(), Race(data=(0.1, 0.2, 0.7), keep=(0.8, 0.5, 0.2))])
def test_a_race_scores_as_many_as_it_says_on_as_much_as_it_says(race: Race) -> None:
    view, loss = tiny_view(num_hidden_layers=5), Counting()
    with state_of(view, MANY, loss) as state:
        cuts = branches(view)
        Search(state, 1, race=race).best(cuts)
    ends = [max(1, round(share * 20)) for share in race.data]  # a row is a batch here
    seen = [sum(number < end for end in ends) for number in range(20)]
    running = [len(cuts), *(max(2, round(share * len(cuts))) for share in race.keep)]
    assert len(loss.asked) == sum(running[len(ends) - rounds_ahead] for rounds_ahead in seen)


def test_the_winner_of_a_race_is_scored_on_all_data() -> None:
    view = tiny_view(num_hidden_layers=4)
    with state_of(view, MANY) as state:
        ((cut, score),) = greedy(state, branches, 1, Race())
    assert score == pytest.approx(naive_step(view, [cut], MANY, "perplexity").score, rel=TOLERANCE)


def test_a_race_in_which_all_go_on_finds_what_the_exact_search_finds() -> None:
    view = tiny_view(num_hidden_layers=4)
    found = []
    for race in (None, Race(data=(0.5,), keep=(0.99,))):
        with state_of(view, MANY, tokens_per_batch=4) as state:
            found.append(greedy(state, branches, 2, race))
    assert found[0] == found[1]


def test_a_race_gives_the_same_every_time() -> None:
    found = []
    for cache in (CacheBudget(), CacheBudget(host=0)):
        with state_of(tiny_view(num_hidden_layers=4), MANY, cache=cache) as state:
            found.append(greedy(state, branches, 2, Race()))
    assert found[0] == found[1]


def test_a_race_runs_fewer_layers_than_the_exact_search() -> None:
    work = []
    for race in (None, Race()):
        with state_of(tiny_view(num_hidden_layers=6), MANY) as state:
            greedy(state, branches, 2, race)
            work.append(state.flow.runner.layer_tokens)
    assert work[1] < work[0]


# --- what is refused ---------------------------------------------------------------------------------------------


def test_without_an_objective_there_is_nothing_to_search_by() -> None:
    state = PruningState(tiny_view(), TOKENS, merger=Fold())
    with pytest.raises(InvalidConfig, match=r"A search needs an objective: Pruner\(objective='perplexity'\)"):
        Search(state, 1)


def test_rows_of_one_token_are_refused_at_once() -> None:
    with (
        state_of(tiny_view(), tiny_tokens(seq=1)) as state,
        pytest.raises(CalibrationError, match="needs rows of at least two tokens"),
    ):
        Search(state, 1)


@pytest.mark.parametrize("vetoed", [False, True])
def test_without_candidates_it_says_how_much_is_missing(vetoed: bool) -> None:
    cut = DropBranch(1, "mlp")
    with state_of(tiny_view()) as state:
        state.vetoed += [cut] if vetoed else []
        with pytest.raises(InvalidConfig, match=r"cannot be met: 1,234 more parameters .* Ask for less, or allow more"):
            Search(state, 1234).best([cut] if vetoed else [])


@pytest.mark.parametrize("selector", [BlockPruner(), BlockPruner(branches="mha"), Sleb()], ids=repr)
def test_a_budget_that_cannot_be_met_is_refused(selector: Selector) -> None:
    pruner = Pruner.following("replaceme-ls", selector=selector, estimator="identity")
    with pytest.raises(InvalidConfig, match=r"cannot be met|means dropping 4 layers"):
        pruner.prune(tiny_model(num_hidden_layers=3), calibration=TOKENS, budget=Budget(parameters=0.78))


def test_a_decision_of_the_journal_that_is_no_candidate_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", {})
    journal.note(Decision(cut=DropBranch(1, "mlp"), score=3.0))
    journal.close()
    with state_of(tiny_view(), journal=Journal(tmp_path / "journal", {})) as state:
        message = r"says mlp 1 in step 1, which is no candidate there.*It is left as it"
        with pytest.raises(InvalidJournal, match=message):
            Search(state, 1).best([DropBranch(2, "mlp")])
