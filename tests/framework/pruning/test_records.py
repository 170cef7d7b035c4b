"""The papers of a run."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from transformers import PreTrainedModel

from billhook import (
    Budget,
    Calibration,
    DropLayers,
    Pruner,
)
from billhook.model.weights import fingerprint
from billhook.plans.plan import ModelIdentity
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.selectors.fixed_windows import FixedWindows

LAYERS = 6


TOKENS = tiny_tokens(8, 12, padding="both")


TWO_WINDOWS = FixedWindows(spans=((1, 2), (3, 5)))


THREE = Budget(layers=3)


def model() -> PreTrainedModel:
    return tiny_model(num_hidden_layers=LAYERS)


def test_the_plan_says_what_was_done() -> None:
    dense = model()
    dense.config.name_or_path = "someone/tiny"
    calibration = Calibration(samples=4, seqlen=16, seed=3)
    pruner = Pruner.following("replaceme-ls", selector=TWO_WINDOWS, estimator=Ridge(strength=0.1), merger="fold")
    plan = pruner.prune(dense, tiny_tokenizer(), calibration=calibration, budget=THREE).plan
    assert plan.cuts == (DropLayers(1, 2), DropLayers(3, 5))
    assert plan.model == ModelIdentity(
        model_type="llama",
        layer_count=LAYERS,
        parameter_count=dense.num_parameters(),
        name="someone/tiny",
        dtype="float32",
        weights=fingerprint(dense),
    )
    assert plan.tokens_per_batch == 4096
    assert plan.versions == {name: version(name) for name in ("billhook", "torch", "transformers")}
    assert plan.budget == THREE
    assert [str(spec) for spec in (plan.selector, plan.estimator, plan.merger)] == [
        "fixed-windows(spans=[[1, 2], [3, 5]])",
        "ridge(strength=0.1)",
        "fold",
    ]
    assert plan.calibration == calibration.record(calibration.tokenize(tiny_tokenizer()))


def test_a_local_path_does_not_get_into_the_plan(tmp_path: Any) -> None:
    dense = model()
    dense.config.name_or_path = str(tmp_path / "my-model")
    plan = (
        Pruner.following("replaceme-ls", estimator="identity")
        .prune(dense, calibration=TOKENS, budget=Budget(layers=1))
        .plan
    )
    assert plan.model.name == "my-model"
