"""What a model whose layers differ can do once it is loaded: everything that the family's own models can."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from tests.families import marked
from tests.framework.heterogeneous.uneven import FAMILIES, IDS, logits, reloaded, saved, settled, settled_models
from torch import Tensor, nn
from transformers import ExaoneConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

import billhook.heterogeneous.modeling_billhook as modeling
from billhook import DropBranch
from billhook.heterogeneous.modeling_billhook import Overridden, SkippedAttention, heterogeneous_model
from billhook.model.key_values import read_on
from billhook.testing import tiny_model, tiny_tokenizer

NEW = 6
"""Tokens that are generated."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    """A Llama with one of each kind of cut, from disk. Tests leave it as it is."""
    return saved(settled("llama"), tmp_path_factory.mktemp("llama"))


def generated(model: PreTrainedModel, ids: Tensor = IDS, **options: Any) -> Tensor:
    """Greedy continuations ``[batch, NEW]``."""
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    found: Tensor = cast(Any, model).generate(ids, **{**given, **options})
    return found[:, ids.shape[1] :]


def loss_of(model: PreTrainedModel) -> Tensor:
    """The loss, with the same dropout every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return cast(Tensor, model(input_ids=IDS, labels=IDS, use_cache=False).loss)


# --- decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_it_generates_the_same_without_a_cache_and_with_either_kind(tmp_path: Path, model_type: str) -> None:
    model = settled(model_type)
    fresh = saved(model, tmp_path)
    wanted = generated(model, use_cache=False)
    assert torch.equal(generated(fresh, use_cache=False), wanted)
    assert torch.equal(generated(fresh), wanted)
    assert torch.equal(generated(fresh, cache_implementation="static"), wanted)


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_a_batch_padded_on_the_left_continues_as_its_rows_by_themselves(tmp_path: Path, model_type: str) -> None:
    fresh = saved(settled(model_type), tmp_path)
    lengths = (12, 7, 3)
    keep = torch.stack([torch.arange(12) >= 12 - length for length in lengths])
    together = generated(fresh, IDS, attention_mask=keep.long())
    alone = torch.cat([generated(fresh, row[None, 12 - n :]) for row, n in zip(IDS, lengths, strict=True)])
    assert torch.equal(together, alone)


@given(model=settled_models())
def test_logits_token_by_token_are_those_of_the_whole_row(model: PreTrainedModel) -> None:
    with torch.no_grad():
        whole = model(input_ids=IDS, use_cache=False).logits
        out, cache = read_on(model, IDS[:, :5], None, use_cache=True)
        parts = [out.logits]
        for position in range(5, 12):
            out, cache = read_on(model, IDS[:, position : position + 1], cache, use_cache=True)
            parts.append(out.logits)
    # float32: attention over a cache sums in another order
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))


def test_beams_and_sampling_work(loaded: PreTrainedModel) -> None:
    assert generated(loaded, num_beams=3).shape == (3, NEW)
    assert generated(loaded, do_sample=True).shape == (3, NEW)


# --- loading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_it_loads_in_bfloat16(tmp_path: Path, model_type: str) -> None:
    model = settled(model_type)
    fresh = saved(model, tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in fresh.parameters()} == {torch.bfloat16}
    for parameter in model.parameters():  # not the buffers: rotary frequencies stay in float32
        parameter.data = parameter.data.to(torch.bfloat16)
    assert torch.equal(logits(fresh), logits(model))


@pytest.mark.parametrize("place", [{"": "cpu"}, "auto"], ids=str)
def test_it_loads_with_a_device_map(tmp_path: Path, loaded: PreTrainedModel, place: Any) -> None:
    loaded.save_pretrained(tmp_path)
    fresh = reloaded(tmp_path, device_map=place)
    assert torch.equal(logits(fresh), logits(loaded))
    assert torch.equal(generated(fresh), generated(loaded))


def test_it_can_be_split_into_files(tmp_path: Path, loaded: PreTrainedModel) -> None:
    loaded.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(logits(reloaded(tmp_path)), logits(loaded))


def test_a_copy_and_a_pickle_compute_the_same() -> None:
    model = settled("phi3")  # one of its modules reads sizes from the config while it runs
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert torch.equal(logits(other), logits(model))


