"""Pruner: the loop. Nothing reaches the user's model, whatever happens; hooks are called where they say."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from billhook import (
    Budget,
    CacheBudget,
    Calibration,
    Cut,
    CutReport,
    DropLayers,
    Estimator,
    LinearMap,
    ModelView,
    Pruner,
    PruneResult,
    PruningState,
    Regression,
    Repair,
    Selector,
    Tokens,
    default_registry,
    hookimpl,
)
from billhook.errors import (
    CalibrationError,
    CannotMerge,
    InvalidConfig,
    InvalidCut,
    PluginError,
    SingularProblem,
    UnknownStrategy,
    UnsupportedArchitecture,
    UnusableModel,
)
from billhook.testing import linearised, tiny_model, tiny_tokenizer, tiny_tokens
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.channels import Channels
from billhook_strategies.selectors.curvature import Curvature
from billhook_strategies.selectors.fixed_windows import FixedWindows

LAYERS = 6
TOKENS = tiny_tokens(8, 12, padding="both")
TWO_WINDOWS = FixedWindows(spans=((1, 2), (3, 5)))
THREE = Budget(layers=3)


def model() -> PreTrainedModel:
    return tiny_model(num_hidden_layers=LAYERS)


@torch.no_grad()
def logits(of: PreTrainedModel) -> torch.Tensor:
    found: torch.Tensor = of(input_ids=TOKENS.ids, attention_mask=TOKENS.keep.long(), use_cache=False).logits
    return found[TOKENS.keep]


class Snapshot:
    """Everything about a model that a run must not change."""

    def __init__(self, given: PreTrainedModel) -> None:
        self._model = given
        self._modules = list(given.modules())
        self._modes = [module.training for module in self._modules]
        self._tensors = {name: (tensor, tensor.clone()) for name, tensor in self._state()}
        self._gradients = [parameter.requires_grad for parameter in given.parameters()]
        self._config = copy.deepcopy(given.config.to_dict())
        self._slots = self._layer_slots()

    def assert_unchanged(self) -> None:
        assert list(self._model.modules()) == self._modules
        assert [module.training for module in self._modules] == self._modes
        state = dict(self._state())
        assert state.keys() == self._tensors.keys()
        for name, (tensor, value) in self._tensors.items():
            assert state[name] is tensor
            assert tensor.equal(value) or not tensor.isfinite().all()
        assert [parameter.requires_grad for parameter in self._model.parameters()] == self._gradients
        assert self._model.config.to_dict() == self._config
        assert self._layer_slots() == self._slots
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in self._modules)

    def _state(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self._model.named_parameters()
        yield from self._model.named_buffers()

    def _layer_slots(self) -> list[Any]:
        return [getattr(module, "layer_idx", None) for module in self._modules]


# --- what comes out ----------------------------------------------------------------------------------------------


def test_the_pruned_model_has_fewer_layers_and_is_ready_to_use() -> None:
    result = Pruner.following("replaceme-ls").prune(model(), calibration=TOKENS, budget=Budget(layers=2))
    assert result.model.config.num_hidden_layers == LAYERS - 2
    assert not result.model.training
    assert type(result.model).__name__ == "LlamaForCausalLM"


def test_without_repair_the_result_is_the_model_that_skips_the_layers() -> None:
    dense = model()
    result = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((2, 4),)), estimator="identity").prune(
        dense, calibration=TOKENS, budget=Budget(layers=2)
    )
    view = ModelView(dense, default_registry().adapter_for("llama"))
    torch.testing.assert_close(logits(result.model), logits(linearised(view, DropLayers(2, 4), None)))


def test_what_is_not_cut_or_repaired_is_shared_with_the_dense_model() -> None:
    dense = model()
    result = Pruner.following("replaceme-ls", selector=FixedWindows(spans=((2, 4),))).prune(
        dense, calibration=TOKENS, budget=Budget(layers=2)
    )
    ours, theirs = dict(dense.named_parameters()), dict(result.model.named_parameters())
    changed = {name for name, tensor in theirs.items() if not any(tensor is other for other in ours.values())}
    assert changed == {"model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.bias"}


def test_the_repair_is_better_than_none() -> None:
    dense = model()

    def distance(estimator: str) -> float:
        pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, estimator=estimator)
        return float((logits(pruner.prune(dense, calibration=TOKENS, budget=THREE).model) - logits(dense)).norm())

    assert distance("least-squares") < 0.9 * distance("identity")


def test_metrics_count_layers_parameters_and_seconds() -> None:
    dense = model()
    result = Pruner.following("replaceme-ls", selector=TWO_WINDOWS).prune(dense, calibration=TOKENS, budget=THREE)
    before, after = dense.num_parameters(), result.model.num_parameters()
    found = dict(result.metrics)
    seconds = {name: found.pop(name) for name in ("seconds_selecting", "seconds_repairing", "seconds_total")}
    assert found == {
        "layers_before": LAYERS,
        "layers_after": LAYERS - 3,
        "parameters_before": before,
        "parameters_after": after,
        "ratio": 1 - after / before,
        # layers 0 and 1 for the first window; 0 and 2 of the cut model, and 2 to 4 of the dense one, for the second
        "layer_tokens": 7 * TOKENS.ids.numel(),
    }
    assert 0 < seconds["seconds_selecting"] + seconds["seconds_repairing"] <= seconds["seconds_total"]


def test_an_objective_is_measured_before_and_after() -> None:
    result = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, objective=Perplexity()).prune(
        model(), calibration=TOKENS, budget=THREE
    )
    for name, measured in (("objective_before", model()), ("objective_after", result.model)):
        with torch.no_grad():
            scores = measured(input_ids=TOKENS.ids, attention_mask=TOKENS.keep.long(), use_cache=False).logits
        counts = TOKENS.keep[:, :-1] & TOKENS.keep[:, 1:]
        loss = torch.nn.functional.cross_entropy(scores[:, :-1][counts].double(), TOKENS.ids[:, 1:][counts])
        assert result.metrics[name] == pytest.approx(math.exp(float(loss)), rel=1e-5)  # float32 logits


def test_there_is_one_report_for_each_cut() -> None:
    reports = (
        Pruner.following("replaceme-ls", selector=TWO_WINDOWS).prune(model(), calibration=TOKENS, budget=THREE).reports
    )
    assert [(report.cut, report.donor) for report in reports] == [(DropLayers(1, 2), 0), (DropLayers(3, 5), 2)]
    assert all(report.token_count == TOKENS.token_count and report.seconds > 0 for report in reports)
    assert all(0 < report.r_squared <= 1 and report.cosine_after > report.cosine_before for report in reports)


def test_an_unrepaired_cut_has_a_report_without_figures() -> None:
    (report,) = (
        Pruner.following("replaceme-ls", estimator="identity")
        .prune(model(), calibration=TOKENS, budget=Budget(layers=1))
        .reports
    )
    assert report.donor is None
    assert math.isnan(report.r_squared)


def test_the_tokenizer_is_carried_along() -> None:
    tokenizer = tiny_tokenizer()
    result = Pruner.following("replaceme-ls", estimator="identity").prune(
        model(), tokenizer, calibration=TOKENS, budget=Budget(layers=1)
    )
    assert result.tokenizer is tokenizer


def test_the_same_call_gives_the_same_weights() -> None:
    one, other = (
        Pruner.following("replaceme-ls").prune(model(), calibration=TOKENS, budget=Budget(layers=2)) for _ in range(2)
    )
    assert one.plan == other.plan
    for name, tensor in one.model.state_dict().items():
        assert tensor.equal(other.model.state_dict()[name])


@pytest.mark.parametrize("cache", [CacheBudget(host=0), CacheBudget(host=3000)])
@pytest.mark.parametrize("estimator", ["least-squares", "cosine"])
def test_the_cache_changes_the_time_and_not_the_result(cache: CacheBudget, estimator: str) -> None:
    results = [
        Pruner.following(
            "replaceme-ls", selector=TWO_WINDOWS, estimator=estimator, cache=given, tokens_per_batch=24
        ).prune(model(), calibration=TOKENS, budget=THREE)
        for given in (CacheBudget(), cache)
    ]
    one, other = (result.model.state_dict() for result in results)
    assert all(tensor.equal(other[name]) for name, tensor in one.items())


def test_text_is_calibrated_on_with_a_tokenizer() -> None:
    calibration = Calibration(source=["the quick brown fox jumps over the lazy dog " * 9], samples=9, seqlen=12)
    result = Pruner.following("replaceme-ls").prune(
        model(), tiny_tokenizer(), calibration=calibration, budget=Budget(layers=1)
    )
    assert result.plan.calibration.source == "1 documents"
    assert result.plan.calibration.token_count == 9 * 12


# --- strategies by name and by object ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "estimator", "merger", "objective"),
    [
        ("cosine", "ridge", "fold", "perplexity"),
        ("billhook:angular", "billhook:diagonal", "billhook:insert", "billhook:perplexity"),
        (TWO_WINDOWS, Ridge(), Insert(), Perplexity()),
        ("l2", LeastSquares(), "fold", None),
    ],
)
def test_strategies_are_given_by_name_or_by_object(selector: Any, estimator: Any, merger: Any, objective: Any) -> None:
    pruner = Pruner.following(
        "replaceme-ls", selector=selector, estimator=estimator, merger=merger, objective=objective
    )
    result = pruner.prune(model(), calibration=TOKENS, budget=THREE)
    assert result.model.config.num_hidden_layers == LAYERS - 3


@pytest.mark.parametrize("role", ["selector", "estimator", "merger", "objective"])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("no-such-thing", UnknownStrategy, "No {role} is named 'no-such-thing'"),
        (object, InvalidConfig, "The {role} must be a name or an object of the class .*That is the class; call it"),
        (7, InvalidConfig, "The {role} must be a name or an object of the class .* got 7"),
    ],
)
def test_what_plays_no_role_is_refused_by_name(role: str, given: Any, error: type[Exception], message: str) -> None:
    pruner = Pruner.following("replaceme-ls", **{role: given})
    with pytest.raises(error, match=message.format(role=role)):
        pruner.prune(model(), calibration=TOKENS, budget=THREE)


@pytest.mark.parametrize("budget", [0.25, 3, None, {"layers": 1}])
def test_a_budget_that_is_none_is_refused_with_an_example(budget: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"must be a Budget, for instance Budget\(layers=8\); got"):
        Pruner.following("replaceme-ls").prune(model(), calibration=TOKENS, budget=budget)


def test_a_model_that_is_none_is_refused_with_the_way_to_get_one() -> None:
    wrong: Any = "smollm2"
    with pytest.raises(UnsupportedArchitecture, match=r"as billhook.load\(name\) gives; got str"):
        Pruner.following("replaceme-ls").prune(wrong, calibration=TOKENS, budget=THREE)


# --- hooks -------------------------------------------------------------------------------------------------------


class Listening:
    """Notes every hook call in order, and checks what the state looks like then."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.progress: list[tuple[str, int, int | None]] = []

    @hookimpl
    def billhook_after_calibration(self, state: PruningState) -> None:
        assert isinstance(state.tokens, Tokens)
        self.calls.append(("after_calibration", state.tokens.fingerprint))

    @hookimpl
    def billhook_before_prune(self, state: PruningState, budget: Budget) -> None:
        self.calls.append(("before_prune", state.model.numbers, budget))

    @hookimpl
    def billhook_before_cut(self, state: PruningState, cut: Cut) -> None:
        self.calls.append(("before_cut", state.model.numbers, cut))

    @hookimpl
    def billhook_after_estimate(self, state: PruningState, cut: Cut, linear_map: LinearMap | None) -> None:
        self.calls.append(("after_estimate", state.model.numbers, cut, type(linear_map).__name__))

    @hookimpl
    def billhook_after_cut(self, state: PruningState, cut: Cut, report: CutReport) -> None:
        assert state.cuts[-1] == cut == report.cut
        self.calls.append(("after_cut", state.model.numbers, cut))

    @hookimpl
    def billhook_after_prune(self, result: PruneResult) -> None:
        self.calls.append(("after_prune", result))

    @hookimpl
    def billhook_on_progress(self, stage: str, done: int, total: int | None) -> None:
        self.progress.append((stage, done, total))


