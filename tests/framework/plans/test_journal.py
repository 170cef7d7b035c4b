"""Journal: cut anywhere, it resumes to the identical plan; of another run, or damaged, it is refused and left alone."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from billhook import (
    Budget,
    Calibration,
    Cut,
    DropBranch,
    Journal,
    KeepChannels,
    ModelView,
    Objective,
    Predictions,
    Pruner,
    PruneResult,
    PruningState,
    Race,
    Repair,
    SearchProgress,
    Selector,
    Tokens,
    default_registry,
    hookimpl,
)
from billhook.errors import InvalidJournal
from billhook.plans.journal import Decision
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.mixture import Mixture
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.mixed import Mixed
from billhook_strategies.selectors.multi_pruner import MultiPruner

LAYERS = 3
TOKENS = tiny_tokens(rows=2, seq=6, padding="right")
BUDGET = Budget(parameters=0.2)
BLOCKS = Pruner.following("replaceme-ls", selector=BlockPruner(), estimator="identity")
THREE_DIMENSIONS = Pruner.following(
    "replaceme-ls", selector=MultiPruner(shares=(3, 2, 1), channel_group=4), estimator="identity"
)
ROUNDS = Pruner.following(
    "replaceme-ls",
    selector=Mixed(rounds=2, parts=(0.25,), tokens=6, score="wanda"),
    estimator="ridge",
    merger="refit",
    repair=Repair(when="trial"),
)
PRUNERS = {"block-pruner": BLOCKS, "multi-pruner": THREE_DIMENSIONS, "mixed": ROUNDS}
RUN = {"selector": "x"}
DECISIONS = [
    Decision(cut=DropBranch(1, "mlp"), score=3.5),
    Decision(cut=KeepChannels(0, (0, 1, 2, 7)), score=math.inf),
    Decision(cut=DropBranch(2, "attention"), score=math.pi),
]


def prune(pruner: Pruner, journal: Path | None = None, **changed: Any) -> PruneResult:
    call = {"calibration": TOKENS, "budget": BUDGET, **changed}
    dense = call.pop("model", None) or tiny_model(num_hidden_layers=LAYERS)
    return attrs.evolve(pruner, journal=journal).prune(dense, **call)


@functools.cache
def whole_run(name: str) -> tuple[PruneResult, bytes]:
    """An uninterrupted run, and the journal that it leaves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        return prune(PRUNERS[name], path), path.read_bytes()


def assert_same_result(one: PruneResult, other: PruneResult) -> None:
    assert one.plan == other.plan
    assert [report.score for report in one.reports] == [report.score for report in other.reports]
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


# --- cut short ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNERS)
def test_cut_at_any_byte_it_opens_with_the_decisions_that_are_whole(name: str, tmp_path: Path) -> None:
    _, data = whole_run(name)
    run = json.loads(lines_of(data)[0])["run"]
    all_decisions = read(write(tmp_path / "whole", data), run)
    for length in range(len(data) + 1):
        path = write(tmp_path / "journal", data[:length])
        steps = whole_decisions(data[:length])
        assert read(path, run) == all_decisions[:steps]
        # the torn line is gone, or the next one would be glued to it
        assert path.read_bytes() == b"".join(lines_of(data)[: steps + 1])


def whole_decisions(data: bytes) -> int:
    """Whole lines after the first, without those of a round that is not there to its end."""
    steps = [json.loads(line) for line in lines_of(data)[1:] if line.endswith(b"\n")]
    while steps and steps[-1].get("more"):
        steps.pop()
    return len(steps)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def read(path: Path, run: dict[str, Any]) -> list[Decision]:
    journal = Journal(path, run)
    return list(iter(journal.recall, None))


@pytest.mark.parametrize("torn", [0, 1, 30])
@pytest.mark.parametrize("name", PRUNERS)
def test_cut_at_any_step_a_run_goes_on_to_the_identical_result(name: str, torn: int, tmp_path: Path) -> None:
    """Together with the test above: cut at any byte."""
    result, data = whole_run(name)
    lines = lines_of(data)
    assert len(lines) > 2
    for steps in range(len(lines) + 1):
        rest = b"".join(lines[steps:])[:torn]
        path = write(tmp_path / "journal", b"".join(lines[:steps]) + rest)
        assert_same_result(prune(PRUNERS[name], path), result)
        assert path.read_bytes() == data


