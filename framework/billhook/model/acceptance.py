"""One look at a model that is handed in, before any work: whether it is what a checkpoint of its class can hold."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from billhook.errors import UnsupportedArchitecture, UnusableModel
from billhook.model.skeleton import skeleton_of

_OTHER_HEADS = (
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
)


def other_head(config: PreTrainedConfig) -> str | None:
    """The class that wrote a checkpoint, if it is one that classifies instead of writing text."""
    names: set[str] = set()
    for mapping in _OTHER_HEADS:
        for found in getattr(modeling_auto, mapping, {}).values():
            names.update(found if isinstance(found, tuple | list) else (found,))
    wrote = getattr(config, "architectures", None)
    known = (name for name in wrote if isinstance(name, str)) if isinstance(wrote, list) else ()
    return next((name for name in known if name in names), None)


def refuse_unprunable(model: object) -> None:
    """Raise :class:`UnsupportedArchitecture` for what is no causal language model of transformers itself."""
    kind = type(model).__name__
    _refuse_prompts(model)
    if _is_of_peft(model):
        raise _adapters(next((kind for kind in map(_adapter_of, _named(model)) if kind), "LoRA"))
    if not isinstance(model, PreTrainedModel):
        inner = next((name for name in ("_orig_mod", "module") if hasattr(model, name)), None)
        way = f" Hand over the model in it: model.{inner}." if inner and isinstance(model, nn.Module) else ""
        raise UnsupportedArchitecture(
            f"The model must be a transformers model, as billhook.load(name) gives; got {kind}.{way}"
        )
    if not _predicts_tokens(model):
        raise UnsupportedArchitecture(f"The model is a {kind}; only causal language models can be pruned.")


def refuse_unmeasurable(model: object) -> None:
    """Raise for a model whose logits are not over its tokens, or not only.

    Raises:
        UnsupportedArchitecture: it is of transformers, and no causal language model.
        UnusableModel: peft puts learnt prompts before its tokens.
    """
    _refuse_prompts(model, measured=True)
    if isinstance(model, PreTrainedModel) and not _predicts_tokens(model):
        raise UnsupportedArchitecture(
            f"The model is a {type(model).__name__}; only causal language models can be measured."
        )


def refuse_changed(model: PreTrainedModel) -> None:
    """Turn away a model that is not, or not only, what its class builds from its config.

    Raises:
        UnusableModel: it has LoRA layers, a ``forward`` of its own that copies would share, a config that keeps
            ``forward`` from returning logits by name, or other weights than its class builds: no checkpoint of the
            class could hold it.
    """
    if found := next((kind for kind in map(_adapter_of, _named(model)) if kind), None):
        raise _adapters(found)
    for name, module in model.named_modules():
        if "forward" in vars(module) and not copies_well(module):
            where = f"of {name} " if name else ""
            raise UnusableModel(
                f"The forward {where}was replaced on the object, by a wrapper that would go on computing the model as "
                f"it is now. Take it away before pruning (del model.{name + '.' if name else ''}forward), and put it "
                f"on the result."
            )
    if getattr(model.config, "return_dict", True) is False:
        raise UnusableModel("The model returns tuples, and no logits by name: set model.config.return_dict = True.")
    _refuse_other_weights(model)


def copies_well(module: nn.Module) -> bool:
    """Whether a copy of a module gets a ``forward`` of its own, where the module has one that is not its class's.

    A method bound to it does (Liger's kernels), and accelerate's hooks do; what torch.compile makes of its class's own
    is put off in copies, see :meth:`billhook.model.view.ModelView.copy`. Other functions are shared by all copies.
    """
    forward: Any = vars(module)["forward"]
    if isinstance(forward, types.MethodType):
        return forward.__self__ is module
    if isinstance(forward, functools.partial):
        return "_hf_hook" in vars(module) and any(given is module for given in forward.args)
    return is_compiled(module)


def is_compiled(module: nn.Module) -> bool:
    """Whether the ``forward`` on a module is what torch.compile made of its class's own."""
    inner = getattr(vars(module).get("forward"), "_torchdynamo_orig_callable", None)
    return isinstance(inner, types.MethodType) and inner.__func__ is type(module).forward


def rebound(module: nn.Module, twin: nn.Module) -> None:
    """Let what hangs on ``twin``, a shallow copy of ``module``, in the place of ``forward`` belong to it, in place."""
    if is_compiled(module):
        del twin.forward
    for name in {"forward", "_old_forward"} & vars(twin).keys():
        present: Any = vars(twin)[name]
        if isinstance(present, types.MethodType) and present.__self__ is module:
            vars(twin)[name] = types.MethodType(present.__func__, twin)
        elif isinstance(present, functools.partial):
            own = tuple(twin if given is module else given for given in present.args)
            vars(twin)[name] = functools.update_wrapper(
                functools.partial(present.func, *own, **present.keywords), present
            )


def _predicts_tokens(model: PreTrainedModel) -> bool:
    for config_class in type(model.config).__mro__:
        if config_class in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
            expected: Any = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
            return isinstance(model, expected)
    return model.get_output_embeddings() is not None


def _is_of_peft(model: object) -> bool:
    return type(model).__module__.partition(".")[0] == "peft"


def _named(model: object) -> Iterator[tuple[str, nn.Module]]:
    return model.named_modules() if isinstance(model, nn.Module) else iter(())


def _adapter_of(named: tuple[str, nn.Module]) -> str | None:
    """The kind of adapter that a module is or has, by its folder in peft (``IA3``), or LoRA."""
    name, module = named
    room = type(module).__module__.split(".")
    if room[:2] == ["peft", "tuners"] and len(room) > 3 and room[2] != "lora":
        return room[2].upper()
    last = name.rpartition(".")[2]
    return "LoRA" if room[:2] == ["peft", "tuners"] or last in ("lora_A", "lora_B", "lora_embedding_A") else None


def _adapters(kind: str) -> UnusableModel:
    return UnusableModel(f"This model has {kind} adapters: merge them first (model = model.merge_and_unload()).")


def _refuse_prompts(model: object, *, measured: bool = False) -> None:
    """Raise :class:`UnusableModel` for a model before whose tokens peft puts learnt ones: no weight can hold them.

    Where it is only ``measured``, a learnt prefix passes: that stands in the cache, and gives no logits of its own.
    """
    given = getattr(model, "active_peft_config", None) if _is_of_peft(model) else None
    if getattr(given, "is_prompt_learning", False):
        kind = str(getattr(given, "peft_type", "")).rpartition(".")[2]
        if measured and kind == "PREFIX_TUNING":
            return
        raise UnusableModel(
            f"This model has prompts that peft has learnt ({kind}), which are no part of its weights. Hand over the "
            f"model without them: model.get_base_model()."
        )


def _refuse_other_weights(model: PreTrainedModel) -> None:
    empty = skeleton_of(model)
    if empty is None:
        return
    kind = type(model).__name__
    ours, theirs = _shapes(model), _shapes(empty)
    for name in _first(ours, theirs):
        raise UnusableModel(
            f"The model has a weight {name} that a {kind} of its config does not have, so no checkpoint could hold it."
        )
    for name in _first(theirs, ours):
        raise UnusableModel(
            f"The model has no weight {name}, which a {kind} of its config has. Make model.config say what the model "
            f"is (num_hidden_layers, for instance)."
        )
    for name, shape in ours.items():
        if shape != theirs[name]:
            raise UnusableModel(
                f"The weight {name} is {list(shape)}, and {list(theirs[name])} by the model's config. Make "
                f"model.config say what the model is."
            )


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _first(these: dict[str, torch.Size], those: dict[str, torch.Size]) -> Iterator[str]:
    return (name for name in these if name not in those)