@pytest.mark.parametrize(("estimator", "kind"), [("ridge", "LinearMap"), ("identity", "NoneType")])
def test_hooks_are_called_in_their_order_with_their_arguments(estimator: str, kind: str) -> None:
    listening = Listening()
    pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, estimator=estimator, hooks=[listening])
    result = pruner.prune(model(), calibration=TOKENS, budget=THREE)
    first, second = DropLayers(1, 2), DropLayers(3, 5)
    whole, once, twice = (0, 1, 2, 3, 4, 5), (0, 2, 3, 4, 5), (0, 2, 5)
    assert listening.calls == [
        ("after_calibration", TOKENS.fingerprint),
        ("before_prune", whole, THREE),
        ("before_cut", whole, first),
        ("after_estimate", whole, first, kind),
        ("after_cut", once, first),
        ("before_cut", once, second),
        ("after_estimate", once, second, kind),
        ("after_cut", twice, second),
        ("after_prune", result),
    ]


def test_progress_names_the_stages_and_counts_to_their_totals() -> None:
    listening = Listening()
    pruner = Pruner.following(
        "replaceme-ls",
        selector="cosine",
        estimator="cosine",
        objective="perplexity",
        hooks=[listening],
        tokens_per_batch=24,
    )
    pruner.prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    batches = len(TOKENS.batches(24))
    for stage in ("selecting", "estimating"):
        assert [step for step in listening.progress if step[0] == stage] == [
            (stage, done, batches) for done in range(1, batches + 1)
        ]
    assert [step[1] for step in listening.progress if step[0] == "fitting"] == list(range(1, 11))  # Cosine's epochs
    assert [step[1] for step in listening.progress if step[0] == "scoring"] == 2 * list(range(1, batches + 1))