@pytest.mark.slow
@pytest.mark.timeout(1800)  # a run for each of the bytes of a journal
@pytest.mark.parametrize("name", PRUNERS)
def test_cut_at_any_byte_a_run_goes_on_to_the_identical_result(name: str, tmp_path: Path) -> None:
    result, data = whole_run(name)
    for length in range(len(data) + 1):
        path = write(tmp_path / "journal", data[:length])
        assert_same_result(prune(PRUNERS[name], path), result)
        assert path.read_bytes() == data


class Stopping:
    """Ctrl-C at the given moment of the search."""

    def __init__(self, after: int) -> None:
        self.left = after

    @hookimpl
    def billhook_on_search(self, progress: SearchProgress) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", PRUNERS)
@given(after=st.integers(0, 60))
@settings(max_examples=6)
def test_interrupted_at_any_moment_it_goes_on_to_the_identical_result(name: str, after: int) -> None:
    result, data = whole_run(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        try:
            prune(attrs.evolve(PRUNERS[name], hooks=[Stopping(after)]), path)
        except KeyboardInterrupt:
            assert data.startswith(path.read_bytes())
        assert_same_result(prune(PRUNERS[name], path), result)
        assert path.read_bytes() == data


def test_a_vetoed_decision_is_vetoed_again_and_the_search_goes_on(tmp_path: Path) -> None:
    first = whole_run("block-pruner")[0].plan.cuts[0]

    class Vetoing:
        @hookimpl
        def billhook_before_cut(self, cut: Cut) -> str | None:
            return "needed" if cut == first else None

    pruner = attrs.evolve(BLOCKS, hooks=[Vetoing()])
    whole = prune(pruner, tmp_path / "whole")
    assert first not in whole.plan.cuts
    lines = lines_of((tmp_path / "whole").read_bytes())
    for steps in range(1, len(lines) + 1):
        assert_same_result(prune(pruner, write(tmp_path / "part", b"".join(lines[:steps]))), whole)


def test_a_racing_search_is_resumed_as_well(tmp_path: Path) -> None:
    pruner = attrs.evolve(BLOCKS, selector=BlockPruner(race=Race()))
    whole = prune(pruner, tmp_path / "whole")
    lines = lines_of((tmp_path / "whole").read_bytes())
    for steps in range(1, len(lines) + 1):
        assert_same_result(prune(pruner, write(tmp_path / "part", b"".join(lines[:steps]))), whole)


@pytest.mark.parametrize("selector", [BlockPruner(), MultiPruner(shares=(3, 2, 1), channel_group=4)], ids=repr)
def test_what_is_in_the_journal_is_not_scored_again(selector: Selector, tmp_path: Path) -> None:
    work, said = [], []
    for _ in range(2):
        news: list[SearchProgress] = []
        with_journal = state_of(Journal(tmp_path / "journal", RUN), news)
        cut_all(with_journal, selector)
        work.append(with_journal.flow.runner.layer_tokens)
        said.append(len(news))
        with_journal.close()
    assert work[0] > 0
    assert work[1] == 0
    assert said[0] > 0
    assert said[1] == 0


def state_of(journal: Journal, news: list[SearchProgress]) -> PruningState:
    model = tiny_model(num_hidden_layers=LAYERS)
    view = ModelView(model, default_registry().adapter_for("llama"))
    return PruningState(view, TOKENS, merger=Fold(), objective=Perplexity(), journal=journal, on_search=news.append)


def cut_all(state: PruningState, selector: Selector) -> None:
    for cut in selector.select(state, BUDGET):
        state.merger.merge(state.model, cut, None)
        state.record(cut)


# --- of another run ----------------------------------------------------------------------------------------------


@attrs.frozen
class Weighed(Objective):
    """An objective of a program, that no registry knows."""

    weight: float = 1.0
    nonnegative: ClassVar[bool] = True

    def loss(self, predictions: Predictions) -> float:
        """Perplexity's, weighed."""
        return self.weight * Perplexity().loss(predictions)


def other_model() -> PreTrainedModel:
    return tiny_model(num_hidden_layers=LAYERS, seed=1)


OTHERS: dict[str, tuple[Pruner, dict[str, Any], str]] = {
    "selector": (attrs.evolve(BLOCKS, selector="sleb"), {}, "its selector is .*block-pruner.* here it is .*sleb"),
    "options": (
        attrs.evolve(BLOCKS, selector=BlockPruner(branches="mlp")),
        {},
        r'its selector is .*"options": \{"branches": "mix".* here it is .*"branches": "mlp"',
    ),
    "race": (attrs.evolve(BLOCKS, selector=BlockPruner(race=Race())), {}, "its selector is .* here it is .*race"),
    "objective": (attrs.evolve(BLOCKS, objective="kl"), {}, "its objective is .*perplexity.* here it is .*kl"),
    "an objective's options": (attrs.evolve(BLOCKS, objective=Mixture(kl=0.1)), {}, "its objective is"),
    "merger": (attrs.evolve(BLOCKS, merger="insert"), {}, "its merger is .*fold.* here it is .*insert"),
    "budget": (BLOCKS, {"budget": Budget(parameters=0.3)}, "its budget is .*0.2.* here it is .*0.3"),
    "what the budget is of": (BLOCKS, {"budget": Budget(parameters=0.2, of="backbone")}, "its budget is .*backbone"),
    "data": (BLOCKS, {"calibration": tiny_tokens(rows=2, seq=6, seed=1)}, "its data is .*fingerprint"),
    "padding": (
        BLOCKS,
        {"calibration": Tokens(ids=TOKENS.ids, keep=torch.ones_like(TOKENS.keep))},
        "its data is .*fingerprint",
    ),
    "weights": (BLOCKS, {"model": other_model()}, "its model is .*weights"),
    "dtype": (BLOCKS, {"model": tiny_model(num_hidden_layers=LAYERS, dtype=torch.bfloat16)}, "its model is .*weights"),
    "family": (BLOCKS, {"model": tiny_model("qwen3", num_hidden_layers=LAYERS)}, "its model is .*llama.*qwen3"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_the_journal_of_another_run_is_refused_and_left_alone(other: str, tmp_path: Path) -> None:
    _, data = whole_run("block-pruner")
    path = write(tmp_path / "journal", data)
    pruner, changed, message = OTHERS[other]
    way_out = "Finish that run with its own command, or name another journal for this one"
    with pytest.raises(InvalidJournal, match=rf"belongs to another run: {message}.*{way_out}"):
        prune(pruner, path, **changed)
    assert path.read_bytes() == data


def test_options_count_for_strategies_that_are_not_registered(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = prune(attrs.evolve(BLOCKS, objective=Weighed(2.0)), path)
    assert_same_result(prune(attrs.evolve(BLOCKS, objective=Weighed(2.0)), path), one)
    with pytest.raises(InvalidJournal, match=r"its objective is .*Weighed.*2\.0.* here it is .*3\.0"):
        prune(attrs.evolve(BLOCKS, objective=Weighed(3.0)), path)


def test_how_much_is_cached_or_run_at_a_time_is_no_other_run(tmp_path: Path) -> None:
    result, data = whole_run("block-pruner")
    path = write(tmp_path / "journal", b"".join(lines_of(data)[:2]))
    again = prune(attrs.evolve(BLOCKS, tokens_per_batch=6), path).plan
    assert again == attrs.evolve(result.plan, tokens_per_batch=6)


def test_text_that_gives_the_same_tokens_is_the_same_data(tmp_path: Path) -> None:
    result, data = whole_run("block-pruner")
    same = Tokens(ids=TOKENS.ids.clone(), keep=TOKENS.keep.clone(), source="elsewhere")
    found = prune(BLOCKS, write(tmp_path / "journal", data), calibration=Calibration.of(same))
    assert found.plan.cuts == result.plan.cuts


# --- damaged and foreign files -----------------------------------------------------------------------------------


HEADER = b'{"run": {"selector": "x"}}\n'
LINE = b'{"cut": {"kind": "drop-branch", "layer": 1, "branch": "mlp"}, "score": 3.5}\n'


@pytest.mark.parametrize(
    "data",
    [
        b"a poem\n",
        b"a poem",
        b'{"a": 1}',
        b'{"a": 1}\n',
        b'{"run": 5}\n',
        b'{"run": {"selector": "x"}\n',
        b"[1, 2]\n",
        b"7\n",
        b"\n",
        b"\xff\xfe\x00\n",
        bytes(range(256)),
        HEADER + b"\n" + LINE,
        HEADER + LINE[:-20] + b"\n" + LINE,
        HEADER + LINE[5:] + LINE,
        HEADER + b"7\n",
        HEADER + HEADER,
        HEADER + b'{"cut": {"kind": "no-such"}, "score": 3.5}\n',
        HEADER + b'{"cut": {"kind": "drop-branch", "layer": -1, "branch": "mlp"}, "score": 3.5}\n',
        HEADER + b'{"cut": {"kind": "drop-branch", "layer": 1, "branch": "mlp"}}\n',
        HEADER + b'{"cut": {"kind": "drop-branch", "layer": 1, "branch": "mlp"}, "score": "low"}\n',
        HEADER + b'{"cut": {"kind": "drop-branch", "layer": 1, "branch": "mlp"}, "score": null}\n',
        HEADER + b'{"cut": null, "score": 3.5}\n',
    ],
    ids=lambda data: repr(data[-40:]),
)
def test_what_is_no_journal_is_refused_and_left_alone(data: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "journal", data)
    with pytest.raises(InvalidJournal, match=r"journal is no journal of a search"):
        Journal(path, RUN)
    assert path.read_bytes() == data


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidJournal, match=r"The journal .* cannot be written: it is a folder\. Choose another file\."
    ):
        Journal(tmp_path, RUN)


@given(data=st.binary(min_size=1, max_size=200))
def test_whatever_a_file_holds_it_is_refused_or_the_beginning_of_a_journal(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "journal", data)
        try:
            Journal(path, RUN)
        except InvalidJournal:
            assert path.read_bytes() == data
        else:
            assert b'{"run": '.startswith(data) or data.startswith(b'{"run": ')


@given(at=st.integers(0, len(HEADER + 2 * LINE) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_is_noticed_or_changes_a_value(at: int, byte: int) -> None:
    """No damage ends in another error, and none is mended by losing decisions that follow it."""
    data = bytearray(HEADER + 2 * LINE)
    data[at] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "journal", bytes(data))
        try:
            decisions = read(path, RUN)
        except InvalidJournal:
            assert path.read_bytes() == data
        else:
            assert len(decisions) == (1 if at == len(data) - 1 and byte != 10 else 2)


# --- the file itself ---------------------------------------------------------------------------------------------


def test_decisions_come_back_in_order_and_then_there_are_no_more(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal", RUN)
    for decision in DECISIONS:
        assert first.recall() is None
        first.note(decision)
    first.close()
    again = Journal(tmp_path / "journal", RUN)
    assert [again.recall() for _ in range(4)] == [*DECISIONS, None]


def test_what_was_decided_together_comes_back_together_or_not_at_all(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", RUN)
    journal.note_round(DECISIONS[:2])
    journal.note_round(DECISIONS[2:])
    data = journal.path.read_bytes()
    journal.close()
    again = Journal(journal.path, RUN)
    assert [again.recall_round() for _ in range(3)] == [DECISIONS[:2], DECISIONS[2:], []]
    lines = lines_of(data)
    torn = Journal(write(tmp_path / "torn", b"".join(lines[:2])), RUN)
    assert torn.recall_round() == []
    assert torn.path.read_bytes() == lines[0]


def test_it_counts_what_was_recalled_and_what_waits(tmp_path: Path) -> None:
    first = Journal(tmp_path / "journal", RUN)
    for decision in DECISIONS:
        first.note(decision)
    first.close()
    again = Journal(tmp_path / "journal", RUN)
    assert (again.replayed, again.waiting) == (0, 3)
    again.recall()
    assert (again.replayed, again.waiting) == (1, 2)


def test_every_decision_is_on_disk_before_the_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", RUN)
    for number, decision in enumerate(DECISIONS):
        journal.note(decision)
        assert [json.loads(line) for line in journal.path.read_bytes().splitlines()][number + 1]["score"] == (
            decision.score
        )


def test_its_folder_is_made(tmp_path: Path) -> None:
    Journal(tmp_path / "a" / "b" / "journal", RUN)
    assert (tmp_path / "a" / "b" / "journal").read_bytes() == HEADER


def test_tuples_in_the_run_are_the_lists_that_json_makes_of_them(tmp_path: Path) -> None:
    Journal(tmp_path / "journal", {"data": (0.1, 0.2)})
    assert Journal(tmp_path / "journal", {"data": (0.1, 0.2)}).waiting == 0


def test_removing_it_deletes_the_file_and_can_be_done_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", RUN)
    journal.remove()
    journal.remove()
    assert not journal.path.exists()