def test_a_text_pipeline_is_at_home_in_the_folder(tmp_path: Path, loaded: PreTrainedModel) -> None:
    from transformers import AutoTokenizer, GenerationConfig, pipeline

    loaded.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("hello")["input_ids"] == tiny_tokenizer()("hello")["input_ids"]
    greedy = GenerationConfig(max_new_tokens=3, do_sample=False)
    said: Any = pipeline("text-generation", model=str(tmp_path))("hello", generation_config=greedy)
    assert said[0]["generated_text"].startswith("hello")


# --- training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_every_parameter_gets_a_gradient_and_a_step_changes_the_loss(tmp_path: Path, model_type: str) -> None:
    fresh = saved(settled(model_type), tmp_path).train()
    before = loss_of(fresh)
    before.backward()
    assert [name for name, parameter in fresh.named_parameters() if parameter.grad is None] == []
    torch.optim.SGD(fresh.parameters(), lr=1e-3).step()
    assert loss_of(fresh) < before


@pytest.mark.parametrize("model_type", marked(FAMILIES))
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path, model_type: str) -> None:
    fresh = saved(settled(model_type), tmp_path).train()
    plain = dict(gradients(fresh))
    # the newer name where there is one: the older then warns
    cast(Any, getattr(fresh, "activation_checkpointing_enable", None) or fresh.gradient_checkpointing_enable)()
    for name, gradient in gradients(fresh):
        # a layer is run twice, by the same code in the same order
        assert torch.equal(gradient, plain[name]), name


def gradients(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    model.zero_grad()
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        yield name, parameter.grad.clone()


class LowRank(nn.Module):
    """A linear layer that stays as it is, and a trainable map of rank 2 beside it: what LoRA puts in its place."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.base = linear
        self.down = nn.Linear(linear.in_features, 2, bias=False)
        self.up = nn.Linear(2, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inner: Tensor) -> Tensor:
        """As the linear layer, plus what was learnt."""
        return cast(Tensor, self.base(inner) + self.up(self.down(inner)))


def test_adapters_can_be_put_around_its_linear_layers(tmp_path: Path, loaded: PreTrainedModel) -> None:
    model = copy.deepcopy(loaded).requires_grad_(False)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and "layers" in name]
    for name in linears:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, LowRank(cast(nn.Linear, model.get_submodule(name))))
    assert torch.equal(logits(model), logits(loaded))
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = loss_of(model)
    before.backward()
    assert len(learnt) == 2 * len(linears)
    assert all(parameter.grad is not None for parameter in learnt)
    torch.optim.SGD(learnt, lr=1e-2).step()
    assert loss_of(model) < before


# --- parts -------------------------------------------------------------------------------------------------------


def test_the_class_is_the_familys_and_can_be_found_by_its_name() -> None:
    found = modeling.BillhookLlamaForCausalLM
    family = type(tiny_model("llama"))
    assert found is heterogeneous_model(family, LlamaConfig)
    assert issubclass(found, family)
    assert found.__name__ == "BillhookLlamaForCausalLM"


def test_a_family_with_a_config_of_its_own_may_use_the_class_of_another_one() -> None:
    found, own = modeling.BillhookLlamaForCausalLM_of_ExaoneConfig, modeling.BillhookLlamaForCausalLM
    assert found.__name__ == "BillhookLlamaForCausalLM_of_ExaoneConfig"
    assert issubclass(found, LlamaForCausalLM)
    assert [cast(Any, made.config_class).__mro__[1] for made in (found, own)] == [ExaoneConfig, LlamaConfig]


@pytest.mark.parametrize(
    "name",
    ["BillhookLlama", "BillhookLlamaConfig", "LlamaForCausalLM", "BillhookTensor", "BillhookLlamaForCausalLM_of_Llama"],
)
def test_other_names_are_attribute_errors(name: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(modeling, name)


def test_a_skipped_attention_adds_nothing_and_keeps_nothing() -> None:
    model = settled("llama", DropBranch(1, "attention"))
    assert isinstance(model.get_submodule("model.layers.1.self_attn"), SkippedAttention)
    with torch.no_grad():
        _, cache = read_on(model, IDS, None, use_cache=True)
    lengths = [cache.get_seq_length(slot) for slot in range(4)]
    assert sorted(lengths) == [0, 12, 12, 12]
    assert lengths[0] == 12


def test_an_overridden_config_follows_the_config_in_all_else() -> None:
    config = tiny_model("llama").config
    over = Overridden(config, {"num_attention_heads": 1})
    config.hidden_act = "relu"
    assert (over.num_attention_heads, over.hidden_act) == (1, "relu")
    assert config.num_attention_heads == 4
    with pytest.raises(AttributeError, match="no_such_field"):
        _ = over.no_such_field
