"""apply: the same plan on the same data gives the same weights, bit for bit; anything else is refused."""

from __future__ import annotations

import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from tests.framework.plugins.plugin_files import install

from billhook import (
    Budget,
    CacheBudget,
    Calibration,
    DropLayers,
    Estimator,
    LinearMap,
    Plan,
    Pruner,
    PruneResult,
    Registry,
    Regression,
    Repair,
    apply,
    hookimpl,
)
from billhook.errors import CalibrationError, InvalidPlan, UnknownStrategy
from billhook.plans.strategy_spec import StrategySpec
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.selectors.window_distance import WindowDistance

LAYERS = 6
TOKENS = tiny_tokens(8, 12, padding="both")
TOKENIZER = tiny_tokenizer()
TEXT = "the quick brown fox jumps over the lazy dog. " * 9
BUDGET = Budget(layers=3)
PRUNER = Pruner.following("replaceme-ls", selector=WindowDistance(windows=2, touching=False), estimator="ridge")


def model(**config: Any) -> Any:
    return tiny_model(**{"num_hidden_layers": LAYERS, **config})


def assert_same_weights(one: PruneResult, other: PruneResult) -> None:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("estimator", ["least-squares", "cosine", "identity", Ridge(strength=0.3, toward="zero")])
@pytest.mark.parametrize("merger", ["fold", "insert"])
def test_the_same_plan_on_the_same_data_gives_the_same_weights(estimator: Any, merger: str) -> None:
    pruner = attrs.evolve(PRUNER, estimator=estimator, merger=merger)
    given = pruner.prune(model(), calibration=TOKENS, budget=BUDGET)
    again = apply(Plan.from_json(given.plan.to_json()), model(), calibration=TOKENS)
    assert_same_weights(given, again)
    assert again.plan == given.plan


def test_the_data_that_the_plan_names_are_taken_if_none_are_given() -> None:
    calibration = Calibration(samples=6, seqlen=20, seed=4)
    given = PRUNER.prune(model(), TOKENIZER, calibration=calibration, budget=BUDGET)
    again = apply(given.plan, model(), TOKENIZER)
    assert_same_weights(given, again)
    assert again.plan == given.plan
    assert again.tokenizer is TOKENIZER