@pytest.mark.parametrize("selector", [Curvature(), Channels(group=2, score="obs", uniform=True)], ids=repr)
def test_what_is_done_branch_by_branch_is_counted_too(selector: Selector) -> None:
    listening = Listening()
    repair = Repair(when="final")
    pruner = Pruner.following(
        "replaceme-ls", selector=selector, estimator="ridge", merger="refit", repair=repair, hooks=[listening]
    )
    result = pruner.prune(model(), calibration=TOKENS, budget=Budget(parameters=0.2))
    stages = {"eliminating": LAYERS, "repairing": len(result.repairs)}
    for stage, total in stages.items():
        assert [step for step in listening.progress if step[0] == stage] == [
            (stage, done, total) for done in range(1, total + 1)
        ]


class Vetoing:
    """Says no to cuts that touch a layer."""

    def __init__(self, layer: int) -> None:
        self.layer = layer

    @hookimpl
    def billhook_before_cut(self, cut: DropLayers) -> str | None:
        return f"layer {self.layer} is needed" if self.layer in cut.layers else None


def test_a_veto_skips_the_cut_and_the_others_are_made() -> None:
    seen: list[list[Cut]] = []

    class Looking:
        @hookimpl
        def billhook_after_cut(self, state: PruningState) -> None:
            seen.append(list(state.vetoed))

    pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, hooks=[Vetoing(1), Looking()])
    result = pruner.prune(model(), calibration=TOKENS, budget=THREE)
    assert result.plan.cuts == (DropLayers(3, 5),)
    assert seen == [[DropLayers(1, 2)]]
    assert result.model.config.num_hidden_layers == LAYERS - 2


