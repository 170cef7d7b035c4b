"""PruningState: trials leave no trace, and only what the models do not share is computed again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.families import by_name

from billhook import Adapter, CacheBudget, Cut, DropLayers, LinearMap, Merger, ModelView, PruningState, default_registry
from billhook.errors import InvalidCut
from billhook.testing import random_map, tiny_model, tiny_tokens, tiny_view
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert

LAYERS = 5
VIEW = tiny_view(num_hidden_layers=LAYERS)
TOKENS = tiny_tokens(4, 8, padding="both")


def state_of(view: ModelView = VIEW, merger: Merger | None = None, cache: CacheBudget | None = None) -> PruningState:
    return PruningState(view, TOKENS, merger=merger or Fold(), cache=cache, tokens_per_batch=16)


@pytest.fixture
def state() -> Iterator[PruningState]:
    state = state_of()
    yield state
    state.close()


def cut(state: PruningState, cut: Cut, linear_map: LinearMap | None = None) -> None:
    state.merger.merge(state.model, cut, linear_map)
    state.record(cut)


def weights(view: ModelView) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in view.model.state_dict().items()}


def test_it_starts_with_two_equal_models_and_nothing_cut(state: PruningState) -> None:
    assert state.model.numbers == state.dense.numbers
    assert state.model.model is not state.dense.model
    assert state.shared_until == LAYERS
    assert (state.cuts, state.vetoed) == ([], [])


def test_the_mode_of_the_model_that_was_handed_in_is_not_changed() -> None:
    model = tiny_model().train()
    state = state_of(ModelView(model, default_registry().adapter_for("llama")))
    assert model.training
    assert not state.dense.model.training
    assert not state.model.model.training
    state.close()


def test_inside_a_trial_the_cut_is_made(state: PruningState) -> None:
    with state.trial(DropLayers(2, 4)) as trial:
        assert state.model is trial
        assert trial.numbers == (0, 1, 4)
        assert state.shared_until == 2
        assert state.cuts == []


def test_a_trial_is_not_repaired(state: PruningState) -> None:
    with state.trial(DropLayers(2, 4)) as trial:
        assert all(trial.writer(n, "mlp").weight is state.dense.writer(n, "mlp").weight for n in trial.numbers)


@pytest.mark.parametrize("earlier", [None, DropLayers(3, 4)])
def test_after_a_trial_everything_is_as_before(state: PruningState, earlier: Cut | None) -> None:
    if earlier is not None:
        cut(state, earlier, random_map(VIEW.d_model))
    model, shared, numbers, before = state.model, state.shared_until, state.model.numbers, weights(state.model)
    config = state.model.model.config.to_dict()
    with state.trial(DropLayers(1, 2)):
        pass
    assert state.model is model
    assert (state.shared_until, state.model.numbers) == (shared, numbers)
    assert state.model.model.config.to_dict() == config
    assert all(tensor.equal(before[name]) for name, tensor in state.model.model.state_dict().items())


def test_an_error_inside_a_trial_ends_it(state: PruningState) -> None:
    model = state.model
    with pytest.raises(RuntimeError, match="stop"), state.trial(DropLayers(1, 2)):
        raise RuntimeError("stop")
    assert state.model is model
    assert state.shared_until == LAYERS


def test_a_trial_that_cannot_be_made_changes_nothing(state: PruningState) -> None:
    model = state.model
    with pytest.raises(InvalidCut), state.trial(DropLayers(0, LAYERS)):
        raise AssertionError("the body must not run")
    assert state.model is model


def test_trials_can_be_nested(state: PruningState) -> None:
    with state.trial(DropLayers(1, 2)):
        with state.trial(DropLayers(3, 4)) as inner:
            assert inner.numbers == (0, 2, 4)
        assert state.model.numbers == (0, 2, 3, 4)
    assert state.model.numbers == tuple(range(LAYERS))


@pytest.mark.parametrize(
    ("merger", "linear_map", "shared"),
    [
        (Fold(), None, 2),
        (Fold(), random_map(VIEW.d_model), 1),
        (Insert(), random_map(VIEW.d_model), 1),
    ],
    ids=["unrepaired", "folded", "inserted"],
)
def test_the_models_agree_up_to_the_first_layer_that_is_gone_or_repaired(
    merger: Merger, linear_map: LinearMap | None, shared: int
) -> None:
    state = state_of(merger=merger)
    cut(state, DropLayers(2, 3), linear_map)
    assert state.shared_until == shared
    assert state.cuts == [DropLayers(2, 3)]
    state.close()


def test_a_later_cut_does_not_make_them_agree_again(state: PruningState) -> None:
    cut(state, DropLayers(1, 2), random_map(VIEW.d_model))
    cut(state, DropLayers(3, 4))
    assert state.shared_until == 0


def assert_final_streams_are_those_of_the_model(state: PruningState) -> None:
    for (stream, tokens), batch in zip(state.final_streams(), state.flow.batches, strict=True):
        with torch.no_grad():
            expected = state.model.model(
                input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False
            ).logits
        assert tokens.ids.equal(batch.ids)
        assert tokens.keep.equal(batch.keep)
        # the head sees tokens one by one instead of a whole row
        torch.testing.assert_close(
            state.flow.runner.logits(stream[batch.keep]), expected[batch.keep], rtol=1e-4, atol=1e-4
        )


@by_name
def test_final_streams_are_those_of_a_full_forward(adapter: Adapter) -> None:
    state = state_of(tiny_view(adapter, num_hidden_layers=LAYERS), Insert())
    assert_final_streams_are_those_of_the_model(state)
    cut(state, DropLayers(3, 4), LinearMap(0.3 * torch.eye(state.dense.d_model)))
    assert_final_streams_are_those_of_the_model(state)
    cut(state, DropLayers(1, 2))
    assert_final_streams_are_those_of_the_model(state)
    state.close()


@pytest.mark.parametrize("room", [0, 3, 8])
@pytest.mark.parametrize("start", [1, 4])
def test_final_streams_do_not_depend_on_the_cache(start: int, room: int) -> None:
    found = []
    for cache in (None, CacheBudget(host=room * 16 * VIEW.d_model * 4)):
        state = state_of(cache=cache)
        cut(state, DropLayers(start, start + 1))
        found.append([stream for _ in range(2) for stream, _ in state.final_streams()])
        state.close()
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_shared_layers_are_run_once_for_all_scorings(state: PruningState) -> None:
    for start in (3, 4):
        with state.trial(DropLayers(start, start + 1)):
            list(state.final_streams())
    shared, own = 4, (LAYERS - 4) + (LAYERS - 5)  # what both models have in common, and what is left behind each cut
    assert state.flow.runner.layer_tokens == (shared + own) * TOKENS.ids.numel()


def test_scoring_reports_its_progress() -> None:
    seen: list[tuple[str, int, int | None]] = []
    state = PruningState(VIEW, TOKENS, merger=Fold(), tokens_per_batch=16, progress=lambda *step: seen.append(step))
    list(state.final_streams())
    assert seen == [("scoring", 1, 2), ("scoring", 2, 2)]
    state.close()


def test_closing_frees_the_cache(state: PruningState) -> None:
    list(state.final_streams())
    assert state.cache.used["host"] > 0
    state.close()
    assert state.cache.used["host"] == 0


def test_what_the_dense_model_leaves_behind_does_not_depend_on_the_cuts(state: PruningState) -> None:
    before = [stream for stream, _ in state.final_streams()]
    cut(state, DropLayers(1, 3), random_map(VIEW.d_model))
    for index, stream in enumerate(before):
        assert state.dense_final_stream(index).equal(stream)


def test_removed_parameters_are_those_that_the_dense_model_has_more(state: PruningState) -> None:
    assert state.removed_parameters == 0
    cut(state, DropLayers(2, 4))
    assert state.removed_parameters == 2 * VIEW.layer_parameter_count // LAYERS
