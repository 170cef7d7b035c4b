"""Models whose layers differ from one another, for any family that transformers has.

A copy of this file stands beside the checkpoints that need it, so it imports torch and transformers and nothing of
billhook. Such a model is the family's own class: it is built with equal layers, then the branches that are gone are
taken out, the others get their sizes, and added linear layers are put in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.models.auto import modeling_auto
from transformers.pytorch_utils import Conv1D

from .configuration_billhook import PREFIX, global_value, heterogeneous_config, overrides

Layout = Mapping[str, Any]
"""Where the parts of a branch are: ``module``, ``writer``, ``readers``, ``alone``, ``sizes``, ``counts``."""


class SkippedAttention(nn.Module):
    """Stands where an attention branch was: adds nothing to the stream, writes nothing to the cache.

    Attributes:
        empty_slot: the slot of the cache that nobody fills in its stead, or None if it is not known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.empty_slot: int | None = None

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """Zeros in the shape of the stream, and no attention weights."""
        _let_crop(kwargs.get("cache", kwargs.get("past_key_values")), self.empty_slot)
        return _zeros(args[0] if args else kwargs["hidden_states"]), None


class SkippedMLP(nn.Module):
    """Stands where an MLP was: adds nothing to the stream."""

    def forward(self, stream: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Zeros in the shape of the stream."""
        return _zeros(stream)


def _let_crop(cache: Any, slot: int | None) -> None:
    """Make the empty ``slot`` of a cache one that can be cropped, as assisted decoding does after every guess.

    transformers' sliding slots look at their keys then, and an empty one has none. Those without a window look first.
    """
    slots: list[Any] = getattr(cache, "layers", [])
    there = None if slot is None or slot >= len(slots) else slots[slot]
    if slot is not None and type(there) is DynamicSlidingWindowLayer and not there.is_initialized:
        slots[slot] = DynamicLayer()


def _zeros(stream: Tensor) -> Tensor:
    """A product: a norm before it that serves nothing else (Falcon's) then gets a gradient, if one of zeros.

    Distributed training demands one of every parameter.
    """
    return stream * 0


class Mapped(nn.Module):
    """``linear(module(...))``: a linear layer behind a module that stays as it is.

    Attributes of the wrapped module stay reachable, since models look at them (a norm's ``weight``, say).
    """

    def __init__(self, module: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.module = module
        self.linear = linear

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The module's output, mapped: same shape."""
        return cast(Tensor, self.linear(self.module(*args, **kwargs)))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class Overridden:
    """A config of which some values are others; everything else, also later, is the config's own."""

    def __init__(self, config: PreTrainedConfig, values: dict[str, Any]) -> None:
        self._config, self._values = config, values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copying asks for these before there is a config to ask
        return self._values[name] if name in self._values else getattr(self._config, name)


def set_module(layer: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` at the dotted ``path``."""
    parent, _, name = path.rpartition(".")
    setattr(layer.get_submodule(parent), name, module)


def skip_branch(layer: nn.Module, branch: str, layout: Layout) -> None:
    """Take the branch ``attention`` or ``mlp`` out of a layer, in place."""
    set_module(layer, layout["module"], SkippedAttention() if branch == "attention" else SkippedMLP())
    there = dict(layer.named_modules())
    for path in layout["alone"]:
        if path in there:  # Falcon has a norm for each branch, or one for both, by its config
            set_module(layer, path, nn.Identity())


def set_counts(layer: nn.Module, layout: Layout, sizes: Mapping[str, int]) -> None:
    """Bring the attributes that hold a size of the branch up to date."""
    for path, size in layout["counts"].items():
        owner, _, name = path.rpartition(".")
        if owner.endswith(".config"):
            module: Any = layer.get_submodule(owner.removesuffix(".config"))
            present = module.config
            inner = present._config if isinstance(present, Overridden) else present
            module.config = Overridden(inner, {name: sizes[size]})
        else:
            setattr(layer.get_submodule(owner), name, sizes[size])


def cache_slots(kinds: Sequence[str], attends: Sequence[bool]) -> list[int | None]:
    """Which slot of the key-value cache the attention of each layer uses; None for layers without attention.

    A cache has one slot a layer, of that layer's kind (full or sliding), and transformers asks slot 0 how long the
    sequence is. Each attention takes the first free slot of its own kind, so slot 0 is in use whenever an attention
    of its kind is left.

    Raises:
        ValueError: none is left, so that positions would be counted wrongly while decoding.
    """
    free = {kind: [slot for slot, other in enumerate(kinds) if other == kind] for kind in kinds}
    slots = [free[kind].pop(0) if there else None for kind, there in zip(kinds, attends, strict=True)]
    if 0 not in slots:
        raise ValueError(
            f"no attention of the first layer's kind ({kinds[0]}) would be left, and the length of the key-value cache "
            f"is read from its slot"
        )
    return slots


def number_layers(layers: Sequence[nn.Module], attention: str, config: PreTrainedConfig) -> None:
    """Give every layer its number and every attention (at the path ``attention``) its slot in the cache."""
    attends = [not isinstance(layer.get_submodule(attention), SkippedAttention) for layer in layers]
    kinds = list(getattr(config, "layer_types", None) or ["attention"] * len(layers))
    slots = cache_slots(kinds[: len(layers)], attends)
    empty = [slot for slot in range(len(layers)) if slot not in slots]
    for position, (layer, slot) in enumerate(zip(layers, slots, strict=True)):
        for module in layer.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                cast(Any, module).layer_idx = position
        branch = cast(Any, layer.get_submodule(attention))
        if slot is not None:
            branch.layer_idx = slot
        else:
            branch.empty_slot = empty.pop()


class HeterogeneousLayers:
    """Comes before a model class of transformers: builds it, then makes its layers what the config says."""

    config: PreTrainedConfig

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        inside = _BUILDING in vars(config)  # a classifier's base comes from AutoModel, and is of this kind as well
        with _as_if_equal(config):
            super().__init__(config, *args, **kwargs)  # type: ignore[call-arg] # of the model class that comes after
        if not inside:
            _shape_layers(cast(PreTrainedModel, self), config)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As transformers does it; the config then names the family's other classes as well."""
        family = type(self.config).__mro__[1]
        for auto, classes in _AUTO.items():
            if family in classes:
                names = dict(getattr(self.config, "auto_map", None) or {})
                names[auto.__name__] = f"{__name__.rpartition('.')[2]}.{_name_of(classes[family], family)}"
                cast(Any, self.config).auto_map = names
        super().save_pretrained(*args, **kwargs)  # type: ignore[misc] # of the model class that comes after


_AUTO: Mapping[Any, Mapping[Any, Any]] = {
    AutoModel: modeling_auto.MODEL_MAPPING,
    AutoModelForCausalLM: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSequenceClassification: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForTokenClassification: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
}
"""The Auto classes by which models of the type ``billhook`` load, and what each knows."""


def heterogeneous_model(base: type[PreTrainedModel], family: type[PreTrainedConfig]) -> type[PreTrainedModel]:
    """The model class ``base`` with configs of the class ``family``, for layers that differ; saving it saves this file.

    The Auto classes know it from then on, and its family's other classes, of which some make use of one another.
    """
    if (base, family) not in _MADE:
        _register_family(family)
    if (base, family) not in _MADE:  # a class that no Auto class of ours names
        _MADE[base, family] = _make(base, family, AutoModelForCausalLM)
    return _MADE[base, family]


def _register_family(family: type[PreTrainedConfig]) -> None:
    config_class = heterogeneous_config(family)
    for auto, classes in _AUTO.items():
        if family not in classes:
            continue
        base = classes[family]
        if (base, family) not in _MADE:
            _MADE[base, family] = _make(base, family, auto)
        auto.register(config_class, _MADE[base, family], exist_ok=True)


_MADE: dict[tuple[type[PreTrainedModel], type[PreTrainedConfig]], type[PreTrainedModel]] = {}
"""Classes made so far, by the family's own; a family may use the class of another one, with a config of its own."""


def _make(base: type[PreTrainedModel], family: type[PreTrainedConfig], auto: Any) -> type[PreTrainedModel]:
    return type(
        _name_of(base, family),
        (HeterogeneousLayers, base),
        {
            "config_class": heterogeneous_config(family),
            "_auto_class": auto.__name__,
            "__module__": __name__,
            "__doc__": f"{base.__name__} whose layers may differ from one another.",
        },
    )


def _name_of(base: type[PreTrainedModel], family: type[PreTrainedConfig]) -> str:
    """``BillhookLlamaForCausalLM``; ``BillhookLlamaForCausalLM_of_ExaoneConfig`` where the config is no Llama's."""
    own = base.config_class is family
    return f"{PREFIX}{base.__name__}" if own else f"{PREFIX}{base.__name__}{_OF}{family.__name__}"


_OF = "_of_"


def __getattr__(name: str) -> type[PreTrainedModel]:
    """``BillhookLlamaForCausalLM`` and so on: the names that stand in ``auto_map``, as :func:`_name_of` makes them."""
    model, _, config = name.removeprefix(PREFIX).partition(_OF)
    base = getattr(transformers, model, None) if name.startswith(PREFIX) else None
    if not (isinstance(base, type) and issubclass(base, PreTrainedModel)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    family = getattr(transformers, config, None) if config else base.config_class
    if not (isinstance(family, type) and issubclass(family, PreTrainedConfig)):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return heterogeneous_model(base, family)


@contextmanager
def _as_if_equal(config: PreTrainedConfig) -> Iterator[None]:
    """Inside, the sizes of ``config`` are those of an untouched layer; newer transformers refuse to tell otherwise."""
    hidden = {name: vars(config).pop(name) for name in ("_heterogeneity_spec",) if name in vars(config)}
    if _BUILDING in vars(config):
        yield
        return
    vars(config)[_BUILDING] = True
    try:
        yield
    finally:
        del vars(config)[_BUILDING]
        vars(config).update(hidden)


_BUILDING = "_billhook_building"
"""Stands in a config while a model is built from it."""


def _shape_layers(model: PreTrainedModel, config: PreTrainedConfig) -> None:
    layout = cast(Any, config).billhook["layout"]
    layers = cast(nn.ModuleList, model.get_submodule(_path_in(model, layout["layers"])))
    by_layer = overrides(config)
    for position, layer in enumerate(layers):
        for branch in ("attention", "mlp"):
            _shape_branch(layer, branch, layout[branch], by_layer.get(position, {}), config)
    for number, paths in cast(Any, config).billhook.get("inserted", {}).items():
        for path, with_bias in paths.items():
            _insert(layers[int(number)], path, with_bias, config)
    number_layers(list(layers), layout["attention"]["module"], config)


def _path_in(model: PreTrainedModel, path: str) -> str:
    """A path from a model with a head, seen from ``model``, which may be the part of it without one."""
    prefix = f"{model.base_model_prefix}."
    return path if hasattr(model, model.base_model_prefix) else path.removeprefix(prefix)


def _shape_branch(
    layer: nn.Module, branch: str, layout: Layout, values: Mapping[str, Any], config: PreTrainedConfig
) -> None:
    if branch in values.get("skip", ()):
        skip_branch(layer, branch, layout)
        return
    names: Mapping[str, str] = layout["sizes"]
    if not any(name in values for name in names.values()):
        return  # as the family's class builds it, be it by a rule that its config does not tell
    writer = layer.get_submodule(layout["writer"])
    if branch == "mlp":
        width = values.get(names["channels"], _d_in(writer))
        _resize(layer, layout, width, _d_in(writer))
        return
    full = {size: global_value(config, name) for size, name in names.items()}
    sizes = {size: values.get(name, full[size]) for size, name in names.items()}
    _resize(layer, layout, sizes["heads"], full["heads"])
    sizes["width"] = _d_in(layer.get_submodule(layout["writer"]))
    set_counts(layer, layout, sizes)


def _resize(layer: nn.Module, layout: Layout, kept: int, of: int) -> None:
    """Make the readers' outputs and the writer's input ``kept / of`` as wide; every block shrinks alike."""
    if kept == of:
        return
    for path in layout["readers"]:
        old = layer.get_submodule(path)
        set_module(layer, path, _linear_like(old, _d_in(old), _d_out(old) * kept // of))
    for path in layout.get("per_head", ()):  # which checkpoints of older versions do not say
        _shorten(layer, path, kept, of)
    old = layer.get_submodule(layout["writer"])
    set_module(layer, layout["writer"], _linear_like(old, _d_in(old) * kept // of, _d_out(old)))


def _shorten(layer: nn.Module, path: str, kept: int, of: int) -> None:
    """Make a parameter ``kept / of`` as long, if the layer has it."""
    place, _, name = path.rpartition(".")
    owner = dict(layer.named_modules()).get(place)
    old = getattr(owner, name, None)
    if owner is not None and isinstance(old, Tensor):
        setattr(owner, name, nn.Parameter(torch.empty_like(old[: len(old) * kept // of])))


def _linear_like(old: nn.Module, d_in: int, d_out: int) -> nn.Module:
    weight = cast(Tensor, old.weight)
    if isinstance(old, Conv1D):
        with torch.device(weight.device):
            return Conv1D(d_out, d_in).to(weight.dtype)
    bias = getattr(old, "bias", None) is not None
    # the class itself where a family has its own (Falcon): its forward may round differently
    return type(old)(d_in, d_out, bias=bias, device=weight.device, dtype=weight.dtype)


def _insert(layer: nn.Module, path: str, with_bias: bool, config: PreTrainedConfig) -> None:
    old = layer.get_submodule(path)
    like = next(old.parameters())
    d_model = cast(Any, config).hidden_size
    linear = nn.Linear(d_model, d_model, bias=with_bias, device=like.device, dtype=like.dtype)
    set_module(layer, path, Mapped(old, linear))


def _d_in(linear: nn.Module) -> int:
    shape = cast(Tensor, linear.weight).shape
    return int(shape[0] if isinstance(linear, Conv1D) else shape[1])


def _d_out(linear: nn.Module) -> int:
    shape = cast(Tensor, linear.weight).shape
    return int(shape[1] if isinstance(linear, Conv1D) else shape[0])