def test_when_all_cuts_are_vetoed_the_model_comes_back_as_it_was_with_a_warning(logged: list[str]) -> None:
    dense = model()
    pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, hooks=[Vetoing(1), Vetoing(3)])
    result = pruner.prune(dense, calibration=TOKENS, budget=THREE)
    assert result.plan.cuts == ()
    assert result.metrics["ratio"] == 0
    assert logits(result.model).equal(logits(dense))
    assert len(logged) == 1
    assert re.match(
        r"Nothing was cut: hooks vetoed all that the selector FixedWindows\(.*\) proposed \(2 cuts\)", logged[0]
    )


def test_a_selector_sees_the_model_with_its_last_cut_repaired_when_it_is_resumed() -> None:
    seen: list[tuple[tuple[int, ...], bool]] = []

    @attrs.frozen
    class Watching(Selector):
        def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
            for start in (2, 4):
                yield DropLayers(start, start + 1)
                donor = state.model.writer(start - 1, "mlp").weight
                seen.append((state.model.numbers, donor is not state.dense.writer(start - 1, "mlp").weight))

    Pruner.following("replaceme-ls", selector=Watching()).prune(model(), calibration=TOKENS, budget=Budget(layers=2))
    assert seen == [((0, 1, 3, 4, 5), True), ((0, 1, 3, 5), True)]