@pytest.mark.parametrize("as_string", [True, False])
def test_a_file_is_recorded_the_same_way_every_time(tmp_path: Path, as_string: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    calibration = Calibration(source=str(path) if as_string else path, samples=6, seqlen=20)
    given = PRUNER.prune(model(), TOKENIZER, calibration=calibration, budget=BUDGET)
    assert apply(given.plan, model(), TOKENIZER, calibration=calibration).plan == given.plan
    assert apply(given.plan, model(), TOKENIZER).plan == given.plan


def test_strings_have_to_be_given_again() -> None:
    calibration = Calibration(source=[TEXT], samples=6, seqlen=20)
    given = PRUNER.prune(model(), TOKENIZER, calibration=calibration, budget=BUDGET)
    assert apply(given.plan, model(), TOKENIZER, calibration=calibration).plan == given.plan
    with pytest.raises(CalibrationError, match="'1 documents'"):
        apply(given.plan, model(), TOKENIZER)


def test_a_plan_may_be_written_by_hand() -> None:
    given = PRUNER.prune(model(), calibration=TOKENS, budget=BUDGET)
    again = apply(attrs.evolve(given.plan, cuts=(DropLayers(2, 4),)), model(), calibration=TOKENS)
    assert again.plan.cuts == (DropLayers(2, 4),)
    assert again.model.config.num_hidden_layers == LAYERS - 2


PLAN = PRUNER.prune(model(), calibration=TOKENS, budget=BUDGET).plan


@pytest.mark.parametrize(
    "other",
    [
        {"num_hidden_layers": LAYERS + 1},
        {"intermediate_size": 20},
        {"given": "mistral"},
    ],
    ids=["depth", "width", "family"],
)
def test_a_plan_for_another_model_is_refused_with_both_described(other: dict[str, Any]) -> None:
    with pytest.raises(InvalidPlan, match=rf"for a llama model with {LAYERS} layers and .* parameters; this one is a"):
        apply(PLAN, model(**other), calibration=TOKENS)


def test_other_data_are_refused_with_the_way_out() -> None:
    with pytest.raises(CalibrationError, match=r"not the tokens the plan was made with.*any_calibration=True"):
        apply(PLAN, model(), calibration=tiny_tokens(8, 12, seed=1))


def test_other_data_can_be_allowed_and_are_then_recorded() -> None:
    other = tiny_tokens(8, 12, seed=1)
    result = apply(PLAN, model(), calibration=other, any_calibration=True)
    assert result.plan.cuts == PLAN.cuts
    assert result.plan.selector == PLAN.selector
    assert result.plan.calibration.fingerprint == other.fingerprint != PLAN.calibration.fingerprint


@attrs.frozen
class Halving(Estimator):
    """An estimator that is not registered."""

    def estimate(self, regression: Regression) -> LinearMap:
        """Half of what least squares would find on the diagonal."""
        moments = regression.moments()
        return LinearMap((0.5 * moments.xr.diagonal() / moments.xx.diagonal()).diag())


def test_an_unregistered_strategy_must_be_handed_over() -> None:
    pruner = attrs.evolve(PRUNER, estimator=Halving())
    given = pruner.prune(model(), calibration=TOKENS, budget=BUDGET)
    with pytest.raises(InvalidPlan, match=r"Halving\), which was given as an object.*pruner=Pruner"):
        apply(given.plan, model(), calibration=TOKENS)
    again = apply(given.plan, model(), calibration=TOKENS, pruner=pruner)
    assert_same_weights(given, again)
    assert again.plan == given.plan


@pytest.mark.parametrize("role", ["estimator", "merger"])
def test_a_strategy_of_a_plugin_that_is_not_installed_is_unknown_by_name(role: str) -> None:
    changes: dict[str, Any] = {role: attrs.evolve(getattr(PLAN, role), name="gone:away")}
    with pytest.raises(UnknownStrategy, match=f"No {role} is named 'gone:away'"):
        apply(attrs.evolve(PLAN, **changes), model(), calibration=TOKENS)


def test_a_selector_that_is_not_installed_does_not_matter() -> None:
    plan = attrs.evolve(PLAN, selector=attrs.evolve(PLAN.selector, name="gone:away"))
    assert apply(plan, model(), calibration=TOKENS).plan.selector.name == "gone:away"


def test_the_pruner_brings_its_hooks() -> None:
    seen: list[DropLayers] = []

    class Listening:
        @hookimpl
        def billhook_after_cut(self, cut: DropLayers) -> None:
            seen.append(cut)

    apply(PLAN, model(), calibration=TOKENS, pruner=attrs.evolve(PRUNER, hooks=[Listening()]))
    assert tuple(seen) == PLAN.cuts


def test_the_model_that_was_handed_in_is_not_changed() -> None:
    given = model()
    before = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    apply(PLAN, given, calibration=TOKENS)
    assert given.config.num_hidden_layers == LAYERS
    assert all(tensor.equal(before[name]) for name, tensor in given.state_dict().items())


def test_something_else_than_a_model_is_refused() -> None:
    wrong: Any = "smollm2"
    with pytest.raises(TypeError, match="must be a transformers model"):
        apply(PLAN, wrong, calibration=TOKENS)


class Watching:
    """A hook that does nothing."""

    @hookimpl
    def billhook_after_cut(self, cut: DropLayers) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    "given", [Pruner(), Pruner(hooks=[Watching()]), Pruner(cache=CacheBudget(host=0))], ids=["bare", "hooks", "cache"]
)
def test_what_the_pruner_was_not_given_is_the_plans(given: Pruner, logged: list[str]) -> None:
    maker = Pruner(
        selector="sleb",
        estimator=Ridge(strength=0.3),
        merger="insert",
        objective="kl",
        repair=Repair(weights="stream", held_out=0.25),
        tokens_per_batch=24,
    )
    made = maker.prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    logged.clear()  # the map that is inserted makes a layer too little, which is told
    again = apply(Plan.from_json(made.plan.to_json()), model(), calibration=TOKENS, pruner=given)
    assert_same_weights(made, again)
    assert again.plan == made.plan
    assert again.metrics["objective_after"] == made.metrics["objective_after"]
    assert logged == []


def test_what_the_pruner_was_given_takes_the_place_of_the_plans() -> None:
    given = Pruner(merger="insert", objective="kl", repair=Repair(held_out=0.5), tokens_per_batch=12)
    again = apply(PLAN, model(), calibration=TOKENS, pruner=given).plan
    assert [str(spec) for spec in (again.estimator, again.merger, again.objective)] == ["ridge", "insert", "kl"]
    assert (again.repair, again.tokens_per_batch) == (Repair(held_out=0.5), 12)


