"""Repairs of every kind of cut: the problem that is solved, what is put in, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.families import by_name, some
from tests.framework.repair.naive_repair import naive_map, naive_rows
from torch import Tensor

from billhook import (
    Adapter,
    Budget,
    CacheBudget,
    Cut,
    DropBranch,
    DropLayers,
    Estimator,
    KeepChannels,
    KeepHeads,
    LinearMap,
    Merger,
    ModelView,
    Pruner,
    PruningState,
    Regression,
    Repair,
    Rows,
    SiteReport,
)
from billhook.cuts.sites import site_within
from billhook.errors import InvalidConfig
from billhook.model.writer import weight_rows
from billhook.plans.repair import Target, Weights
from billhook.pruning.applying import Planned
from billhook.regression.regression import concatenate
from billhook.repair.figures import measure_site
from billhook.repair.present_streams import PresentStreams
from billhook.repair.streamed_regression import StreamedRegression
from billhook.testing import cut_sequences, tiny_tokens, tiny_view
from billhook.testing.conformance.expect import logits
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.mergers.refit import Refit

ADAPTERS = some()
TOKENS = tiny_tokens(6, 10, padding="both")
CUTS = (
    DropLayers(2, 3),
    DropBranch(2, "attention"),
    DropBranch(2, "mlp"),
    KeepChannels(2, (0, 3, 4)),
    KeepHeads(2, (1,)),
)
MERGERS: dict[str, Merger] = {"output": Insert(), "inner": Refit()}


def state_of(view: ModelView, repair: Repair | None = None, merger: Merger | None = None) -> PruningState:
    return PruningState(view, TOKENS, merger=merger or Insert(), tokens_per_batch=20, repair=repair)


def rows_of(state: PruningState, cut: Cut, regressor: str) -> Rows:
    site = cut.repair_site(state.model)
    assert site is not None
    after = state.model.copy()
    cut.remove_from(after)
    regression = StreamedRegression(state, site, after=after, regressor=regressor, keep_rows=True)  # type: ignore[arg-type]
    return concatenate(list(regression.batches()))


def assert_close(found: Rows, wanted: Rows) -> None:
    for name in ("x", "residual", "skip"):
        # float32 activations, some rows at a time, against all at once
        torch.testing.assert_close(getattr(found, name).double(), getattr(wanted, name), rtol=1e-4, atol=1e-4)


def fits(cut: Cut, view: ModelView) -> bool:
    if not isinstance(cut, KeepHeads | KeepChannels):
        return True
    return view.adapter.why_not_narrowable(view.model.config, cut.branch) is None


@pytest.mark.parametrize("regressor", ["output", "inner"])
@pytest.mark.parametrize("cut", CUTS, ids=str)
@by_name
def test_the_rows_of_any_cut_are_those_of_hooks_on_whole_forwards(adapter: Adapter, cut: Cut, regressor: str) -> None:
    dense = tiny_view(adapter)
    if not fits(cut, dense) or (regressor == "inner" and dense.adapter.why_not_foldable("mlp")):
        return
    state = state_of(dense)
    assert_close(rows_of(state, cut, regressor), naive_rows(dense, dense, cut, TOKENS, regressor))
    state.close()


@pytest.mark.parametrize("regressor", ["output", "inner"])
@settings(max_examples=15)
@given(data=st.data())
def test_after_other_cuts_inputs_are_the_present_models_and_targets_the_dense_ones(
    regressor: str, data: st.DataObject
) -> None:
    dense = tiny_view(num_hidden_layers=5)
    *before, cut = data.draw(cut_sequences(dense, longest=3))
    state = state_of(dense)
    for one in before:
        state.merger.merge(state.model, one, None)
        state.record(one)
    if cut.repair_site(state.model) is not None:
        assert_close(rows_of(state, cut, regressor), naive_rows(dense, state.model, cut, TOKENS, regressor))
    state.close()


@pytest.mark.parametrize("regressor", ["output", "inner"])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_target_may_also_be_the_present_models_own_stream(cut: Cut, regressor: str) -> None:
    state = state_of(tiny_view(num_hidden_layers=5), Repair(target="present"))
    first = DropBranch(1, "mlp")
    state.merger.merge(state.model, first, None)
    state.record(first)
    assert_close(rows_of(state, cut, regressor), naive_rows(state.model, state.model, cut, TOKENS, regressor))
    state.close()


def rows_at_the_end(adapter: Adapter, cut: Cut, regressor: str, target: Target) -> tuple[Rows, ModelView, ModelView]:
    """Of a donor when all cuts are made, an earlier one as well; and the models before any cut, and before the last."""
    dense = tiny_view(adapter, num_hidden_layers=5)
    state = state_of(dense)
    for one in (DropBranch(0, "mlp"), cut):
        before = state.model.copy()
        state.merger.merge(state.model, one, None)
        state.record(one)
    site, streams = cut.repair_site(before), PresentStreams(state)
    assert site is not None
    assert site == site_within(state.model, (site.layer, site.branch))
    regression = StreamedRegression(state, site, regressor=regressor, streams=streams, keep_rows=True, target=target)  # type: ignore[arg-type]
    rows = concatenate(list(regression.batches()))
    state.close()
    return rows, dense, before


@pytest.mark.parametrize("regressor", ["output", "inner"])
@pytest.mark.parametrize("cut", CUTS, ids=str)
@by_name
def test_at_the_end_the_present_target_is_the_stream_had_this_cut_alone_not_been_made(
    adapter: Adapter, cut: Cut, regressor: str
) -> None:
    if not fits(cut, tiny_view(adapter)) or (regressor == "inner" and adapter.why_not_foldable("mlp")):
        return
    rows, _, before = rows_at_the_end(adapter, cut, regressor, "present")
    assert_close(rows, naive_rows(before, before, cut, TOKENS, regressor))


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_halfway_is_the_mean_of_both_streams(cut: Cut) -> None:
    rows, dense, before = rows_at_the_end(ADAPTERS[0], cut, "inner", "halfway")
    far, near = (naive_rows(view, before, cut, TOKENS, "inner") for view in (dense, before))
    assert_close(rows, attrs.evolve(near, residual=(far.residual + near.residual) / 2))


def test_a_search_among_repaired_candidates_knows_the_dense_stream_only() -> None:
    with pytest.raises(InvalidConfig, match=r"when='trial'\) knows the dense stream only; the 'target' is 'halfway'"):
        Repair(when="trial", target="halfway")


@pytest.mark.parametrize("merger", [Fold(), Refit()], ids=repr)
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_the_writer_becomes_what_a_plain_solver_finds(cut: Cut, merger: Merger) -> None:
    dense = tiny_view()
    site = cut.repair_site(dense)
    assert site is not None
    rows = naive_rows(dense, dense, cut, TOKENS, merger.regressor)
    after = dense.copy()
    cut.remove_from(after)
    writer = weight_rows(after.writer(site.layer, site.branch)).double()
    prior = torch.eye(dense.d_model, dtype=torch.float64) if merger.regressor == "output" else writer
    solution = naive_map(rows, 0.01, prior)
    wanted = writer @ solution if merger.regressor == "output" else solution
    found = prune(dense, [cut], Ridge(strength=0.01), merger)
    # a ridge of 1 % keeps the condition number below 1e4, and the rows are float32
    torch.testing.assert_close(
        weight_rows(found.writer(site.layer, site.branch)).double(), wanted, rtol=1e-3, atol=1e-4
    )


def prune(dense: ModelView, cuts: Sequence[Cut], estimator: object, merger: Merger, **options: object) -> ModelView:
    """The pruned model, in the dense one's numbers."""
    pruner = Pruner.following(
        "replaceme-ls", selector=Planned(tuple(cuts)), estimator=estimator, merger=merger, **options
    )
    result = pruner.prune(dense.model, calibration=TOKENS, budget=Budget(parameters=0.5))
    view = dense.copy()
    for cut in cuts:
        cut.remove_from(view)
    return ModelView(result.model, dense.adapter, view.numbers, view.original_layer_count)


