"""The model that is handed in is not written to; who does it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from billhook import (
    Budget,
    Cut,
    DropLayers,
    Estimator,
    LinearMap,
    Merger,
    ModelView,
    Objective,
    Predictions,
    Pruner,
    PruningState,
    Regression,
    RepairSite,
    Selector,
    hookimpl,
)
from billhook.errors import PluginError
from billhook.testing import tiny_model, tiny_tokens
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.sequence import Sequence, Stage

TWO = Budget(layers=2)


def prune(model: PreTrainedModel, **options: Any) -> PreTrainedModel:
    Pruner.following("replaceme-ls", **options).prune(model, calibration=tiny_tokens(), budget=TWO)
    return model


def weight_of(model: PreTrainedModel) -> Tensor:
    return model.get_parameter("model.layers.0.mlp.down_proj.weight")


def in_place(model: PreTrainedModel) -> None:
    with torch.no_grad():
        weight_of(model)[0, 0] = 7


def through_data(model: PreTrainedModel) -> None:
    weight_of(model).data.mul_(1.5)


def another_tensor(model: PreTrainedModel) -> None:
    weight_of(model).data = weight_of(model) * 2


def a_buffer(model: PreTrainedModel) -> None:
    model.model.rotary_emb.inv_freq.mul_(2)


def its_config(model: PreTrainedModel) -> None:
    model.config.rms_norm_eps = 0.5


def a_module(model: PreTrainedModel) -> None:
    model.model.layers[0].mlp.act_fn = torch.nn.ReLU()


Write = Callable[[PreTrainedModel], None]

WAYS: dict[Write, str] = {
    in_place: "its weight model.layers.0.mlp.down_proj.weight",
    through_data: "its weight model.layers.0.mlp.down_proj.weight",
    another_tensor: "its weight model.layers.0.mlp.down_proj.weight",
    a_buffer: "its weight model.rotary_emb.inv_freq",
    its_config: "'rms_norm_eps' of its config",
    a_module: "its modules",
}

EVERY_WAY = pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)


@attrs.frozen(eq=False)
class Hooked:
    """Writes when it is called."""

    write: Write
    model: PreTrainedModel

    @hookimpl
    def billhook_after_cut(self) -> None:
        self.write(self.model)


@EVERY_WAY
def test_a_hook_that_writes_is_named(write: Write) -> None:
    model = tiny_model("llama")
    with pytest.raises(PluginError) as caught:
        prune(model, hooks=[Hooked(write, model)])
    text = str(caught.value)
    assert "written to by billhook_after_cut of the plugin Hooked#" in text
    assert f": {WAYS[write]} is not as it was. Load the model again" in text
    assert "at the cut layers" in caught.value.__notes__[0]


def test_a_hook_that_is_called_often_is_named() -> None:
    class Watching:
        @hookimpl
        def billhook_on_progress(self, stage: str) -> None:
            in_place(model)

    model = tiny_model("llama")
    with pytest.raises(PluginError, match="by billhook_on_progress of the plugin Watching#"):
        prune(model, hooks=[Watching()])


def test_the_model_in_the_state_shares_its_weights() -> None:
    class Halving:
        @hookimpl
        def billhook_after_cut(self, state: PruningState) -> None:
            next(state.model.model.parameters()).data.mul_(0.5)

    with pytest.raises(PluginError, match=r"by billhook_after_cut of the plugin Halving#.*: its weight model\.embed"):
        prune(tiny_model("llama"), hooks=[Halving()])


@attrs.frozen(eq=False)
class Choosing(Selector):
    """Writes, then drops a layer."""

    write: Write
    model: PreTrainedModel

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        """One span."""
        self.write(self.model)
        yield DropLayers(2, 4)


@EVERY_WAY
def test_a_selector_that_writes_is_named(write: Write) -> None:
    model = tiny_model("llama")
    with pytest.raises(PluginError, match=r"written to by the selector \(.*\.Choosing\): ") as caught:
        prune(model, selector=Choosing(write, model))
    assert "while selecting" in caught.value.__notes__[0]


def test_a_selector_within_a_sequence_is_named() -> None:
    model = tiny_model("llama")
    stages = (Stage(selector=Choosing(in_place, model)),)
    with pytest.raises(PluginError, match=r"written to by the selector \(.*\.Choosing\): "):
        prune(model, selector=Sequence(stages=stages))


@attrs.frozen(eq=False)
class Estimating(Estimator):
    """Least squares, once it has written into the model."""

    model: PreTrainedModel

    def estimate(self, regression: Regression) -> LinearMap | None:
        """Write first."""
        in_place(self.model)
        return LeastSquares().estimate(regression)


@attrs.frozen(eq=False)
class Merging(Merger):
    """Fold, once it has written into the model."""

    model: PreTrainedModel

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """As Fold."""
        Fold().check_site(view, site)

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        """Write first."""
        in_place(self.model)
        Fold().put(view, site, linear_map)


@attrs.frozen(eq=False)
class Scoring(Objective):
    """Perplexity, once it has written into the model."""

    model: PreTrainedModel

    def loss(self, predictions: Predictions) -> float:
        """Write first."""
        in_place(self.model)
        return Perplexity().loss(predictions)


@pytest.mark.parametrize("cls", [Estimating, Merging, Scoring])
def test_every_other_strategy_that_writes_is_named(cls: type[Estimating | Merging | Scoring]) -> None:
    model = tiny_model("llama")
    role = cls.__mro__[1].__name__.lower()
    with pytest.raises(PluginError, match=rf"written to by the {role} \(.*\.{cls.__name__}\): its weight"):
        prune(model, **{role: cls(model)})


def test_what_else_is_raised_says_it_too() -> None:
    class Falls:
        @hookimpl
        def billhook_after_cut(self, state: PruningState) -> None:
            in_place(state.dense.model)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        prune(tiny_model("llama"), hooks=[Falls()])
    assert any("was written to by something: its weight model.layers.0" in note for note in caught.value.__notes__)


def test_modes_and_hooks_are_put_back_with_a_warning(logged: list[str]) -> None:
    class Leaves:
        @hookimpl
        def billhook_after_cut(self) -> None:
            model.train()
            model.requires_grad_(False)
            model.lm_head.register_forward_hook(lambda *given: None)

    model = tiny_model("llama").eval()
    prune(model, hooks=[Leaves()])
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not model.lm_head._forward_hooks
    (text,) = [text for text in logged if "put back" in text]
    assert text.startswith(
        "Something changed the train mode, requires_grad, hooks of its modules of the model handed in"
    )


def test_built_ins_write_nothing(logged: list[str]) -> None:
    before = {name: p.clone() for name, p in tiny_model("llama").named_parameters()}
    after = prune(tiny_model("llama"), objective="perplexity")
    assert all(before[name].equal(p) for name, p in after.named_parameters())
    assert not any("put back" in text for text in logged)
