"""Tiny models, tokenizers and tokens: everything a test needs to run the real code in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from billhook.data.tokens import Tokens
from billhook.model.adapter import Adapter
from billhook.model.layer_lists import LISTS
from billhook.model.view import ModelView
from billhook.plugins.registry import default_registry

WEIGHT_STD = 0.3
"""Spread of random weights. Models initialise with 0.02, which makes every layer nearly the identity: a test on
such a model passes whatever the code does to the layers."""

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Ids 0 to 3 of the tiny tokenizer; the built-in tiny configs agree with the first three."""

CHARACTERS = " etaoinshrdlcumwfgypbvkxjqz.,\n'-:;!?\"()0123456789/_*+=<>[]{}#@%&$|~^`\\\t"
"""Lower-case characters, the most needed first: a small vocabulary takes as many as fit."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def tiny_model(
    given: Adapter | str = "llama",
    *,
    model_type: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **config_overrides: Any,
) -> PreTrainedModel:
    """A random model of a few thousand parameters, in eval mode, whose layers really do something.

    Args:
        given: an adapter, or a ``model_type`` that an installed adapter serves.
        model_type: which of the adapter's model types is built; the first if None.
        seed: of the weights; the global generator is left alone.
        dtype: of the weights. Other dtypes are the float32 model rounded.
        config_overrides: config arguments that replace or extend the adapter's ``tiny_config``.
    """
    adapter, model_type = _resolve(given, model_type)
    names: dict[str, str] = CONFIG_MAPPING[model_type].attribute_map
    overrides = {names.get(key, key): value for key, value in config_overrides.items()}
    config = AutoConfig.for_model(model_type, **_with_lists({**adapter.tiny_config, **overrides}, overrides, names))
    with torch.random.fork_rng(devices=[]):
        model = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, dtype=torch.float32))
    _randomise(model, seed)
    nn.Module.to(model, dtype=dtype)  # in place; transformers' own override hides the signature
    model.eval()
    return model


def is_buildable(adapter: Adapter) -> bool:
    """Whether the installed transformers has all of its model types; a declaration may be ahead of it."""
    return all(model_type in CONFIG_MAPPING for model_type in adapter.model_types)


def _with_lists(arguments: dict[str, Any], overrides: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Arguments whose lists with an entry a layer go on, in their order, as far as there are layers."""
    name = names.get("num_hidden_layers", "num_hidden_layers")
    count = arguments.get(name)
    if name not in overrides or not isinstance(count, int):
        return arguments
    lists = {key: value for key, value in arguments.items() if key in LISTS and key not in overrides and value}
    return arguments | {key: [value[n % len(value)] for n in range(count)] for key, value in lists.items()}


def tiny_view(given: Adapter | str = "llama", **options: Any) -> ModelView:
    """:func:`tiny_model` with these options, seen through its adapter."""
    return ModelView(tiny_model(given, **options), _resolve(given)[0])


def tiny_tokenizer(vocab_size: int = 64) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters, in lower case, with a chat template; every id is below ``vocab_size``."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = [*SPECIAL, *CHARACTERS][:vocab_size]
    if len(vocabulary) <= len(SPECIAL):
        raise ValueError(f"A tiny tokenizer needs more than {len(SPECIAL)} ids; got vocab_size={vocab_size}.")
    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(vocabulary)}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        unk_token=SPECIAL[3],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def save_tiny_checkpoint(path: str | Path, given: Adapter | str = "llama", **options: Any) -> Path:
    """Write :func:`tiny_model` and a tokenizer that fits it to the folder ``path``; returns the folder."""
    model = tiny_model(given, **options)
    model.save_pretrained(path)
    tiny_tokenizer(model.config.vocab_size).save_pretrained(path)
    return Path(path)


def tiny_tokens(
    rows: int = 4,
    seq: int = 12,
    *,
    vocab_size: int = 64,
    seed: int = 0,
    padding: Literal["none", "left", "right", "both"] = "none",
) -> Tokens:
    """Random tokens ``[rows, seq]``, none of them special.

    With ``padding`` the first row is whole and the others have random lengths of at least 2; ``both`` pads them on
    the left and on the right in turns. Ids under padding are random too, so that a test notices when they count.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL), vocab_size, (rows, seq), generator=generator)
    keep = torch.ones_like(ids, dtype=torch.bool)
    for row in range(1, rows if padding != "none" else 1):
        length = int(torch.randint(2, seq + 1, (1,), generator=generator))
        left = padding == "left" or (padding == "both" and row % 2 == 1)
        keep[row] = torch.arange(seq) >= seq - length if left else torch.arange(seq) < length
    return Tokens(ids=ids, keep=keep, source="random tokens")


def _resolve(given: Adapter | str, model_type: str | None = None) -> tuple[Adapter, str]:
    if isinstance(given, str):
        return default_registry().adapter_for(given), given
    return given, model_type or given.model_types[0]


@torch.no_grad()
def _randomise(model: PreTrainedModel, seed: int) -> None:
    """Matrices anew; vectors (biases, norms) by addition, since they start at 0 or 1 for a reason."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = WEIGHT_STD * torch.randn(parameter.shape, generator=generator)
        fresh: Tensor = noise if parameter.ndim > 1 else parameter + noise
        parameter.copy_(fresh)