@pytest.mark.parametrize("merger", [Fold(), Refit(), Insert()], ids=repr)
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_repair_brings_the_stream_nearer_to_the_dense_one(cut: Cut, merger: Merger) -> None:
    dense = tiny_view()
    rows = naive_rows(dense, dense, cut, TOKENS, merger.regressor)
    pruner = Pruner.following("replaceme-ls", selector=Planned((cut,)), estimator=Ridge(strength=1e-4), merger=merger)
    report = pruner.prune(dense.model, calibration=TOKENS, budget=Budget(parameters=0.5)).reports[0]
    assert report.cosine_before < report.cosine_after <= 1 + 1e-9
    assert report.token_count == len(rows.x)
    assert report.r_squared > 0


@pytest.mark.parametrize("weights", ["residual", "stream"])
def test_weights_make_up_for_the_size_of_tokens(weights: str) -> None:
    state = state_of(tiny_view(), Repair(weights=weights))  # type: ignore[arg-type] # of the Literal
    cut = DropBranch(2, "attention")
    rows = naive_rows(state.dense, state.model, cut, TOKENS, "output")
    squares = (rows.residual if weights == "residual" else rows.skip + rows.residual).square().sum(1)
    w = torch.exp2(-squares.log2().round())  # powers of two
    site = cut.repair_site(state.model)
    assert site is not None
    after = state.model.copy()
    cut.remove_from(after)
    moments = StreamedRegression(state, site, after=after).moments()
    torch.testing.assert_close(
        moments.xr, (rows.x * w[:, None]).T @ rows.residual, rtol=1e-3, atol=1e-4
    )  # float32 rows
    assert moments.weight == pytest.approx(float(w.sum()), rel=1e-4)
    assert moments.token_count == TOKENS.token_count
    state.close()


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_a_share_of_the_rows_is_held_out(share: float) -> None:
    state = state_of(tiny_view(), Repair(held_out=share))
    aside = state.held_out
    assert int(aside.sum()) == int(len(TOKENS.ids) * share)
    site = DropBranch(2, "attention").repair_site(state.model)
    assert site is not None
    regression = StreamedRegression(state, site, keep_rows=True)
    held_out = regression.held_out()
    real = TOKENS.keep.sum(1)
    assert regression.moments().token_count == int(real[~aside].sum()) == sum(map(len, regression.batches()))
    assert (held_out.token_count if held_out is not None else 0) == int(real[aside].sum())
    state.close()


