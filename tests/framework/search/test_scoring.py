"""Scoring: objectives of whole models, a few tokens' logits at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, cast

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.framework.search.naive_search import Loss, naive_score
from tests.strategies import tiny_models
from torch import Tensor
from transformers import PreTrainedModel

from billhook import Cut, DropBranch, DropLayers, ModelView, Objective, Predictions, PruningState, default_registry
from billhook.errors import CalibrationError, PluginError
from billhook.evaluation import loss
from billhook.search.scoring import losses, predicted_count, score
from billhook.testing import random_map, tiny_tokens, tiny_view
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.objectives.kl_divergence import KLDivergence
from billhook_strategies.objectives.mixture import Mixture
from billhook_strategies.objectives.perplexity import Perplexity

OBJECTIVES: dict[Loss, Objective] = {"perplexity": Perplexity(), "kl": KLDivergence(), "mixture": Mixture(kl=0.3)}
TOKENS = tiny_tokens(rows=5, seq=9, padding="both")
TOLERANCE = 1e-4  # float32 logits


def state_of(view: ModelView, tokens_per_batch: int = 18) -> PruningState:
    return PruningState(view, TOKENS, merger=Insert(), tokens_per_batch=tokens_per_batch)


@given(
    model=tiny_models(),
    padding=st.sampled_from(["none", "left", "right", "both"]),
    loss=st.sampled_from(["perplexity", "kl", "mixture"]),
    seed=st.integers(0, 99),
)
def test_it_is_the_objective_of_the_whole_model(model: PreTrainedModel, padding: str, loss: Loss, seed: int) -> None:
    tokens = tiny_tokens(rows=5, seed=seed, padding=padding)  # type: ignore[arg-type] # sampled from its literals
    view = ModelView(model, default_registry().adapter_for(model.config.model_type))
    state = PruningState(view, tokens, merger=Insert(), tokens_per_batch=24)
    DropLayers(2, 3).remove_from(state.model)
    state.record(DropLayers(2, 3))
    wanted = naive_score(state.model.model, model, tokens, loss, kl=0.3)
    assert score(state, OBJECTIVES[loss]) == pytest.approx(wanted, rel=TOLERANCE)
    state.close()


@pytest.mark.parametrize("loss", OBJECTIVES)
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma3_text", "falcon", "granite"])
@pytest.mark.parametrize("cuts", [[DropLayers(0, 1)], [DropLayers(2, 4)], [DropLayers(1, 2), DropBranch(4, "mlp")]])
def test_after_cuts_it_is_that_of_the_cut_model(loss: Loss, model_type: str, cuts: list[Cut]) -> None:
    view = tiny_view(model_type, num_hidden_layers=6)
    state = state_of(view)
    for cut in cuts:
        linear_map = random_map(view.d_model) if isinstance(cut, DropLayers) and cut.start > 0 else None
        state.merger.merge(state.model, cut, linear_map)
        state.record(cut)
    wanted = naive_score(state.model.model, view.model, TOKENS, loss, kl=0.3)
    assert score(state, OBJECTIVES[loss]) == pytest.approx(wanted, rel=TOLERANCE)
    state.close()


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=repr)
def test_a_trial_is_scored_and_forgotten(objective: Objective) -> None:
    state = state_of(tiny_view())
    dense = score(state, objective)
    with state.trial(DropLayers(1, 3)):
        assert score(state, objective) != dense
    assert score(state, objective) == dense
    state.close()


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=repr)
@pytest.mark.parametrize("chunk", [1, 7])
def test_how_many_logits_exist_at_a_time_does_not_matter(
    objective: Objective, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(tiny_view())
    with state.trial(DropBranch(1, "mlp")):
        whole = score(state, objective)
        monkeypatch.setattr(loss, "CPU_LOGITS", chunk)
        assert score(state, objective) == pytest.approx(whole, rel=1e-5)  # the same float32 sums in other groups
    state.close()


@attrs.frozen
class Looking(Objective):
    """Notes what it is shown."""

    compares: ClassVar[bool] = True

    seen: list[Predictions] = attrs.field(factory=list, eq=False)
    reference: list[Tensor] = attrs.field(factory=list, eq=False)

    def loss(self, predictions: Predictions) -> float:
        """None."""
        self.seen.append(predictions)
        self.reference.append(predictions.dense_logits())
        return 0.0


def test_an_objective_sees_each_real_token_that_follows_one_and_its_predecessors_logits() -> None:
    looking, view = Looking(), tiny_view()
    state = state_of(view)
    score(state, looking)
    follows = TOKENS.keep[:, :-1] & TOKENS.keep[:, 1:]
    with torch.no_grad():
        logits = view.model(input_ids=TOKENS.ids, attention_mask=TOKENS.keep.long(), use_cache=False).logits
    assert torch.cat([shown.labels for shown in looking.seen]).equal(TOKENS.ids[:, 1:][follows])
    shown = torch.cat([shown.logits for shown in looking.seen])
    torch.testing.assert_close(shown, logits[:, :-1][follows], rtol=1e-4, atol=1e-4)  # token by token, not by row
    state.close()


def test_an_objective_never_sees_more_tokens_than_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CPU_LOGITS", 5)
    looking, state = Looking(), state_of(tiny_view(), tokens_per_batch=1000)
    score(state, looking)
    assert [len(shown.labels) for shown in looking.seen[:-1]] == [5] * (len(looking.seen) - 1)
    assert max(len(logits) for logits in looking.reference) == 5
    state.close()


def test_the_dense_logits_are_those_of_the_same_tokens() -> None:
    looking, state = Looking(), state_of(tiny_view())
    score(state, looking)
    for shown, dense in zip(looking.seen, looking.reference, strict=True):
        torch.testing.assert_close(shown.logits, dense)
    state.close()


def test_candidates_are_scored_as_if_each_were_alone_and_the_dense_stream_is_asked_for_once() -> None:
    state, asked = state_of(tiny_view(), tokens_per_batch=1000), []
    ((dense, batch),) = state.final_streams()
    with state.trial(DropLayers(1, 2)):
        ((smaller, _),) = state.final_streams()

    def reference() -> Tensor:
        asked.append(1)
        return dense

    together = losses(state.flow.runner, KLDivergence(), [smaller, dense, smaller], batch, reference)
    assert len(asked) == 1
    (alone,) = losses(state.flow.runner, KLDivergence(), [smaller], batch, lambda: dense)
    assert together == [alone, 0.0, alone]
    state.close()


def test_the_dense_stream_is_not_asked_for_if_nobody_compares() -> None:
    state = state_of(tiny_view(), tokens_per_batch=1000)
    ((dense, batch),) = state.final_streams()
    never = cast(Callable[[], Tensor], None)  # calling it would raise
    assert losses(state.flow.runner, Perplexity(), [dense], batch, never)[0] > 0
    state.close()


@pytest.mark.parametrize("padding", ["none", "left", "right", "both"])
def test_predicted_tokens_are_all_but_the_first_of_each_row(padding: str) -> None:
    tokens = tiny_tokens(rows=6, padding=padding)  # type: ignore[arg-type] # one of its literals
    (batch,) = tokens.batches(1000)
    assert predicted_count(batch) == sum(int(row.sum()) - 1 for row in tokens.keep)


def test_rows_of_one_token_are_refused() -> None:
    state = PruningState(tiny_view(), tiny_tokens(seq=1), merger=Insert())
    with pytest.raises(CalibrationError, match="An objective needs rows of at least two tokens"):
        score(state, Perplexity())
    state.close()


@attrs.frozen
class Odd(Objective):
    """Gives back what it was made with."""

    answer: object

    def loss(self, predictions: Predictions) -> float:
        """It."""
        return cast(float, self.answer)


@pytest.mark.parametrize("answer", [None, "1.5", torch.ones(2), torch.ones(1, dtype=torch.complex64), [1.0], 1j])
def test_an_objective_that_gives_no_number_is_named(answer: object) -> None:
    state = state_of(tiny_view())
    with pytest.raises(PluginError, match=r"The loss of the objective Odd\(.*\) must be one number; got "):
        score(state, Odd(answer))


@pytest.mark.parametrize("answer", [2, True, np.float32(2.0), torch.tensor(2.0), torch.tensor([2])])
def test_whatever_is_one_number_will_do(answer: object) -> None:
    assert math.isfinite(score(state_of(tiny_view()), Odd(answer)))


def test_a_value_that_is_no_number_is_named() -> None:
    @attrs.frozen
    class Valued(Perplexity):
        def value(self, mean: float) -> float:
            return cast(float, None)

    with pytest.raises(PluginError, match=r"The value of the objective Valued\(\) must be one number; got None"):
        score(state_of(tiny_view()), Valued())
