"""Wrong descriptions of families, each caught by the law that it breaks."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled
from transformers import PreTrainedConfig

from billhook import Adapter, Branch, DeclaredAdapter
from billhook.testing import check_adapter
from billhook_adapters.falcon import FALCON
from billhook_adapters.gpt2 import GPT2
from billhook_adapters.gpt_neox import GPT_NEOX
from billhook_adapters.llama import ATTENTION, GRANITE, LLAMA, MISTRAL, MLP
from billhook_adapters.opt import OPT
from billhook_adapters.phi3 import PHI3
from billhook_adapters.post_norm import GEMMA2, OLMO2


def _same(adapter: Adapter) -> Adapter:
    return adapter


def llama(**changes: Any) -> Adapter:
    return attrs.evolve(LLAMA, **changes)


@attrs.frozen(kw_only=True)
class ByTypeAlone(DeclaredAdapter):
    """Asks the config for its type, which is another one once layers differ."""

    def why_not_narrowable(self, config: PreTrainedConfig, branch: Branch) -> str | None:
        return "its heads are of one piece." if config.model_type == "llama" and branch == "attention" else None


WRONG: dict[str, tuple[str, Adapter, str]] = {
    "no model types": ("names", llama(model_types=()), "serves no model type"),
    "unknown config argument value": (
        "tiny",
        llama(tiny_config={**LLAMA.tiny_config, "hidden_size": 15}),
        "its tiny_config builds no model",
    ),
    "large": ("tiny", llama(tiny_config={**LLAMA.tiny_config, "vocab_size": 20000}), "parameters; make it smaller"),
    "shallow": ("tiny", llama(tiny_config={**LLAMA.tiny_config, "num_hidden_layers": 2}), "at least 4 layers"),
    "branches mixed up": (
        "contributions",
        llama(attention=MLP, mlp=ATTENTION),
        "is not what the attention of layer 0 adds",
    ),
    "a rule for the unpruned alone": (
        "uneven",
        ByTypeAlone(**{field.name: getattr(LLAMA, field.name) for field in attrs.fields(DeclaredAdapter)}),
        "its attention cannot be narrowed .its heads are of one piece.., and after a pruning .None. is said",
    ),
    "reader instead of writer": (
        "parts",
        llama(mlp=attrs.evolve(MLP, writer="mlp.up_proj")),
        "the mlp writer's outputs are not d_model many",
    ),
    "module without a weight": (
        "parts",
        llama(mlp=attrs.evolve(MLP, writer="mlp.act_fn")),
        "the mlp writer is no linear layer",
    ),
    "output leads nowhere": ("parts", llama(mlp=attrs.evolve(MLP, norm_after="mlp.no_norm")), "output.. leads nowhere"),
    "scale forgotten": (
        "contributions",
        attrs.evolve(GRANITE, scale_attribute=None),
        "the output noted is not what the attention of",
    ),
    "tuple forgotten": ("streams", attrs.evolve(FALCON, returns_tuple=False), "falcon adapter"),
    "tuple invented": ("streams", llama(returns_tuple=True), "llama adapter"),
    "norm forgotten": ("contributions", attrs.evolve(GEMMA2, mlp=MLP), "is not what the mlp of layer 0 adds"),
    "wrong norm": (
        "contributions",
        attrs.evolve(GEMMA2, mlp=attrs.evolve(MLP, norm_after="pre_feedforward_layernorm")),
        "is not what the mlp of layer 0 adds|what neither of its outputs wrote",
    ),
    "reader of the same width": (
        "contributions",
        attrs.evolve(GPT2, attention=attrs.evolve(GPT2.attention, writer="mlp.c_proj")),
        "adds to the stream what neither of its outputs wrote",
    ),
    "module of the other branch": (
        "cuts",
        llama(attention=attrs.evolve(ATTENTION, module="mlp")),
        "with attention 0 made.*it does not run",
    ),
    "norm of the other branch": (
        "cuts",
        llama(attention=attrs.evolve(ATTENTION, alone=MLP.alone)),
        "with attention 0 made.*it is not the zeroed model",
    ),
    "module without the weights": (
        "cuts",
        attrs.evolve(MISTRAL, mlp=attrs.evolve(MLP, module="mlp.act_fn")),
        "with mlp 0 made.* 16 parameters went, and the branch has at least 1152",
    ),
    "module too small": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, module="mlp.down_proj")),
        "with mlp 0 made.*it does not run",
    ),
    "fused reader taken for one block": (
        "cuts",
        attrs.evolve(PHI3, mlp=attrs.evolve(PHI3.mlp, stacked={})),
        "with mlp 1 to 12 channels made.*it is not the zeroed model",
    ),
    "fused heads taken for one block": (
        "cuts",
        attrs.evolve(GPT2, attention=attrs.evolve(GPT2.attention, stacked={})),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "interleaved heads taken for blocks": (
        "cuts",
        attrs.evolve(
            GPT_NEOX,
            attention=attrs.evolve(
                GPT_NEOX.attention, stacked={"attention.query_key_value": ("query", "key", "value")}
            ),
        ),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "count forgotten": (
        "cuts",
        attrs.evolve(OPT, attention=attrs.evolve(OPT.attention, counts={})),
        "with attention 1 to 2 key-value groups made.*it is not the zeroed model",
    ),
    "count of something that is not there": (
        "cuts",
        attrs.evolve(OPT, attention=attrs.evolve(OPT.attention, counts={"self_attn.heads": "heads"})),
        "its attention layout counts self_attn.heads, which is not there",
    ),
    "reader forgotten": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, readers=("mlp.gate_proj",))),
        "with mlp 1 to 12 channels made.*it does not run",
    ),
    "reader leads nowhere": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, readers=("mlp.gate", "mlp.up"))),
        "the path mlp.gate in its mlp layout leads nowhere",
    ),
    "blocks of something that is no reader": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, stacked={"mlp.gate_up_proj": ("gate", "up")})),
        r"its mlp layout stacks \['mlp.gate_up_proj'\], which are none of its readers",
    ),
    "sizes of something else": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, sizes={"channels": "hidden_size"})),
        "the mlp of layer 0 has 24 units, and the config says hidden_size=16",
    ),
    "sizes forgotten": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, sizes={})),
        "the sizes of its mlp do not say which config attribute holds the channels",
    ),
    "groups forgotten": (
        "cuts",
        llama(attention=attrs.evolve(ATTENTION, sizes={"heads": "num_attention_heads"})),
        "with attention 1 to 2 key-value groups made",
    ),
    "norm over all heads forgotten": (
        "cuts",
        attrs.evolve(OLMO2, attention=attrs.evolve(OLMO2.attention, rigid=())),
        "with attention 1 to 1 key-value groups made.*it does not run",
    ),
    "as many key-value heads as heads": (
        "tiny",
        llama(tiny_config={**LLAMA.tiny_config, "num_key_value_heads": 4}),
        "4 key-value heads for 4 heads, which hides how queries are grouped; give it fewer",
    ),
    "layers elsewhere": ("tiny", llama(layer_list="model.blocks"), "has no attribute .blocks"),
    "model type that nobody knows": ("tiny", llama(model_types=("lama",)), "its tiny_config builds no model"),
    "norm stays with a lost attention": (
        "cuts",
        llama(attention=attrs.evolve(ATTENTION, alone=())),
        "with attention 1 made.*input_layernorm of layer 1 does nothing any more .* in the 'alone' of the attention",
    ),
    "norm stays with a lost MLP": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, alone=())),
        "with mlp 1 made.*post_attention_layernorm of layer 1 does nothing any more .* in the 'alone' of the mlp",
    ),
    "Falcon's norm stays": (
        "cuts",
        attrs.evolve(FALCON, mlp=attrs.evolve(FALCON.mlp, alone=())),
        "ln_mlp of layer 1 does nothing any more",
    ),
    "norms before gemma2's branches stay": (
        "cuts",
        attrs.evolve(GEMMA2, mlp=attrs.evolve(GEMMA2.mlp, alone=())),
        "pre_feedforward_layernorm of layer 1 does nothing any more",
    ),
    "Granite by Llama's description": (
        "variants",
        llama(model_types=("granite",)),
        "with residual_multiplier=0.5.*is not what the attention of layer 0 adds",
    ),
    "a multiplier of 1 hides it": (
        "variants",
        attrs.evolve(GRANITE, scale_attribute=None, tiny_config={**GRANITE.tiny_config, "residual_multiplier": 1.0}),
        "with residual_multiplier=0.5.*is not what the attention of layer 0 adds",
    ),
    "ALiBi is not refused": (
        "variants",
        attrs.evolve(FALCON, attention=attrs.evolve(FALCON.attention, rigid=FALCON.attention.rigid[:1])),
        "with alibi=True with attention 1 to 1 key-value groups made.*it does not run",
    ),
    "older layout is not refused": (
        "variants",
        attrs.evolve(FALCON, attention=attrs.evolve(FALCON.attention, rigid=FALCON.attention.rigid[1:])),
        "with new_decoder_architecture=False",
    ),
    "norm after the addition is not refused": (
        "variants",
        attrs.evolve(OPT, refused=()),
        "with do_layer_norm_before=False.*",
    ),
    "scale by layer number is not refused": (
        "variants",
        attrs.evolve(GPT2, refused=GPT2.refused[1:]),
        "with scale_attn_by_inverse_layer_idx=True",
    ),
    "queries and keys change places": (
        "cuts",
        attrs.evolve(
            PHI3,
            attention=attrs.evolve(PHI3.attention, stacked={"self_attn.qkv_proj": ("k", "q", "v")}),
        ),
        "with attention 1 to 1 key-value groups made|with attention 1 to 2 key-value groups made",
    ),
    "counts of the other size": (
        "cuts",
        attrs.evolve(OPT, attention=attrs.evolve(OPT.attention, counts={"self_attn.num_heads": "width"})),
        "with attention 1 to 2 key-value groups made",
    ),
    "norm that is not there": (
        "cuts",
        llama(mlp=attrs.evolve(MLP, alone=("post_mlp_norm",))),
        "the path post_mlp_norm in its mlp layout leads nowhere",
    ),
}

MUTANTS = [Mutant(name, partial(_same, adapter), law, says) for name, (law, adapter, says) in WRONG.items()]


@pytest.mark.parametrize("mutant", sampled(MUTANTS))
def test_a_wrong_description_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_adapter)


@pytest.mark.mutants
def test_an_adapter_need_not_be_installed_to_be_checked() -> None:
    check_adapter(llama(name="my-llama"))


@pytest.mark.mutants
def test_blocks_of_one_size_may_be_named_in_any_order() -> None:
    stacked = {path: blocks[::-1] for path, blocks in PHI3.mlp.stacked.items()}
    check_adapter(attrs.evolve(PHI3, mlp=attrs.evolve(PHI3.mlp, stacked=stacked)))
