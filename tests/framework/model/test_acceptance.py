"""Models that are handed in: what is not, or not only, what its class builds from its config is refused before work."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped] # it ships no types
from tests.families import by_name
from torch import nn
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel, PreTrainedModel

import billhook
from billhook import Budget, Pruner
from billhook.errors import BillhookError, UnsupportedArchitecture, UnusableModel
from billhook.model.acceptance import refuse_changed, refuse_unprunable
from billhook.model.adapter import Adapter
from billhook.testing import tiny_model, tiny_tokens


def pruned(model: Any, **options: Any) -> PreTrainedModel:
    chosen = {"estimator": "least-squares", "selector": "cosine", "merger": "fold", **options}
    return Pruner(**chosen).prune(model, calibration=tiny_tokens(8), budget=Budget(layers=1)).model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=tiny_tokens(2).ids, use_cache=False).logits
    return found


@by_name
def test_models_of_all_families_pass(adapter: Adapter) -> None:
    for model_type in adapter.model_types:
        model = tiny_model(adapter, model_type=model_type)
        refuse_unprunable(model)
        refuse_changed(model)


@pytest.mark.parametrize("model_class", [LlamaModel, LlamaForSequenceClassification])
def test_a_model_that_writes_no_text_is_refused_by_its_class(model_class: Any) -> None:
    config = copy.deepcopy(tiny_model().config)
    config.pad_token_id = 0
    model = model_class(config).eval()
    said = rf"The model is a {model_class.__name__}; only causal language models can be"
    with pytest.raises(UnsupportedArchitecture, match=said):
        pruned(model)
    with pytest.raises(UnsupportedArchitecture, match=said):
        billhook.evaluate(model, None, tiny_tokens())


def test_a_wrapper_around_a_model_is_refused_and_says_where_the_model_is() -> None:
    with pytest.raises(UnsupportedArchitecture, match=r"got OptimizedModule\. Hand over .*model\._orig_mod"):
        pruned(torch.compile(tiny_model(), backend="eager"))


class LowRank(nn.Module):
    """A linear layer with an adapter beside it, as the libraries for LoRA build them."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """The layer's output and the adapter's."""
        found: torch.Tensor = self.base_layer(stream) + self.lora_B(self.lora_A(stream))
        return found


def test_lora_layers_are_to_be_merged_first() -> None:
    model: Any = tiny_model()
    model.model.layers[1].self_attn.q_proj = LowRank(model.model.layers[1].self_attn.q_proj)
    with pytest.raises(UnusableModel, match=r"has LoRA adapters: merge them first .*merge_and_unload"):
        pruned(model)


class Scaled(nn.Module):
    """A linear layer whose inputs an adapter scales, where peft has such classes."""

    __module__ = "peft.tuners.ia3.layer"

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.ia3_l = nn.Parameter(torch.ones(base.in_features))


def test_other_adapters_are_called_by_their_name() -> None:
    model: Any = tiny_model()
    model.model.layers[1].self_attn.q_proj = Scaled(model.model.layers[1].self_attn.q_proj)
    with pytest.raises(UnusableModel, match=r"has IA3 adapters: merge them first .*merge_and_unload"):
        pruned(model)


class Prompted(nn.Module):
    """A model before whose tokens learnt ones stand, as peft wraps them."""

    __module__ = "peft.peft_model"

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.model = tiny_model()
        self.config = self.model.config
        self.active_peft_config = types.SimpleNamespace(is_prompt_learning=True, peft_type=f"PeftType.{kind}")

    def get_input_embeddings(self) -> nn.Module:
        """Those of the model."""
        return self.model.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        """What the model gives; a prefix would add to its cache only."""
        return self.model(**inputs)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"])
def test_learnt_prompts_cannot_be_merged_and_are_told_otherwise(kind: str) -> None:
    model: Any = Prompted(kind)
    with pytest.raises(UnusableModel, match=rf"prompts that peft has learnt \({kind}\).*model\.get_base_model\(\)"):
        pruned(model)
    if kind == "PREFIX_TUNING":
        assert billhook.evaluate(model, None, tiny_tokens()) == billhook.evaluate(model.model, None, tiny_tokens())
        return
    with pytest.raises(UnusableModel, match=rf"prompts that peft has learnt \({kind}\)"):
        billhook.evaluate(model, None, tiny_tokens())


def _masked(model: Any) -> None:
    from torch.nn.utils import prune

    prune.l1_unstructured(model.model.layers[1].mlp.down_proj, "weight", amount=0.5)


def _narrow(model: Any) -> None:
    model.model.layers[1].mlp.up_proj.weight = nn.Parameter(torch.ones(4, 16))


def _shorten(model: Any) -> None:
    model.model.layers = model.model.layers[:3]


def _tuples(model: Any) -> None:
    model.config.return_dict = False


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_masked, r"has a weight model\.layers\.1\.mlp\.down_proj\.weight_\w+ that a LlamaForCausalLM of its config"),
        (
            _narrow,
            r"model\.layers\.1\.mlp\.up_proj\.weight is \[4, 16\], and \[24, 16\] by the model's config",
        ),
        (_shorten, r"has no weight model\.layers\.3\..*num_hidden_layers"),
        (_tuples, r"returns tuples.*set model\.config\.return_dict = True"),
    ],
)
def test_a_model_that_no_checkpoint_of_its_class_could_hold_is_refused(
    change: Callable[[Any], None], said: str
) -> None:
    model = tiny_model()
    change(model)
    with pytest.raises(UnusableModel, match=said):
        pruned(model)


def test_a_wrapped_forward_is_refused_since_copies_would_compute_the_dense_model() -> None:
    model = tiny_model()
    model.forward = functools.wraps(model.forward)(lambda *args, inner=model.forward, **kw: inner(*args, **kw))
    with pytest.raises(UnusableModel, match=r"The forward was replaced on the object.*del model\.forward"):
        pruned(model)
    del model.forward
    inner: Any = model.model.layers[2].mlp
    inner.forward = lambda stream: stream
    with pytest.raises(UnusableModel, match=r"The forward of model\.layers\.2\.mlp was replaced"):
        pruned(model)


class Watch(ModelHook):  # type: ignore[misc] # accelerate ships no types
    """A hook that changes nothing."""


def _compiled(model: Any) -> None:
    model.forward = torch.compile(model.forward, backend="eager")


def _hooked(model: Any) -> None:
    for module in (model, model.model, *model.model.layers):
        add_hook_to_module(module, Watch())


def _bound(model: Any) -> None:
    norm = model.model.layers[1].input_layernorm
    norm.forward = types.MethodType(type(norm).forward, norm)


@pytest.mark.parametrize("change", [_compiled, _hooked, _bound])
@pytest.mark.parametrize("selector", ["cosine", "sleb"])
def test_what_copies_well_is_pruned_as_without_it(change: Callable[[Any], None], selector: str) -> None:
    model = tiny_model()
    expected = logits(pruned(tiny_model(), selector=selector, estimator="identity"))
    change(model)
    assert torch.equal(logits(pruned(model, selector=selector, estimator="identity")), expected)


def test_every_refusal_is_one_line() -> None:
    for wrong in (
        None,
        "smollm2",
        nn.Linear(2, 2),
        LlamaModel(
            LlamaConfig(
                num_hidden_layers=1,
                hidden_size=8,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=8,
                vocab_size=9,
            )
        ),
    ):
        with pytest.raises(BillhookError, match=r"\A[^\n]+\Z"):
            refuse_unprunable(wrong)