@attrs.frozen
class Harmful(Estimator):
    """Doubles what the donor writes."""

    def estimate(self, regression: Regression) -> LinearMap:
        return LinearMap(2 * regression.prior)


@pytest.mark.parametrize("when", ["winner", "trial", "final"])
def test_a_repair_that_does_not_help_on_held_out_tokens_is_not_made(when: Any) -> None:
    dense, cut = tiny_view(), KeepChannels(2, (0, 3, 4))
    plain = dense.copy()
    cut.remove_from(plain)
    batch = TOKENS.batches()[0]
    harmed, spared = (
        prune(dense, [cut], Harmful(), Refit(), repair=Repair(held_out=share, when=when)) for share in (0.0, 0.2)
    )
    assert torch.equal(logits(spared.model, batch), logits(plain.model, batch))
    assert not torch.allclose(logits(harmed.model, batch), logits(plain.model, batch), atol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"when": "later"}, "'when' of Repair must be one of winner, trial, final; got 'later'"),
        ({"target": "past"}, "'target' of Repair must be one of dense, present, halfway; got 'past'"),
        ({"weights": "heavy"}, "'weights' of Repair must be one of equal, residual, stream; got 'heavy'"),
        ({"held_out": 0.6}, "'held_out' of Repair must lie between 0 and 0.5; got 0.6"),
        ({"closing": -1}, "'closing' of Repair must not be negative, nor above 100; got -1"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        Repair(**options)  # type: ignore[arg-type]


def test_repairs_on_trial_need_an_estimator_of_moments() -> None:
    pruner = Pruner.following("replaceme-ls", selector="block-pruner", estimator=Cosine(), repair=Repair(when="trial"))
    with pytest.raises(InvalidConfig, match=r"Repairs on trial come from moments, and Cosine\(.* works on rows"):
        pruner.prune(tiny_view().model, calibration=TOKENS, budget=Budget(parameters=0.1))


def test_final_repairs_mend_every_donor_once_in_the_order_of_the_stream() -> None:
    dense = tiny_view(num_hidden_layers=6)
    cuts = [DropBranch(4, "mlp"), KeepChannels(2, (0, 3, 4, 5, 6)), DropBranch(3, "attention")]
    found = prune(dense, cuts, Ridge(strength=0.01), Refit(), repair=Repair(when="final"))
    model = dense.copy()
    for cut in cuts:
        cut.remove_from(model)
    for number, branch, after in ((2, "mlp", "mlp"), (4, "attention", "attention")):
        del after
        wanted = solved(dense, model, number, branch)
        rows = weight_rows(found.writer(number, branch)).double()  # type: ignore[arg-type] # a Branch
        torch.testing.assert_close(rows, wanted, rtol=1e-3, atol=1e-4)  # float32 rows, a ridge of 1 %
        with torch.no_grad():
            model.writer(number, branch).weight.copy_(wanted.T)  # type: ignore[arg-type, operator] # a tensor
    untouched = weight_rows(found.writer(1, "mlp"))
    assert torch.equal(untouched, weight_rows(dense.writer(1, "mlp")))


def test_what_is_repaired_at_the_end_is_reported() -> None:
    cuts = (DropBranch(4, "mlp"), KeepChannels(2, (0, 3, 4, 5, 6)), DropBranch(3, "attention"))
    repair = Repair(when="final", closing=1, held_out=0.2)
    pruner = Pruner.following(
        "replaceme-ls", selector=Planned(cuts), estimator=Ridge(strength="auto"), merger=Refit(), repair=repair
    )
    dense = tiny_view(num_hidden_layers=6)
    result = pruner.prune(dense.model, calibration=TOKENS, budget=Budget(layers=1))
    final, closing = result.repairs[:2], result.repairs[2:]
    assert [(found.donor, found.branch) for found in final] == [(2, "mlp"), (4, "attention")]
    assert [(found.donor, found.branch) for found in closing] == ModelView(result.model, dense.adapter).branches()
    donors = {cuts[0]: final[1], cuts[1]: final[0], cuts[2]: final[0]}
    for report in result.reports:
        for name in attrs.fields_dict(SiteReport):
            shown, measured = getattr(report, name), getattr(donors[report.cut], name)
            assert shown == measured or (shown != shown and measured != measured), name


def test_a_cut_whose_donor_goes_counts_on_the_donor_of_that_cut() -> None:
    pruner = Pruner.following(
        "replaceme-ls",
        selector=Planned((DropLayers(4, 5), DropLayers(3, 4))),
        estimator=Ridge(),
        merger=Refit(),
        repair=Repair(when="final"),
    )
    result = pruner.prune(tiny_view(num_hidden_layers=6).model, calibration=TOKENS, budget=Budget(layers=2))
    assert [(found.donor, found.branch) for found in result.repairs] == [(2, "mlp")]
    assert [(report.donor, report.r_squared) for report in result.reports] == 2 * [(2, result.repairs[0].r_squared)]


def test_cuts_that_nothing_stands_before_any_more_are_named(logged: list[str]) -> None:
    cuts = (DropLayers(1, 2), DropLayers(0, 1))
    pruner = Pruner.following(
        "replaceme-ls", selector=Planned(cuts), estimator=Ridge(), merger=Refit(), repair=Repair(when="final")
    )
    result = pruner.prune(tiny_view(num_hidden_layers=6).model, calibration=TOKENS, budget=Budget(layers=2))
    assert result.repairs == ()
    for cut in cuts:
        assert f"{cut} cannot be repaired: nothing that is left stands before it." in logged


def solved(dense: ModelView, present: ModelView, number: int, branch: str) -> Tensor:
    """The writer of a branch, solved anew toward the dense stream."""
    from tests.framework.repair.naive_repair import seen, target_of

    from billhook.cuts.sites import site_within

    site = site_within(present, (number, branch))  # type: ignore[arg-type] # a Branch
    found = {name: t[TOKENS.keep].double() for name, t in seen(present, TOKENS, number, site.branch).items()}
    writer = weight_rows(present.writer(number, site.branch)).double()
    skip = found["after"] - found["inner"] @ writer
    rows = Rows(found["inner"], target_of(dense, TOKENS, site)[TOKENS.keep].double() - skip, skip)
    return naive_map(rows, 0.01, writer)


@pytest.mark.parametrize("target", ["dense", "present"])
@pytest.mark.parametrize("weights", ["residual", "stream"])
@pytest.mark.parametrize("cache", [CacheBudget(), CacheBudget(host=2000), CacheBudget(host=0)])
def test_rows_carry_the_weights_that_the_figures_are_of(cache: CacheBudget, weights: Weights, target: Target) -> None:
    repair = Repair(weights=weights, held_out=0.2, target=target)
    state = PruningState(tiny_view(), TOKENS, merger=Fold(), repair=repair, cache=cache, tokens_per_batch=20)
    cut = DropBranch(2, "attention")
    site = cut.repair_site(state.model)
    assert site is not None
    after = state.model.copy()
    cut.remove_from(after)
    regression = StreamedRegression(state, site, after=after, keep_rows=True)
    rows = concatenate(list(regression.batches(7)))
    squares = (rows.residual if weights == "residual" else rows.target).double().square().sum(1)
    assert rows.weights is not None
    torch.testing.assert_close(rows.weights, torch.exp2(-squares.log2().round()))
    linear_map = LinearMap(torch.eye(regression.d_out, dtype=torch.float64) * 0.9)
    w, wanted = rows.weights[:, None], rows.residual.double()
    error = (w * (linear_map(rows.x) - wanted).square()).sum()
    spread = (w * (wanted - (w * wanted).sum(0) / w.sum()).square()).sum()
    report = measure_site(site, regression, linear_map)
    assert report.r_squared == pytest.approx(float(1 - error / spread), rel=1e-6)
    assert report.token_count == len(rows) < TOKENS.token_count
    state.close()


def test_rows_of_sixteen_bits_weigh_what_they_weigh_in_the_moments() -> None:
    view = tiny_view(dtype=torch.bfloat16)
    state = PruningState(view, TOKENS, merger=Fold(), repair=Repair(weights="residual"), tokens_per_batch=20)
    regression = StreamedRegression(state, site_within(view, (1, "mlp")), keep_rows=True)
    rows = concatenate(list(regression.batches(7)))
    assert rows.x.dtype == torch.bfloat16
    assert float(rows.counts.sum()) == regression.moments().weight
    state.close()