def test_hooks_of_one_pruner_are_not_heard_by_another() -> None:
    listening = Listening()
    Pruner.following("replaceme-ls", hooks=[listening])
    Pruner.following("replaceme-ls", estimator="identity").prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    assert listening.calls == []


def test_a_plugin_is_asked_for_its_strategies_once_a_run() -> None:
    asked = []

    class Offering:
        @hookimpl
        def billhook_register_estimators(self, register: Callable[[str, Callable[..., Estimator]], None]) -> None:
            asked.append(self)
            register("mine", Identity)

    pruner = Pruner.following("replaceme-ls", estimator="mine", hooks=[Offering()])
    assert pruner.prune(model(), calibration=TOKENS, budget=Budget(layers=1)).plan.estimator.name
    assert len(asked) == 1


def test_a_pruner_with_hooks_can_be_used_again() -> None:
    listening = Listening()
    pruner = Pruner.following("replaceme-ls", estimator="identity", hooks=[listening])
    for _ in range(2):
        pruner.prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    assert [call[0] for call in listening.calls].count("after_prune") == 2


# --- the user's model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("merger", ["fold", "insert"])
@pytest.mark.parametrize("estimator", ["least-squares", "cosine", "identity"])
def test_a_run_does_not_change_the_model_that_was_handed_in(training: bool, merger: str, estimator: str) -> None:
    dense = model().train(training)
    dense.model.layers[2].eval()  # modes differ by module
    dense.model.embed_tokens.requires_grad_(False)
    before = Snapshot(dense)
    Pruner.following(
        "replaceme-ls", selector=TWO_WINDOWS, estimator=estimator, merger=merger, objective="perplexity"
    ).prune(dense, calibration=TOKENS, budget=THREE)
    before.assert_unchanged()


class Raising:
    """Raises in one hook."""

    def __init__(self, where: str) -> None:
        def raising() -> None:
            raise RuntimeError(f"stopped in {where}")

        setattr(self, where, hookimpl(raising))


@attrs.frozen
class Wild(Selector):
    """Yields whatever it is given."""

    cuts: tuple[Cut, ...]

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """The cuts."""
        yield from self.cuts


@attrs.frozen
class Biased(Estimator):
    """Gives a map with a bias."""

    def estimate(self, regression: Regression) -> LinearMap:
        """The identity, and a bias of one."""
        return LinearMap(torch.eye(regression.d_in), torch.ones(regression.d_out))


def spoil(given: PreTrainedModel) -> None:
    with torch.no_grad():
        given.get_parameter("model.layers.3.mlp.up_proj.weight")[0, 0] = math.nan


def quantise(given: PreTrainedModel) -> None:
    given.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True)


def rename(given: PreTrainedModel) -> None:
    vars(given.config)["model_type"] = "unheard-of"


def nothing(given: PreTrainedModel) -> None:
    pass