def test_an_objective_alone_is_not_measured_where_its_data_are_nowhere_to_be_had(logged: list[str]) -> None:
    made = Pruner.following("sleb").prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    assert made.plan.objective is not None
    again = apply(made.plan, model())
    assert again.plan == made.plan
    assert "objective_after" not in again.metrics
    assert_same_weights(made, again)
    (said,) = logged
    assert said.startswith("The plan's objective is not measured, and nothing else needs data: ")


GROWING = """
    import attrs, torch
    from billhook import Estimator, LinearMap, hookimpl

    @attrs.frozen
    class Grown(Estimator):
        factor: float = {factor}

        def estimate(self, regression):
            return LinearMap(self.factor * torch.eye(regression.d_in))

    @hookimpl
    def billhook_register_estimators(register):
        register("grown", Grown)

    @hookimpl
    def billhook_after_cut(cut):
        pass
"""


def registry_with(folder: Path, monkeypatch: pytest.MonkeyPatch, factor: float, version: str) -> Registry:
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    source = textwrap.dedent(GROWING).format(factor=factor)
    ours = [entry for entry in metadata.entry_points(group="billhook") if entry.dist and entry.dist.name == "billhook"]
    return Registry.from_entry_points([*ours, *install(folder, "growing", {"grown": source}, version=version)])


def test_a_plan_outlives_other_defaults_and_says_that_the_plugin_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    old, new = (registry_with(tmp_path / v, monkeypatch, f, v) for f, v in ((0.5, "1.0"), (0.9, "1.1")))
    made = Pruner(estimator="grown", selector="sleb", merger="fold", repair=Repair(), registry=old).prune(
        model(), calibration=TOKENS, budget=Budget(layers=1)
    )
    assert made.plan.estimator.options == {"factor": 0.5}
    assert made.plan.versions["growing"] == "1.0"
    again = apply(Plan.from_json(made.plan.to_json()), model(), calibration=TOKENS, pruner=Pruner(registry=new))
    assert_same_weights(made, again)
    assert again.plan.versions["growing"] == "1.1"
    assert again.plan != made.plan  # who knows what else has changed
    assert logged == ["The plan was made with other versions: growing 1.0, here 1.1. The weights may differ."]


def test_hooks_of_a_plugin_that_were_heard_are_in_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = registry_with(tmp_path / "here", monkeypatch, 0.5, "2.0")
    made = attrs.evolve(PRUNER, registry=registry).prune(model(), calibration=TOKENS, budget=Budget(layers=1))
    assert made.plan.versions["growing"] == "2.0"


def test_a_plugin_that_is_gone_is_told_and_the_plan_keeps_its_version(logged: list[str]) -> None:
    plan = attrs.evolve(PLAN, versions={**PLAN.versions, "gone": "3.2"})
    assert apply(plan, model(), calibration=TOKENS).plan == plan
    assert logged == [
        "The plan was made with other versions: gone 3.2, which is not installed here. The weights may differ."
    ]


def test_another_dtype_and_other_weights_are_told(logged: list[str]) -> None:
    apply(PLAN, model(dtype=torch.float64), calibration=TOKENS)
    apply(PLAN, model(seed=3), calibration=TOKENS)
    assert logged == [
        "The plan was made for a model with weights in float32, here float64. The repairs will differ.",
        "The plan was made for a model with other weights. The repairs will differ.",
    ]


def test_options_that_an_old_plan_does_not_hold_are_todays_and_are_told(logged: list[str]) -> None:
    old = attrs.evolve(PLAN, estimator=StrategySpec(name="billhook:ridge", options={"strength": 0.01}), schema=1)
    again = apply(old, model(), calibration=TOKENS)
    assert again.plan.estimator == PLAN.estimator
    assert logged == [
        "The plan does not say all options; those of today are taken: ridge(toward='present', bias=False)."
    ]


def test_sums_in_sixteen_bits_come_again_whatever_the_size_of_a_batch(logged: list[str]) -> None:
    wide: dict[str, Any] = {"hidden_size": 256, "dtype": torch.bfloat16}
    data = tiny_tokens(24, 32)
    pruner = Pruner.following("replaceme-ls", tokens_per_batch=96)
    made = pruner.prune(model(**wide), calibration=data, budget=Budget(layers=1))
    again = apply(Plan.from_json(made.plan.to_json()), model(**wide), calibration=data)
    assert again.plan == made.plan
    assert again.plan.tokens_per_batch == 96
    assert_same_weights(made, again)