FEW = tiny_tokens(1, 12)
CASES: dict[str, tuple[Callable[[PreTrainedModel], None], dict[str, Any], dict[str, Any], type[Exception]]] = {
    "weights are not finite": (spoil, {}, {}, UnusableModel),
    "quantised": (quantise, {}, {}, UnusableModel),
    "unknown architecture": (rename, {}, {}, UnsupportedArchitecture),
    "unknown name": (nothing, {"estimator": "rigde"}, {}, UnknownStrategy),
    "too many layers": (nothing, {}, {"budget": Budget(layers=LAYERS)}, InvalidConfig),
    "too few free layers": (nothing, {}, {"budget": Budget(layers=LAYERS - 1)}, InvalidConfig),
    "layers that are not there": (nothing, {"selector": FixedWindows(spans=((4, 9),))}, {}, InvalidCut),
    "layers that are gone": (nothing, {"selector": Wild((DropLayers(1, 3), DropLayers(2, 4)))}, {}, InvalidCut),
    "nothing before the cut": (nothing, {"selector": FixedWindows(spans=((0, 1),))}, {}, InvalidCut),
    "too few tokens": (nothing, {}, {"calibration": FEW}, SingularProblem),
    "too short a text": (nothing, {}, {"calibration": ["abc"], "tokenizer": tiny_tokenizer()}, CalibrationError),
    "no tokenizer": (nothing, {}, {"calibration": ["some text"]}, CalibrationError),
    "no such file": (nothing, {}, {"calibration": "gone.txt", "tokenizer": tiny_tokenizer()}, CalibrationError),
    "a plugin class": (nothing, {"hooks": [Listening]}, {}, PluginError),
    **{
        f"an error in {hook}": (nothing, {"hooks": [Raising(f"billhook_{hook}")]}, {}, RuntimeError)
        for hook in (
            "after_calibration",
            "before_prune",
            "before_cut",
            "after_estimate",
            "after_cut",
            "after_prune",
            "on_progress",
        )
    },
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_does_not_change_the_model_that_was_handed_in(case: str) -> None:
    prepare, options, call, error = CASES[case]
    dense = model().train()
    prepare(dense)
    before = Snapshot(dense)
    with pytest.raises(error):
        Pruner.following("replaceme-ls", **options).prune(
            dense, **{"calibration": TOKENS, "budget": Budget(layers=2), **call}
        )
    before.assert_unchanged()


def test_a_map_that_cannot_be_folded_is_refused_and_changes_nothing() -> None:
    dense = tiny_model(num_hidden_layers=LAYERS, mlp_bias=False)
    before = Snapshot(dense)
    with pytest.raises(CannotMerge, match="The map has a bias"):
        Pruner.following("replaceme-ls", selector=TWO_WINDOWS, estimator=Biased()).prune(
            dense, calibration=TOKENS, budget=THREE
        )
    before.assert_unchanged()


def test_a_family_that_cannot_be_folded_is_refused_before_data_are_collected() -> None:
    listening = Listening()
    dense = tiny_model("gemma2", num_hidden_layers=LAYERS)
    with pytest.raises(CannotMerge, match=r"post_feedforward_layernorm.*'insert'"):
        Pruner.following("replaceme-ls", selector=TWO_WINDOWS, hooks=[listening]).prune(
            dense, calibration=TOKENS, budget=THREE
        )
    assert not any(stage == "estimating" for stage, _, _ in listening.progress)


def test_a_cut_at_the_beginning_can_be_made_but_not_repaired() -> None:
    first = FixedWindows(spans=((0, 1),))
    result = Pruner.following("replaceme-ls", selector=first, estimator=Identity()).prune(
        model(), calibration=TOKENS, budget=Budget(layers=1)
    )
    assert result.model.config.num_hidden_layers == LAYERS - 1
    with pytest.raises(InvalidCut, match=r"no layer survives before it\. Keep layer 0, or use .* 'identity'"):
        Pruner.following("replaceme-ls", selector=first).prune(model(), calibration=TOKENS, budget=Budget(layers=1))


def test_the_files_of_the_cache_are_gone_after_a_run_and_after_an_error(tmp_path: Any) -> None:
    cache = CacheBudget(host=0, disk=2**24, folder=tmp_path)
    pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, estimator="cosine", cache=cache)
    pruner.prune(model(), calibration=TOKENS, budget=THREE)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="stopped in billhook_after_estimate"):
        attrs.evolve(pruner, hooks=[Raising("billhook_after_estimate")]).prune(
            model(), calibration=TOKENS, budget=THREE
        )
    assert list(tmp_path.iterdir()) == []
